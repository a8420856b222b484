"""Density-aware greedy against its textbook loop, the fact sheet's orders (T6), and k-center."""

import numpy as np
import pytest
import torch

from al_lab.acquisition import density_greedy as module
from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.device.greedy import DeviceGreedy
from al_lab.acquisition.k_center import k_center

X = np.array([(3.2, 0.1), (0.5, 6.0), (0.7, 1.8), (0.7, 2.8), (3.5, 3.3), (4.4, 1.7), (1.5, 1.3), (4.1, 0.3)])
D = np.array([1.5, 3, 0.8, 4, 3, 0.5, 2, 4])


def textbook(x, d, budget, bought=(), allowed=None, key=None, first=None):
    """Algorithm 1 as written, in float64 on float32 features; ties to the smallest key."""
    x = x.astype(np.float32).astype(np.float64)
    key = np.arange(len(x)) if key is None else key
    radius = np.full(len(x), np.inf)
    for k in bought:
        radius = np.minimum(radius, ((x - x[k]) ** 2).sum(1) / d[k])
    is_open = np.ones(len(x), bool) if allowed is None else allowed.copy()
    is_open[list(bought)] = False
    order, radii = [], []
    for _ in range(min(budget, int(is_open.sum()))):
        best = np.flatnonzero(is_open & (radius == radius[is_open].max()))
        pick = first if first is not None and not order and not len(bought) else int(best[key[best].argmin()])
        order.append(pick)
        radii.append(radius[pick])
        is_open[pick] = False
        radius = np.minimum(radius, ((x - x[pick]) ** 2).sum(1) / d[pick])
    return order, radii


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("density", "bought", "budget", "order", "radius"),
    [
        (D, [], 10, [0, 1, 2, 4, 3, 5, 6, 7], [np.inf, 28.066667, 5.893333, 5.43, 1.25, 1.123333, 0.7225, 0.566667]),
        (1.0, [], 8, [0, 1, 4, 2, 5, 3, 6, 7], [np.inf, 42.1, 10.33, 9.14, 3.37, 1.0, 0.89, 0.85]),
        (D, [0, 1], 3, [2, 4, 3], [5.893333, 5.43, 1.25]),
        (1.0, [0, 1], 3, [4, 2, 5], [10.33, 9.14, 3.37]),
    ],
)
def test_t6(compiled, density, bought, budget, order, radius):
    result = density_greedy(X, density, budget, bought, front=2, compiled=compiled)
    assert result.order.tolist() == order
    np.testing.assert_allclose(result.radius, radius, rtol=2e-6)
    assert (
        density_greedy(X, np.asarray(density) * np.exp(2.4), budget, bought, compiled=compiled).order.tolist() == order
    )


