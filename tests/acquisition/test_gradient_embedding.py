"""BADGE: fact sheet T10, and k-means++ seeding against gradients written out."""

import numpy as np
import pytest

from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp

P = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.34, 0.33, 0.33]])
PHI = np.array([[1.0, 0], [0, 2], [1, 1]])


def test_t10_badge():
    points = GradientEmbeddings(P, PHI)
    np.testing.assert_allclose(np.sqrt(points.squared_norm_N), [0.374166, 1.476482, 1.143154], atol=1e-6)
    squared = points.squared_distance(1)
    np.testing.assert_allclose(np.sqrt(squared), [1.523155, 0, 1.053945], atol=1e-6)
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
