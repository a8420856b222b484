"""Distances of embeddings: the random features against the kernel itself, the nearest against all pairs."""

import numpy as np
import pytest

from al_lab.data.lint.reference import one_set, random_sets
from al_lab.data.lint.vectors import vector_measures
from al_lab.data.near_vectors import unit


def exact_mmd(a, b, squared_width):
    def kernel(x, y):
        return np.exp(-((x[:, None] - y[None]) ** 2).sum(2) / (2 * squared_width)).mean()

    return np.sqrt(max(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b), 0))


@pytest.fixture(scope="module")
def clouds():
    """300 images of two kinds; what they are compared with is of the second kind."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 8))
    pool = np.concatenate([first + 0.4 * rng.normal(size=(150, 8)), second + 0.4 * rng.normal(size=(150, 8))])
    return unit(pool), unit(second + 0.4 * rng.normal(size=(60, 8)))


def test_against_the_kernel_and_all_pairs():
    rng = np.random.default_rng(3)
    x_NE, v_VE = unit(rng.normal(size=(400, 8))), unit(rng.normal(size=(60, 8)) + [1.5, *[0] * 7])
    rows = np.arange(100, 170)
    mmd, nearest = vector_measures(x_NE, one_set(400, rows), random_sets(400, 70, 0, draws=5), v_VE)
    squared = np.median(((x_NE[:, None] - x_NE[None]) ** 2).sum(2)[np.triu_indices(400, 1)])
    assert mmd.value == pytest.approx(exact_mmd(x_NE[rows], v_VE, squared), rel=0.12)
    apart = np.linalg.norm(x_NE[rows][:, None] - v_VE[None], axis=2).min(1).mean()
    assert nearest.value == pytest.approx(apart, abs=1e-3)


def test_the_right_kind_is_closer_than_random_and_the_wrong_one_farther(clouds):
    x_NE, v_VE = clouds
    random = random_sets(300, 40, 0)
    right, wrong = (vector_measures(x_NE, one_set(300, np.arange(k, k + 40)), random, v_VE) for k in (200, 20))
    assert [m.percentile for m in right] == [100, 100] and [m.percentile for m in wrong] == [0, 0]
    of_pool = vector_measures(x_NE, one_set(300, np.arange(40)), random, x_NE, of_pool=True)
    assert [m.key for m in of_pool] == ["mmd"] and of_pool[0].percentile == 0  # half of the pool is missing
