"""Datasets whose ground truth is boxes."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from al_lab.core.errors import DataError
from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Dataset, Finding

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

    def blockers(self) -> list[Finding]:
        """See `Dataset.blockers`: a test set in which no image shows an object. Read until one does."""
        labeled = [i for i in self.test_ids if self.has_truth(i)]
        for sample_id in labeled:
            try:
                annotation = self._parse(sample_id)[0]
            except DataError:
                return []  # named elsewhere, and what it holds can't be known
            if (~annotation.crowd & ~annotation.difficult).any():
                return []
        if not labeled:
            return []
        empty = Finding(
            "error",
            str(self.annotation_file(labeled[0])),
            f"expected at least one object in the test set, got none in {len(labeled)} images",
            "choose another test set (dataset.test_split=…), or none: dataset.test_split=none",
        )
        return [empty]

    def _verify_truth(self, sample_id: str, decode: bool) -> list[Finding]:
        findings = super()._verify_truth(sample_id, decode)
        if any(f.severity == "error" for f in findings):
            return findings
        annotation = self._parse(sample_id)[0]
        rows = np.column_stack([annotation.labels, annotation.boxes_xyxy])
        copies = len(rows) - len(np.unique(rows, axis=0))
        if copies:
            message = f"{sample_id}: {copies} objects are copies of another one (the same class, the same box)"
            remedy = "remove the copies: a detector can find one of them only"
            findings.append(Finding("warning", str(self.annotation_file(sample_id)), message, remedy))
        return findings


def _copy(annotation: Annotation) -> Annotation:
    return Annotation(
        annotation.boxes_xyxy.copy(), annotation.labels.copy(), annotation.difficult.copy(), annotation.crowd.copy()
    )
