"""Datasets whose ground truth is boxes."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Dataset

log = logging.getLogger(__name__)


class DetectionDataset(Dataset):
    """Images with boxes: xyxy, absolute, continuous, 0-based pixels of the upright original image, width = x2 - x1."""

    task: Literal["detection", "segmentation"] = "detection"
    metrics: tuple[str, ...] = ("voc_area_ap50",)

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        pool_ids: Sequence[str],
        val_ids: Sequence[str] = (),
        test_ids: Sequence[str] = (),
        metrics: Sequence[str] | None = None,
    ) -> None:
        """See `Dataset`."""
        super().__init__(name, classes, pool_ids, val_ids, test_ids, metrics)
        self._truths: dict[str, Annotation] = {}

    @abstractmethod
    def _parse(self, sample_id: str) -> tuple[Annotation, tuple[str, ...]]:
        """Read one annotation; return it with a sentence for each thing that was worked around.

        Raises:
            DataError: if it can't be read or makes no sense.
        """

    def truth(self, sample_id: str) -> Annotation:
        """Return the ground truth (a copy). For the oracle, the evaluate stage and `verify` alone.

        Boxes of zero area are left out, with one warning that names the file.

        Raises:
            DataError: if the sample has no annotation, or it can't be read.
        """
        if sample_id not in self._truths:
            self._require_truth(sample_id)
            annotation, notes = self._parse(sample_id)
            for note in notes:
                log.warning("%s: %s: %s", self.annotation_file(sample_id), sample_id, note)
            self._truths[sample_id] = annotation
        return _copy(self._truths[sample_id])


def _copy(annotation: Annotation) -> Annotation:
    return Annotation(
        annotation.boxes_xyxy.copy(), annotation.labels.copy(), annotation.difficult.copy(), annotation.crowd.copy()
    )
