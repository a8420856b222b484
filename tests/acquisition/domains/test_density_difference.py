"""D2ADA's formulas: the sheet's vectors (V1 to V5), and that its round robin ends."""

import numpy as np
import pytest

from al_lab.acquisition.domains.density_difference import (
    class_turns,
    density_difference,
    density_share,
    num_components,
    round_robin,
)


def with_moments(mean, covariance):
    """Four points with exactly this mean and (biased) covariance."""
    root = np.linalg.cholesky(np.asarray(covariance, float))
    return np.asarray(mean) + np.sqrt(2) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) @ root.T


def test_v1_budgets():
    share = [density_share(n) for n in range(6)]
    assert share == [2, 1, 0.5, 0.25, 0.125, 0.0625]
    assert [29 * s for s in share] == [58, 29, 14.5, 7.25, 3.625, 1.8125]
    assert [29 * (1 - s) for s in share] == [-29, 0, 14.5, 21.75, 25.375, 27.1875]


def test_v2_log_densities_of_one_gaussian_each():
    source, target = with_moments((0, 0), [[1, 0.2], [0.2, 0.5]]), with_moments((1, 1), np.diag([0.8, 1]))
    x = np.array([(0, 0), (1, 1), (2, 1), (-1, 0.5)])
    found = density_difference(source, target, x, 0)
    np.testing.assert_allclose(found, [1.401693, -0.918960, -1.489612, 1.869084], atol=1e-4)  # 1e-6 on the diagonal
    assert np.argsort(found).tolist() == [2, 1, 0, 3]


def test_v3_turns_and_components():
    means = (-3.2, -12, -350, -9999, 5)
    assert [class_turns(m, released=True) for m in means] == [0, 1, 2, 3, 0]
    assert [class_turns(m) for m in means] == [1, 1, 2, 3, 1]
    assert class_turns(0.0) == 1 and class_turns(0.01, released=True) == -2
    assert [num_components(n) for n in (1, 99, 100, 250, 999, 1000, 5000)] == [1, 1, 1, 2, 9, 10, 10]


def test_v4_round_robin():
    ranked = {0: [1, 2, 3, 4], 1: [11, 12], 2: [21, 22, 23]}
    assert round_robin(ranked, {0: 2, 1: 1, 2: 1}) == [1, 2, 11, 21, 3, 4, 12, 22, 23]


@pytest.mark.parametrize("turns", [0, -3])
def test_round_robin_ends_with_weights_of_zero(turns):
    assert round_robin({0: [1, 2], 1: [3], 2: []}, dict.fromkeys(range(3), turns)) == [1, 3, 2]


def test_few_regions_get_diagonal_covariances():
    """With ten channels and six regions a full covariance has no determinant; a diagonal one keeps the order."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (6, 10)), rng.normal(3, 1, (6, 10))
    old, new = density_difference(source, target, np.stack([source.mean(0), target.mean(0)]), 0)
    assert new < old and abs(new) < 1e4
    nowhere = density_difference(np.zeros((0, 10)), target, target, 0)
    assert (nowhere < -1e5).all() and np.isfinite(nowhere).all()
