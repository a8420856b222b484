"""CDAL's mixtures and its greedy choice: numbers of the fact sheet, and brute force."""

import numpy as np
import pytest
import torch

from al_lab.acquisition.diversity.mixture_greedy import SMALLEST, MixtureDistances, greedy
from al_lab.acquisition.diversity.mixtures import class_mixtures, mixture

A = [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2]]
B = [[0.1, 0.8, 0.1], [0.2, 0.6, 0.2]]
C = [[0.34, 0.33, 0.33]]


def mix(rows):
    return mixture(torch.tensor(rows, dtype=torch.float64)).numpy()


def brute(a, b):
    a, b = np.maximum(a, SMALLEST), np.maximum(b, SMALLEST)
    return 0.5 * ((a - b) * (np.log(a) - np.log(b))).sum(-1)


def test_mixtures_and_divergences_are_the_sheets():
    m = np.stack([mix(A), mix(B), mix(C)])
    np.testing.assert_allclose(m[0], [0.614887, 0.223409, 0.161704], atol=1e-6)
    np.testing.assert_allclose(m[1], [0.159792, 0.680417, 0.159792], atol=1e-6)
    np.testing.assert_allclose(m[2], C[0], atol=1e-12)
    J = MixtureDistances(m).to([0, 1, 2])
    np.testing.assert_allclose([J[0, 1], J[0, 2], J[1, 2]], [0.561132, 0.162249, 0.256538], atol=1e-6)
    assert J.mean() == pytest.approx(0.217760, abs=1e-6)


def test_a_mixture_of_logits_is_the_sheets():
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
    np.testing.assert_allclose(mixture(logits.softmax(-1)), [0.400331, 0.364662, 0.235007], atol=1e-6)


def test_nothing_seen_is_uniform_and_nothing_unsure_is_the_mean():
    np.testing.assert_allclose(mixture(torch.zeros(0, 4)), [0.25] * 4)
    np.testing.assert_allclose(mixture(torch.eye(4)[:2]), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(class_mixtures(torch.eye(3)[[0, 2]]), [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert not class_mixtures(torch.zeros(0, 3)).any()


def test_the_greedy_order_is_the_sheets():
    m = np.array([[0.7, 0.2, 0.1], [0.65, 0.25, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [1 / 3] * 3, [0.05, 0.05, 0.9]])
    J = MixtureDistances(m)
    np.testing.assert_allclose(J.to([0])[1:, 0], [0.007431, 0.999661, 0.761131, 0.310540, 1.840556], atol=1e-6)
    picked = greedy(J, 4, [0])
    assert picked.order.tolist() == [5, 2, 4, 3]
    np.testing.assert_allclose(picked.distance, [1.840556, 0.999661, 0.310540, 0.146482], atol=1e-6)
    assert picked.radius == pytest.approx(0.007431, abs=1e-6)


def test_by_class_the_mean_over_common_classes_is_the_sheets():
    rows = [
        torch.tensor([[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], dtype=torch.float64),
        torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2]], dtype=torch.float64),
        torch.tensor([[0.1, 0.1, 0.8]], dtype=torch.float64),
    ]
    m = np.stack([class_mixtures(r).numpy() for r in rows])
    np.testing.assert_allclose(brute(m[0, :2], m[1, :2]), [0.026299, 0.018802], atol=1e-6)
    J = MixtureDistances(m).to([0, 1, 2])
    assert J[0, 1] == pytest.approx(0.022551, abs=1e-6)  # the sum would be .045101
    assert J[0, 2] == J[2, 1] == 0  # no class in common


@pytest.mark.parametrize("by_class", [False, True])
def test_the_greedy_choice_is_that_of_the_whole_matrix(by_class):
    rng = np.random.default_rng(0)
    m = rng.dirichlet(np.full(6, 0.3), (200, 3) if by_class else 200)
    if by_class:
        m *= rng.random((200, 3, 1)) > 0.4
    J = brute(m[:, None], m[None])
    if by_class:
        both = (m.sum(-1) > 0)[:, None] & (m.sum(-1) > 0)
        J = (J * both).sum(-1) / np.maximum(both.sum(-1), 1)
    radius, want = J[:, [3, 50]].min(1), []
    radius[[3, 50]] = -np.inf
    for _ in range(30):
        want.append(int(radius.argmax()))
        radius = np.minimum(radius, J[:, want[-1]])
        radius[want[-1]] = -np.inf
    assert greedy(MixtureDistances(m), 30, [3, 50]).order.tolist() == want


def test_no_more_are_picked_than_there_are_and_none_near_another():
    m = np.random.default_rng(1).dirichlet([1, 1, 1], 6)
    assert sorted(greedy(MixtureDistances(m), 99, [2]).order.tolist()) == [0, 1, 3, 4, 5]
    apart = greedy(MixtureDistances(m), 99, [], near=lambda n: np.array([n, n ^ 1]))
    assert len(apart.order) == 3 and len(set(apart.order // 2)) == 3 and apart.distance[0] == np.inf
