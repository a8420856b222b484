"""What a strategy sees of each image, where files say what the model found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from al_lab.core.types import ImageView
from al_lab.data.predictions.table import Predictions


class Views:
    """What a learner would say of each image, from files.

    Args:
        predictions: of the detector.
        dataset: for sizes, where boxes are fractions of their image.
        needs: of the strategy: nothing else is made.
        has_sizes: every image's size is read, for a strategy that may ask for it; otherwise only where boxes are
            fractions of it (100,000 headers take half a minute).
    """

    def __init__(self, predictions: Predictions, dataset: Any, needs: Sequence[str], has_sizes: bool = False) -> None:
        self._predictions, self._dataset, self._has_sizes = predictions, dataset, has_sizes
        self._boxes = bool({"detections", "class_probs"} & set(needs))
        self._embedding = "image_embedding" in needs

    def __call__(self, sample_id: str) -> ImageView:
        """Return the view of one image."""
        found = self._predictions
        is_sized = self._has_sizes or (self._boxes and found.needs_size(sample_id))
        size = self._dataset.size_hw(sample_id) if is_sized else None
        detections = found.detections(sample_id, size) if self._boxes else None
        if detections is not None and found.suppressed is not None:
            detections = dataclasses.replace(detections, pre_suppression_count=found.suppressed[found.rows(sample_id)])
        embedding = None
        if self._embedding and found.embedding is not None:
            embedding = found.embedding[found.embedded[sample_id]]
        return ImageView(sample_id, size, detections, embedding)
