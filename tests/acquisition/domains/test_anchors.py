"""MADA's centroids and distances: the sheet's vectors, and what follows from the definition."""

import numpy as np
import pytest
import torch

from al_lab.acquisition.domains.anchors import anchor_distances, anchors, class_centroids, distance_to_anchors
from al_lab.core.rng import Rng

ANCHORS = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [2, 0, 2, 0]], float)


def test_v1_v2_distances_to_the_nearest_anchor():
    images = np.array([[1, 0.5, 0, 0], [3, 3, 3, 3]])
    expected = [[0.3125, 0.0625, 1.3125], [9, 6.5, 5]]
    np.testing.assert_allclose(anchor_distances(images, ANCHORS), expected, atol=1e-12)
    np.testing.assert_allclose(distance_to_anchors(images, ANCHORS), [0.0625, 5], atol=1e-12)


@pytest.mark.parametrize(("least", "expected"), [(1, [1, 2, 6, 7]), (2, [0, 0, 6, 7])])
def test_v3_means_of_classes_that_are_right(least, expected):
    features = torch.tensor([[1.0, 3, 5, 7], [2, 4, 6, 8]])
    predicted, label = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    right = torch.where(predicted == label, predicted, -1)
    assert class_centroids(features, right, 2, least).tolist() == expected
    assert class_centroids(features, torch.full((4,), 255), 2, least).tolist() == [0, 0, 0, 0]


def test_one_anchor_is_the_mean_of_the_source():
    x = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    (mean,) = anchors(x, 1, 20, Rng(0))
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-6)
    far = distance_to_anchors(2 * x, mean[None])
    np.testing.assert_allclose(far, ((2 * x - x.mean(0)) ** 2).mean(1), rtol=1e-5)


def test_anchors_are_clusters_and_never_more_than_images():
    x = np.repeat(np.eye(4) * 5, 6, 0) + np.random.default_rng(0).normal(0, 0.01, (24, 4))
    found = anchors(x, 4, 20, Rng(1))
    assert distance_to_anchors(x, found).max() < 0.001
    np.testing.assert_array_equal(found, anchors(x, 4, 20, Rng(1)))
    assert len(anchors(x[:2], 10, 20, Rng(0))) == 2
