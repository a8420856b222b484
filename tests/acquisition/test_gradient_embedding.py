"""BADGE: fact sheet T10, and k-means++ seeding against gradients written out."""

import numpy as np
import pytest

from al_lab.acquisition.gradient_embedding import GradientEmbeddings, by_whole_passes, k_means_pp

P = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.34, 0.33, 0.33]])
PHI = np.array([[1.0, 0], [0, 2], [1, 1]])


def test_t10_badge():
    points = GradientEmbeddings(P, PHI)
    np.testing.assert_allclose(points.squared_norm_N.sqrt(), [0.374166, 1.476482, 1.143154], atol=1e-6)
    squared = points.squared_distance(1)
    np.testing.assert_allclose(squared.sqrt(), [1.523155, 0, 1.053945], atol=1e-6)
    np.testing.assert_allclose(squared / squared.sum(), [0.676227, 0, 0.323773], atol=1e-6)
    seconds = [k_means_pp(points, 2, np.random.default_rng(seed)).order.tolist() for seed in range(4000)]
    assert {order[0] for order in seconds} == {1}
    assert np.mean([order[1] == 0 for order in seconds]) == pytest.approx(0.676227, abs=0.025)  # 3.4 standard errors


def test_against_gradients_written_out():
    rng = np.random.default_rng(0)
    p, phi = rng.dirichlet(np.ones(5), 60), rng.normal(size=(60, 7))
    g = ((np.eye(5)[p.argmax(1)] - p)[:, :, None] * phi[:, None]).reshape(60, -1)
    points = GradientEmbeddings(p, phi)
    for index in (0, 17, 59):
        np.testing.assert_allclose(points.squared_distance(index), np.square(g - g[index]).sum(1), atol=1e-9)
    seeds = k_means_pp(points, 25, np.random.default_rng(1))
    assert len(set(seeds.order)) == 25
    for k in range(1, 25):
        nearest = np.square(g[seeds.order[k]] - g[seeds.order[:k]]).sum(1).min()
        assert seeds.squared[k] == pytest.approx(nearest, abs=1e-9)


def test_all_are_picked_once_even_where_they_coincide():
    seeds = k_means_pp(
        GradientEmbeddings(np.tile(P[:1], (6, 1)), np.tile(PHI[:1], (6, 1))), 9, np.random.default_rng(0)
    )
    assert sorted(seeds.order) == list(range(6)) and seeds.squared[1:].max() == pytest.approx(0, abs=1e-12)


def unsure_pixels(num: int, classes: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and features in groups of alike ones, in which the guess changes."""
    rng = np.random.default_rng(num)
    z = np.repeat(rng.normal(size=(num // 20 + 1, classes + dims)), 20, 0)[:num]
    z = z + 0.05 * rng.normal(size=z.shape)
    p = np.exp(z[:, :classes])
    return p / p.sum(1, keepdims=True), z[:, classes:]


def loop(p: np.ndarray, phi: np.ndarray, draws: np.ndarray) -> list[int]:
    """k-means++ over gradients written out, with one cumulative sum a pick."""
    g = ((np.eye(p.shape[1])[p.argmax(1)] - p)[:, :, None] * phi[:, None]).reshape(len(p), -1)
    order = [int(np.square(g).sum(1).argmax())]
    nearest = np.full(len(p), np.inf)
    for draw in draws:
        nearest = np.minimum(nearest, np.square(g - g[order[-1]]).sum(1))
        total = nearest.cumsum()
        order.append(int(np.searchsorted(total, draw * total[-1], side="right")))
    return order


@pytest.mark.parametrize(("num", "budget"), [(3000, 300), (1025, 1025), (65, 64), (2, 2), (1, 1)])
def test_the_picks_of_the_loop_wherever_and_in_whatever_order_points_are_looked_at(num: int, budget: int) -> None:
    p, phi = unsure_pixels(num, 5, 7)
    draws = np.random.default_rng(1).random(budget - 1)
    expected, points = loop(p, phi, draws), GradientEmbeddings(p, phi)
    whole = by_whole_passes(points, draws)
    assert whole.order.tolist() == expected
    for near in (None, np.random.default_rng(2).permutation(num)):
        ours = k_means_pp(points, budget, np.random.default_rng(1), near)
        assert ours.order.tolist() == expected
        np.testing.assert_allclose(ours.squared, whole.squared, rtol=1e-9, atol=1e-12)


def test_nothing_to_pick() -> None:
    assert len(k_means_pp(GradientEmbeddings(P, PHI), 0, np.random.default_rng(0)).order) == 0
