"""Wasserstein-1 between batches: fact sheet vector TV12, and scipy dimension by dimension."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from al_lab.acquisition import transport
from al_lab.acquisition.transport import earth_mover, sort_columns, unit_directions, wasserstein_1

U = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])
V = np.array([[1.0, 1.0], [2.0, 5.0], [0.0, 0.0]])


@pytest.fixture(params=["compiled", "plain"])
def either_way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(transport, "numba", None)
        monkeypatch.setattr(transport, "_ROWS_AT_ONCE", 100)
    else:
        pytest.importorskip("numba")


def distance(batch: np.ndarray, *others: np.ndarray) -> np.ndarray:
    return wasserstein_1(sort_columns(batch), np.stack([sort_columns(other) for other in others], axis=1))


def line(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 1, 3), (5, 6, 8), 5),
        ((0, 1, 3), (0, 2, 2), 0.6666667),
        ((0, 1), (0, 1, 2, 4), 1.25),
        ((1, 2), (1, 2, 3, 3), 0.75),
    ],
)
def test_tv12_on_the_line(one, other, expected):
    assert distance(line(*one), line(*other)) == pytest.approx(expected, abs=1e-6)
    assert distance(line(*other), line(*one)) == pytest.approx(expected, abs=1e-6)


def test_tv12_batches():
    np.testing.assert_allclose(distance(U, V), [[1 / 3, 1]], atol=1e-9)
    assert distance(U.reshape(-1, 1), V.reshape(-1, 1)) == pytest.approx(0.3333333, abs=1e-6)
    assert distance(line(*U.mean(0)), line(*V.mean(0))) == pytest.approx(0.3333333, abs=1e-6)
    slices = np.array([[1, 0, 0.5**0.5], [0, 1, 0.5**0.5]])
    assert distance(U @ slices, V @ slices).mean() == pytest.approx(0.7587141, abs=1e-6)
    assert earth_mover(U, V) == pytest.approx(1.7077019, abs=1e-6)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1500, 1500), (40, 60), (7, 5), (1, 9)])
def test_equals_scipy_in_every_dimension(sizes, dtype):
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(sizes[0], 4)).astype(dtype)
    others = [(rng.normal(size=(sizes[1], 4)) * 2 + 1).astype(dtype) for _ in range(3)]
    expected = [[wasserstein_distance(batch[:, d], other[:, d]) for d in range(4)] for other in others]
    np.testing.assert_allclose(distance(batch, *others), expected, atol=1e-6)


def test_directions_have_length_one():
    directions = unit_directions(6, 64, np.random.default_rng(0))
    assert directions.shape == (6, 64)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1)


def test_bad_input_is_named():
    table = sort_columns(U)[:, None]
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2, 1, 3\)"):
        wasserstein_1(U, table)
    with pytest.raises(ValueError, match="float32 and float64"):
        wasserstein_1(sort_columns(U.astype(np.float32)), table)
    with pytest.raises(ValueError, match="sizes 0 and 3"):
        wasserstein_1(np.zeros((2, 0)), table)
    with pytest.raises(ValueError, match="equal size"):
        earth_mover(U, V[:2])
