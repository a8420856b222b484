"""Balls exclude only centers that change nothing, and most of them where neighbors are alike."""

import numpy as np
import pytest

from al_lab.acquisition.tiles import TILE, Tiles, padded, spatial_order


def smooth(n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    place = np.linspace(0, 9, n)[:, None]
    return np.sin(place * rng.normal(size=dim) + rng.normal(size=dim)) + 0.01 * rng.normal(size=(n, dim))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_radii_are_those_of_all_centers(compiled: bool, offset: float) -> None:
    rng = np.random.default_rng(0)
    x, c = (padded((smooth(n, 20, rng) + offset).astype(np.float32)) for n in (3 * TILE + 7, 300))
    inverse = rng.uniform(0.1, 5, len(c)).astype(np.float32)
    radius = np.full(len(x), np.inf, np.float32)
    Tiles(x, compiled).lower(radius, c, inverse)
    every = ((x[:, None].astype(np.float64) - c) ** 2).sum(2) * inverse
    np.testing.assert_allclose(radius, every.min(1), rtol=1e-5)


@pytest.mark.parametrize(("offset", "is_multiplied"), [(0.0, True), (1.0, True), (1000.0, False)])
def test_points_without_structure_are_multiplied(
    offset: float, is_multiplied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    x, c = (padded((rng.normal(size=(n, 20)) + offset).astype(np.float32)) for n in (20 * TILE + 7, 300))
    inverse = np.exp(rng.uniform(-2, 2, len(c))).astype(np.float32)
    every = ((x[:, None].astype(np.float64) - c) ** 2).sum(2) * inverse
    radius = every[:, :44].min(1).astype(np.float32)
    radius[5] = -np.inf  # picked before
    products = []
    monkeypatch.setattr(
        Tiles, "_lower_by_product", lambda *args, own=Tiles._lower_by_product: products.append(own(*args))
    )
    Tiles(x, True).lower(radius, c[44:], inverse[44:])
    assert bool(products) == is_multiplied and radius[5] == -np.inf
    np.testing.assert_allclose(np.delete(radius, 5), np.delete(every.min(1), 5), rtol=1e-5)


def test_far_centers_are_not_looked_at() -> None:
    x = padded(smooth(12 * TILE, 16, np.random.default_rng(1)).astype(np.float32))
    tiles, radius = Tiles(x, True), np.full(len(x), np.inf, np.float32)
    one = np.ones(len(x), np.float32)
    tiles.lower(radius, x[::30], one[::30])
    may = tiles.within(np.maximum.reduceat(radius, tiles.starts_T), x, one)
    assert may.mean() < 0.3
    lowers = (((x[:, None] - x) ** 2).sum(2) < radius[:, None]).reshape(12, TILE, -1).any(1)
    assert lowers.any() and not (lowers & ~may).any()


def test_pixels_in_spatial_order_stay_together() -> None:
    pixels = np.random.default_rng(0).permutation(32 * 32)
    order = pixels[spatial_order(pixels, 32)]
    assert sorted(order) == list(range(32 * 32))
    row, column = np.divmod(order.reshape(-1, 64), 32)
    assert (np.ptp(row, axis=1) == 7).all() and (np.ptp(column, axis=1) == 7).all()
