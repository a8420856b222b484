"""An initial set without labels: one image of each cluster, none near another, the rest by k-center."""

import numpy as np
import pytest

from al_lab.acquisition.k_center import k_center
from al_lab.acquisition.k_means import cold_start
from al_lab.core.pool import ApartRows
from al_lab.core.rng import Rng


def alone(row: int) -> np.ndarray:
    return np.array([row])


def blobs(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = np.eye(len(sizes), 16) * 5
    label = np.repeat(np.arange(len(sizes)), sizes)
    return (centers[label] + rng.normal(0, 0.1, (len(label), 16))).astype(np.float32), label


def test_centroids_take_a_typical_image_of_each_cluster_the_largest_first():
    x, label = blobs([40, 10, 80, 20])
    rows = cold_start(x, 4, "centroids", np.arange(len(x)), Rng(0), alone)
    assert label[rows].tolist() == [2, 0, 3, 1]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for row in rows:
        mine = np.flatnonzero(label == label[row])
        assert row == mine[((unit[mine] - unit[mine].mean(0)) ** 2).sum(1).argmin()]


@pytest.mark.parametrize("by", ["centroids", "k_center"])
def test_gaps_are_kept_and_repeated_images_fill_up_with_others(by):
    x, _ = blobs([30, 30])
    x[:30] = x[0]  # one image, thirty times
    rule = ApartRows(np.arange(60) // 10, np.zeros(60, np.int64), 1)
    rows = cold_start(x, 6, by, np.arange(60), Rng(1), rule.near)
    assert sorted(rows // 10) == [0, 1, 2, 3, 4, 5]
    assert len(cold_start(x, 9, by, np.arange(60), Rng(1), rule.near)) == 6
    free = cold_start(x, 20, by, np.arange(60), Rng(1), alone)
    assert len(set(free.tolist())) == 20
    assert (free < 30).sum() == 1  # copies of a chosen image come last


def test_k_center_is_the_kernel_on_unit_vectors_and_begins_at_the_smallest_key():
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    key = np.random.default_rng(1).permutation(50)
    rows = cold_start(x * 3, 9, "k_center", key, Rng(0), alone)
    unit = x * 3 / np.linalg.norm(x * 3, axis=1, keepdims=True)
    assert rows.tolist() == k_center(unit, 9, tie_key=key).order.tolist()
    assert rows[0] == key.argmin()


@pytest.mark.parametrize("by", ["centroids", "k_center"])
def test_nothing_to_choose_from(by):
    assert len(cold_start(np.zeros((0, 4), np.float32), 3, by, np.arange(0), Rng(0), alone)) == 0
    assert len(cold_start(np.ones((5, 4), np.float32), 0, by, np.arange(5), Rng(0), alone)) == 0
    assert sorted(cold_start(np.zeros((5, 4), np.float32), 9, by, np.arange(5), Rng(0), alone)) == [0, 1, 2, 3, 4]
