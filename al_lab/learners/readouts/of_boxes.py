"""Columns beside the detections of an image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from al_lab.learners.readouts.look import Look


def pre_suppression_count(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``pre_suppression_count`` (D,) int32 of each image, see `Detections`."""
    counts = [found.pre_suppression_count for found in look.detections]
    return [{"pre_suppression_count": count} for count in counts if count is not None]
