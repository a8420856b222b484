"""Overlap of boxes, in numpy: for whoever compares a few with a few."""

import numpy as np


def pair_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray, extra: float = 0.0) -> np.ndarray:
    """Return the IoU of N pairs of boxes; ``extra`` is added to every width and height (the devkit's 1)."""
    sides = np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]) + extra
    both = np.maximum(sides, 0).prod(1)
    area = (a_xyxy[:, 2:] - a_xyxy[:, :2] + extra).prod(1) + (b_xyxy[:, 2:] - b_xyxy[:, :2] + extra).prod(1)
    return np.divide(both, area - both, out=np.zeros(len(both)), where=area > both)
