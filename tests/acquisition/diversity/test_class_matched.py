"""PPAL's distances and k-medoids: numbers of the fact sheet, and plain loops."""

import numpy as np
import pytest

from al_lab.acquisition.diversity import class_matched
from al_lab.acquisition.diversity.class_matched import Objects, distances
from al_lab.acquisition.diversity.k_medoids import k_medoids

IMAGE = ([0, 1], [0.9, 0.5], [[1, 0], [0, 1]])
OTHER = ([0, 0], [0.8, 0.4], [[0.6, 0.8], [0, 1]])
THIRD = ([1, 0, 0], [0.7, 0.3, 0.04], [[0.6, 0.8], [1, 0], [0, 1]])
NONE = ([0], [0.05], [[1, 0]])  # not above .05


def objects(images):
    labels, sure, features = (np.concatenate([np.asarray(i[k], float) for i in images]) for k in range(3))
    return Objects(np.cumsum([0, *(len(i[0]) for i in images)]), labels.astype(int), sure, features)


def loop(images, same_rank=False):
    """The distances pair by pair, box by box."""

    def toward(a, b):
        total = 0.0
        for o in range(len(a[0])):
            found = [
                0.0
                if same_rank and o == p
                else 1 - np.dot(a[2][o], b[2][p]) / np.linalg.norm(a[2][o]) / np.linalg.norm(b[2][p])
                for p in range(len(b[0]))
                if a[0][o] == b[0][p]
            ]
            total += a[1][o] * min(found, default=2.0)
        return total / (sum(a[1]) + 1e-5)

    return [[(toward(a, b) + toward(b, a)) / 2 if len(a[0]) and len(b[0]) else 0.0 for b in images] for a in images]


def test_distances_are_the_sheets():
    d = distances(objects([IMAGE, OTHER, THIRD, NONE]).above(0.05))
    np.testing.assert_allclose([d[0, 1], d[0, 2], d[1, 2]], [0.785708, 0.105713, 1.059990], atol=1e-6)
    assert not d[3].any() and not d[:, 3].any()
    assert distances(objects([IMAGE, OTHER]), same_rank_is_same=True)[0, 1] == pytest.approx(0.523806, abs=1e-6)


@pytest.mark.parametrize("same_rank", [False, True])
def test_distances_are_those_of_plain_loops_in_any_blocks(same_rank, monkeypatch):
    rng = np.random.default_rng(0)
    images = [
        (rng.integers(0, 4, n), rng.uniform(0.06, 1, n), rng.normal(size=(n, 5)))
        for n in rng.integers(0, 7, 25).tolist()
    ]
    want = loop(images, same_rank)
    whole = distances(objects(images), same_rank_is_same=same_rank)
    np.testing.assert_allclose(whole, want, atol=1e-6)
    monkeypatch.setattr(class_matched, "_BLOCK", 50)
    np.testing.assert_allclose(distances(objects(images), same_rank_is_same=same_rank), whole, atol=1e-6)
    np.testing.assert_allclose(whole, whole.T)


def test_boxes_below_are_left_out_image_by_image():
    kept = objects([NONE, THIRD, NONE, IMAGE]).above(0.05)
    assert kept.start.tolist() == [0, 0, 2, 2, 4] and kept.confidence.tolist() == [0.7, 0.3, 0.9, 0.5]


def test_medoids_are_the_sheets():
    x = np.array([0.0, 1, 2, 10, 11])
    d = abs(x[:, None] - x)
    assert k_medoids(d, 2, 0) == [1, 3]
    assert k_medoids(d, 3, 0) == [0, 3, 2]


def test_medoids_are_different_whatever_is_alike():
    assert sorted(k_medoids(np.zeros((5, 5)), 3, 2)) == [0, 1, 2]
    assert sorted(k_medoids(np.zeros((5, 5)), 9, 4)) == [0, 1, 2, 3, 4]
