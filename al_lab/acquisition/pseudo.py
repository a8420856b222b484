"""Pseudo-labels: what a model is so sure of that the next one may learn from it."""

import numpy as np

from al_lab.core.types import Detections


def pseudo_labels(detections: Detections, size_hw: tuple[int, int], tau: float) -> Detections:
    """Return the detections of at least this confidence, clipped to the image; empty boxes go.

    Elezi et al., CVPR 2022, Sec. 3.3. An image without any stays unlabeled. Deviation: the released code truncates
    boxes to whole pixels and leaves them outside of the image on two sides.

    Args:
        detections: after suppression, in original pixels.
        size_hw: of the image.
        tau: least confidence, inclusive.
    """
    height, width = size_hw
    # Compared in the detections' own precision: 0.99 as a float32 is below 0.99.
    sure = detections.rows(np.flatnonzero(detections.confidence >= np.float32(tau)))
    boxes = np.clip(sure.boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    clipped = Detections(boxes, sure.confidence, sure.labels, sure.probs, sure.activation)
    return clipped.rows(np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1)))
