"""Pseudo-labels: vectors PL-1..PL-4."""

import numpy as np
import pytest

from al_lab.acquisition.pseudo import pseudo_labels
from al_lab.core.types import Detections


def found(confidence, boxes=None):
    n = len(confidence)
    boxes = (
        np.tile(np.array([[10, 10, 50, 50]], np.float32), (n, 1)) if boxes is None else np.asarray(boxes, np.float32)
    )
    confidence = np.asarray(confidence, np.float32)
    return Detections(boxes, confidence, np.zeros(n, np.int64), confidence[:, None], "sigmoid")


@pytest.mark.parametrize(
    ("confidence", "tau", "kept"),
    [([0.995, 0.99, 0.9899, 0.5], 0.99, 2), ([0.7500, 0.7499], 0.75, 1), ([0.4, 0.3], 0.5, 0)],
)
def test_the_threshold_is_inclusive(confidence, tau, kept):
    assert len(pseudo_labels(found(confidence), (375, 500), tau)) == kept


def test_pl4_boxes_are_clipped_and_keep_their_fractions():
    labels = pseudo_labels(found([1.0], [[-3.7, 10.2, 520.9, 300.6]]), (375, 500), 0.99)
    assert np.allclose(labels.boxes_xyxy / [500, 375, 500, 375], [[0, 0.0272, 1, 0.8016]], atol=1e-6)


def test_boxes_outside_of_the_image_are_dropped():
    labels = pseudo_labels(found([1.0, 1.0], [[-30, 10, -1, 20], [480, 10, 700, 20]]), (375, 500), 0.9)
    assert labels.boxes_xyxy.tolist() == [[480, 10, 500, 20]]
