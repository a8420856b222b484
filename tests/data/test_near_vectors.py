"""Near copies by embedding: what is near is told by the pool, the first stays, and blocks change nothing."""

import numpy as np
import pytest

from al_lab.data import near_vectors
from al_lab.data.near_vectors import copies_of_earlier, near_cosine, nearest_of, unit


def test_unit_vectors():
    found = unit(np.array([[3.0, 4], [0, 0], [np.nan, 2], [np.inf, 0]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [0, 1], [0, 0]]


def test_near_is_a_part_of_the_usual_distance_whatever_the_network():
    x = np.random.default_rng(0).normal(size=(300, 64))
    narrow = x + 8  # features after a ReLU point the same way: every cosine is large
    for vectors in (x, narrow):
        limit = near_cosine(vectors)
        drawn = unit(vectors)[:, None] - unit(vectors)[None]
        usual = np.median(np.linalg.norm(drawn, axis=2)[np.triu_indices(300, 1)])
        assert np.sqrt(2 - 2 * limit) == pytest.approx(0.4 * usual, rel=0.01)
    assert near_cosine(narrow) > 0.99 > 0.9 > near_cosine(x)
    assert near_cosine(x, 0.8) == 0.8 and near_cosine(x, None) is None
    assert near_cosine(x[:2]) is None and near_cosine(np.zeros((9, 4))) is None


def slow(unit_NE, min_cosine):
    """Return what stays, image by image."""
    kept = []
    for n, row in enumerate(unit_NE):
        if all(row @ unit_NE[k] < min_cosine for k in kept):
            kept.append(n)
    return kept


@pytest.mark.parametrize("block", [1, 7, 256])
def test_of_near_copies_the_first_stays_in_any_block(block, monkeypatch):
    rng = np.random.default_rng(1)
    scenes = rng.normal(size=(12, 16))
    x = unit(scenes[rng.integers(0, 12, 90)] + 0.2 * rng.normal(size=(90, 16)))
    monkeypatch.setattr(near_vectors, "_BLOCK", block)
    found = copies_of_earlier(x, 0.9)
    assert np.flatnonzero(~found.is_near).tolist() == slow(x, 0.9)
    for n in np.flatnonzero(found.is_near):
        like = found.row[n]
        assert like < n and not found.is_near[like]
        assert found.cosine[n] == pytest.approx(x[n] @ x[like]) and found.cosine[n] >= 0.9


def test_the_nearest_of_others():
    others = unit(np.array([[1.0, 0], [0, 1]]))
    found = nearest_of(unit(np.array([[1.0, 0.1], [1, -5], [0, 0]])), others, 0.9)
    assert found.row.tolist() == [0, -1, -1] and found.cosine[0] == pytest.approx(1 / np.sqrt(1.01))
    assert not nearest_of(others, others[:0], 0.0).is_near.any()
