"""Ordered draws without replacement: fact sheet vector TV14 and tests 1 and 2 of §8."""

import itertools
import math

import numpy as np
import pytest
import torch

from al_lab.acquisition.plackett_luce import entropy_proxy, gumbel_noise, log_prob, top

S = torch.tensor([2.0, 1.0, 0.0, -1.0], dtype=torch.float64)
VALUES = np.array([1.0, 2.0, 3.0, 4.0])
PAIRS = list(itertools.permutations(range(4), 2))


def test_tv14_log_probabilities():
    assert float(log_prob(S, np.array([0, 1]))) == pytest.approx(-0.8477957, abs=1e-6)
    assert float(log_prob(S, np.array([1, 0]))) == pytest.approx(-1.6100357, abs=1e-6)
    assert sum(float(log_prob(S, np.array(pair)).exp()) for pair in PAIRS) == pytest.approx(1, abs=1e-12)


def test_tv14_gradient():
    s = S.clone().requires_grad_()
    log_prob(s, np.array([0, 1])).backward()
    np.testing.assert_allclose(s.grad, [0.356086, 0.097876, -0.331873, -0.122089], atol=1e-6)


def test_tv14_exact_policy_gradient():
    # The mean of the estimator over all 12 ordered draws, weighted by how likely they are.
    s = S.clone().requires_grad_()
    expected = sum(VALUES[list(pair)].sum() * log_prob(s, np.array(pair)).exp() for pair in PAIRS)
    expected.backward()
    assert expected.item() == pytest.approx(3.5541588, abs=1e-6)
    np.testing.assert_allclose(s.grad, [-0.185631, -0.210401, 0.210352, 0.185680], atol=1e-6)


def test_tv14_noise_decides():
    assert top(S.numpy(), 2, np.array([0.1, 1.5, 0.2, 2.2])).tolist() == [1, 0]


def test_tv14_inclusion_frequencies():
    generator = np.random.default_rng(0)
    draws = 100_000
    noisy = S.numpy() + gumbel_noise(4 * draws, generator).reshape(draws, 4)
    count = np.zeros(4)
    np.add.at(count, np.argsort(-noisy, axis=1)[:, :2], 1)
    np.testing.assert_allclose(count / draws, [0.926592, 0.695700, 0.274666, 0.103042], atol=0.005)
    first = [tuple(top(S.numpy(), 2, n - S.numpy()).tolist()) for n in noisy[:50]]
    assert first == [tuple(row) for row in np.argsort(-noisy[:50], axis=1)[:, :2].tolist()]


def closed_form_gradient(s: np.ndarray, picks: np.ndarray) -> np.ndarray:
    weight, rest, inverse = np.exp(s), np.exp(s).sum(), 0.0
    until = np.zeros(len(s))
    for p in picks:
        inverse += 1 / rest
        until[p] = inverse
        rest -= weight[p]
    left = np.setdiff1d(np.arange(len(s)), picks)
    until[left] = inverse
    return np.isin(np.arange(len(s)), picks) - weight * until


@pytest.mark.parametrize("budget", [1, 10, 50])
def test_gradient_equals_the_closed_form_and_finite_differences(budget):
    generator = np.random.default_rng(budget)
    s = torch.from_numpy(generator.normal(size=50) * 2).requires_grad_()
    picks = top(s.detach().numpy(), budget, gumbel_noise(50, generator))
    assert len(set(picks.tolist())) == budget
    (gradient,) = torch.autograd.grad(log_prob(s, picks), s)
    np.testing.assert_allclose(gradient, closed_form_gradient(s.detach().numpy(), picks), atol=1e-10)
    assert torch.autograd.gradcheck(lambda x: log_prob(x, picks), (s,))


def test_scores_beyond_the_reach_of_exp():
    s = torch.tensor([2000.0, 0.0, -2000.0], requires_grad=True)  # float32, exp overflows
    value = log_prob(s, np.array([1, 0]))
    value.backward()
    assert float(value) == pytest.approx(-2000)
    np.testing.assert_allclose(s.grad, [-1, 1, 0], atol=1e-6)  # pick 1 left the mass at 0; the second pick was certain


def test_top_is_the_mode_and_ties_go_by_position():
    assert top(np.array([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist() == [1, 3, 2]
    assert top(np.zeros(4), 2).tolist() == [0, 1]
    assert top(np.array([1.0, 2.0]), 5).tolist() == [1, 0]
    assert top(np.zeros(0), 3).tolist() == []


def test_scores_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="nan at position 1 of 3"):
        top(np.array([0.0, np.nan, 1.0]), 1)


def test_entropy_proxy_of_a_uniform_policy():
    uniform = float(log_prob(torch.zeros(1000), np.arange(5)))
    assert entropy_proxy(uniform, 5) == pytest.approx(math.log(1000), abs=0.01)