def points(kind, rng):
    n, dim = 500, 20
    gaussian = rng.normal(size=(n, dim))
    centers = rng.normal(size=(12, dim))
    return {
        "gaussian": gaussian,
        "clustered": centers[np.arange(n) * 12 // n] + gaussian * 0.02,
        "integers": rng.integers(0, 3, size=(n, 3)),
        "duplicates": gaussian[rng.integers(0, 60, n)],
        "one point": np.ones((n, dim)),
        "far from the origin": gaussian * 1e-2 + 1000,
        "near ties": np.repeat(gaussian[: n // 2], 2, 0) + gaussian * 1e-6,
        "one dimension": gaussian[:, :1],
    }[kind]


KINDS = (
    "gaussian",
    "clustered",
    "integers",
    "duplicates",
    "one point",
    "far from the origin",
    "near ties",
    "one dimension",
)


@pytest.mark.parametrize(("front", "num_bought"), [(1, 7), (9, 7), (512, 7), (9, 200)])
@pytest.mark.parametrize("kind", KINDS)
def test_same_picks_as_the_textbook_loop(kind, front, num_bought, monkeypatch):
    monkeypatch.setattr(module, "_MANY_CENTERS", 50)
    rng = np.random.default_rng(KINDS.index(kind))
    x = points(kind, rng)
    density = np.exp(-4 * rng.random(len(x)))
    if kind == "integers":
        density = 2.0 ** rng.integers(-2, 3, len(x))  # ties across densities are exact
    allowed = rng.random(len(x)) < 0.8
    bought = rng.choice(len(x), num_bought, replace=False)
    key = rng.permutation(len(x))
    order, radius = textbook(x, density, 140, bought, allowed, key)
    result = density_greedy(x, density, 140, bought, is_candidate=allowed, tie_key=key, front=front)
    assert result.order.tolist() == order
    np.testing.assert_allclose(result.radius, radius, rtol=1e-5)
    assert (np.diff(result.radius) <= 0).all()


@pytest.mark.parametrize(("front", "num_bought"), [(1, 7), (9, 7), (512, 0), (100, 200)])
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_device_the_picks_are_the_same(kind, front, num_bought):
    rng = np.random.default_rng(KINDS.index(kind))
    x = points(kind, rng).astype(np.float32)
    density = 2.0 ** rng.integers(-2, 3, len(x))
    bought, key = rng.choice(len(x), num_bought, replace=False), rng.permutation(len(x))
    rows = np.setdiff1d(np.arange(len(x)), bought)
    state = DeviceGreedy(torch.from_numpy(x[rows]), density[rows], key[rows], front)
    state.settle(torch.from_numpy(x[bought]).double(), torch.from_numpy(density[bought]))
    order, radius = state.run(140, None)
    first = None if num_bought else int(key.argmin())
    expected = textbook(x, density, 140, bought, None, key, first)
    assert rows[order].tolist() == expected[0]
    np.testing.assert_allclose(radius, expected[1], rtol=1e-12)


def test_of_many_centers_only_near_ones_are_compared_in_float64(monkeypatch):
    looks = []

    def spy(self, x_PD, seen, limit, own=module._Greedy._centers_near):
        found = own(self, x_PD, seen, limit)
        value = ((self.center_KD[seen : self.num].astype(np.float64) - x_PD[:, None]) ** 2).sum(
            2
        ) / self.center_density_K[seen : self.num]
        assert set(seen + np.flatnonzero((value <= limit).any(0))) <= set(found)
        looks.append((len(found), self.num - seen))
        return found

    monkeypatch.setattr(module._Greedy, "_centers_near", spy)
    monkeypatch.setattr(module, "_MANY_CENTERS", 0)
    rng = np.random.default_rng(0)
    # clusters of pairs
    x = np.repeat(rng.normal(size=(20, 16)), 192, 0) + np.repeat(rng.normal(size=(1920, 16)) * 0.02, 2, 0)
    density = np.repeat(np.exp(-4 * rng.random(20)), 192)
    density_greedy(x, density, 200, np.sort(rng.choice(len(x), 1600, replace=False)))
    found, there = np.array(looks).T
    assert (there > 1600).sum() > 50 and found[there > 1600].sum() < 0.5 * there[there > 1600].sum()


@pytest.mark.parametrize("kind", ["gaussian", "duplicates"])
def test_without_numba_the_picks_are_the_same(kind):
    x = points(kind, np.random.default_rng(3))
    density = np.random.default_rng(4).random(len(x)) + 0.1
    compiled, plain = (density_greedy(x, density, 60, compiled=c).order for c in (True, False))
    np.testing.assert_array_equal(compiled, plain)
    assert module.HAS_NUMBA


@pytest.mark.parametrize("kind", ["gaussian", "clustered", "integers"])
def test_equal_densities_are_k_center(kind):
    rng = np.random.default_rng(8)
    x = points(kind, rng).astype(np.float32)
    bought, key = [5, 17, 300], rng.permutation(len(x))
    ours, theirs = density_greedy(x, 0.37, 100, bought, tie_key=key), k_center(x, 100, bought, tie_key=key)
    np.testing.assert_array_equal(ours.order, theirs.order)
    np.testing.assert_allclose(ours.radius * 0.37, theirs.distance**2, rtol=1e-5)


def test_first_pick():
    assert density_greedy(X, D, 1, first=5).order.tolist() == [5]
    assert density_greedy(X, D, 1, tie_key=np.arange(8)[::-1]).order.tolist() == [7]
    assert density_greedy(X, D, 1, [2], first=5).order.tolist() == textbook(X, D, 1, [2])[0]
    assert (
        density_greedy(X, D, 3, first=4, is_candidate=X[:, 0] > 3).order.tolist()
        == textbook(X, D, 3, (), X[:, 0] > 3, first=4)[0]
    )


def test_nothing_to_pick():
    assert not len(density_greedy(X, D, 0).order)
    assert not len(density_greedy(X, D, 5, range(8)).order)
    assert not len(density_greedy(np.zeros((0, 4)), np.zeros(0), 5).order)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": X[:, 0]}, "(N, D)"),
        ({"features": np.where(X > 5, np.nan, X)}, "row 1"),
        ({"density": np.where(D == 0.5, 0.0, D)}, "row 5"),
        ({"density": D[:3]}, "one density a row"),
        ({"bought": [8]}, "0..7"),
        ({"bought": [0, 8]}, "0..7"),
        ({"bought": [-1, 3]}, "0..7"),
        ({"tie_key": np.arange(3)}, "tie_key"),
        ({"budget": -1}, "budget"),
        ({"first": 0, "is_candidate": X[:, 0] < 1}, "filter"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ValueError) as error:
        density_greedy(**{"features": X, "density": D, "budget": 3} | change)
    assert words in str(error.value)
