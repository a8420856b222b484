"""Covering radius, radial distances and calibration: fact sheet T7, T10's R^2, Theorem 3."""

import numpy as np
import pytest

from al_lab.metrics import coverage as module
from al_lab.metrics.coverage import class_shares, core_set_loss, coverage, density_calibration, uniform_by_density

X = np.array([(3.2, 0.1), (0.5, 6.0), (0.7, 1.8), (0.7, 2.8), (3.5, 3.3), (4.4, 1.7), (1.5, 1.3), (4.1, 0.3)])
LOSS = np.array([0.2, 1.4, 0.1, 0.3, 0.9, 0.5, 0.05, 0.15])


@pytest.mark.parametrize(
    ("bought", "owner", "delta", "radial", "others", "mean", "loss"),
    [
        (
            [0, 1, 2],
            [0, 1, 2, 2, 2, 0, 2, 0],
            3.176476,
            [0.973985, 0, 1.279969],
            [1.460977, 0, 1.706625],
            1.005229,
            0.116667,
        ),
        (
            [0, 1, 4],
            [0, 1, 0, 2, 2, 2, 0, 0],
            3.023243,
            [1.506516, 0, 1.560016],
            [2.008688, 0, 2.340024],
            1.338264,
            0.383333,
        ),
    ],
)
def test_t7(bought, owner, delta, radial, others, mean, loss):
    result = coverage(X, bought)
    assert result.owner.tolist() == owner
    np.testing.assert_allclose(
        [result.radius, result.mean_distance, result.largest_radial], [delta, mean, max(radial)], atol=1e-6
    )
    np.testing.assert_allclose(result.radial, radial, atol=1e-6)
    np.testing.assert_allclose(result.radial_others, others, atol=1e-6)
    assert core_set_loss(LOSS, LOSS[bought]) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_same_as_all_pairs(offset, monkeypatch):
    monkeypatch.setattr(module, "_TILE", (7, 9))
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(150, 6)), 2, 0) + offset  # every point twice
    bought = rng.choice(300, 40, replace=False)
    result = coverage(x, bought)
    d = np.sqrt(((x[:, None] - x[None, bought]) ** 2).sum(-1))
    np.testing.assert_allclose(result.distance, d.min(1), atol=1e-9)
    mean_of = [result.distance[result.owner == k].mean() for k in range(40)]
    np.testing.assert_allclose(result.radial, mean_of)
    assert set(result.owner) == set(range(40))


def test_theorem_3_holds_for_random_sets_and_is_asserted(monkeypatch):
    rng = np.random.default_rng(1)
    for _ in range(50):
        n = int(rng.integers(1, 60))
        result = coverage(rng.normal(size=(n, 3)), rng.choice(n, int(rng.integers(1, n + 1)), replace=False))
        assert result.largest_radial <= result.radius + 1e-12
    # one point, its own center: equality
    assert coverage(np.ones((4, 2)), [1]).largest_radial == coverage(np.ones((4, 2)), [1]).radius == 0
    monkeypatch.setattr(module, "_ULPS", -1e16)
    with pytest.raises(ArithmeticError, match="Theorem 3"):
        coverage(X, [0, 1])


def test_calibration_t10():
    line = density_calibration(np.array([1.0, 0.5]), np.array([3.0, 5.0]))  # two are a line
    assert (line.slope, line.intercept) == (pytest.approx(2), pytest.approx(1))
    fit = density_calibration(np.array([0.5, 1, 1.5, 2, 3]), np.array([0.30, 0.19, 0.13, 0.12, 0.08]))
    np.testing.assert_allclose([fit.slope, fit.intercept, fit.r2], [0.128354, 0.048481, 0.986444], atol=1e-6)


def test_uniform_by_density():
    rng = np.random.default_rng(0)
    density = np.concatenate([rng.uniform(0.5, 1, 1000), rng.uniform(1, 3, 400), rng.uniform(3, 11, 500)])
    rows = uniform_by_density(density, rng, bins=5)
    assert len(np.unique(rows)) == len(rows)
    counts = np.histogram(density[rows], np.linspace(0.5, 3, 6))[0]
    assert len(set(counts)) == 1 and counts[0] == np.histogram(density, np.linspace(0.5, 3, 6))[0].min()
    assert not len(uniform_by_density(np.array([9.0]), rng))


def test_class_shares():
    result = class_shares(np.array([2, 0, 1]), np.array([50, 40, 10]), 4)
    np.testing.assert_allclose(result.bought, [2 / 3, 0, 1 / 3])
    np.testing.assert_allclose(result.pool, [0.5, 0.4, 0.1])
    assert result.entropy == pytest.approx(np.log(3) - 2 / 3 * np.log(2)) and result.wasted == 0.25


@pytest.mark.parametrize(
    "call",
    [
        lambda: coverage(X, []),
        lambda: coverage(X, [8]),
        lambda: coverage(X, [1, 1]),
        lambda: core_set_loss(LOSS, LOSS[:0]),
        lambda: coverage(X * np.nan, [0]),
        lambda: density_calibration(np.ones(3), np.ones(3)),
        lambda: density_calibration(np.ones(1), np.ones(1)),
        lambda: density_calibration(np.array([1.0, 2.0]), np.ones(3)),
        lambda: class_shares(np.array([3]), np.ones(1), 2),
    ],
)
def test_refusals(call):
    with pytest.raises(ValueError, match="expected"):
        call()
