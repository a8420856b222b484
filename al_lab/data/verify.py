"""What al-lab data says about a dataset: findings with file and remedy, and statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from al_lab.core.errors import DataError
from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Dataset, Finding
from al_lab.data.datasets.segmentation import SOURCE_PREFIX, SegmentationDataset
from al_lab.data.transforms.dense import VOID

_ORDER = {"error": 0, "warning": 1, "info": 2}
_SMALL_PX, _MEDIUM_PX = 32.0, 96.0  # COCO's limits of small and medium objects, side of the square of equal area


def format_findings(findings: Sequence[Finding], limit: int = 20) -> str:
    """Return findings as text, errors first.

    Args:
        findings: what `Dataset.verify` returned.
        limit: lines per severity; the rest is counted.
    """
    lines = []
    for severity in _ORDER:
        found = [f for f in findings if f.severity == severity]
        for finding in found[:limit]:
            place = f"{finding.file}: " if finding.file and finding.file not in finding.message else ""
            lines.append(f"{severity}: {place}{finding.message}\n    -> {finding.remedy}")
        if len(found) > limit:
            lines.append(f"{severity}: … and {len(found) - limit} more (--limit shows more)")
    return "\n".join(lines)


def statistics(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Count what is in a dataset; for its owner, who may see the labels.

    Returns:
        For each split that has images: ``images``, ``unlabeled`` (no annotation), ``unreadable`` (see `verify`),
            ``height`` and
        ``width`` (smallest, median, largest, pixels). Of detection: ``empty`` (annotated without a box), ``boxes``,
        ``difficult``, ``crowd``, ``classes`` (name to boxes), ``small``/``medium``/``large`` (boxes by area, COCO's
        limits). Of segmentation: ``pixels`` (with a class), ``void`` (pixels), ``classes`` (name to pixels),
        ``images_with`` (name to images).
    """
    splits = dataset.splits()
    total = sum(map(len, splits.values()))
    done = 0
    result: dict[str, Any] = {}
    for split, ids in splits.items():
        if not ids:
            continue
        count = (
            _BoxCounter(len(dataset.classes)) if dataset.task == "detection" else _PixelCounter(len(dataset.classes))
        )
        for sample_id in ids:
            count.add(dataset, sample_id)
            done += 1
            if progress:
                progress(done, total)
        result[split] = count.summary(dataset.classes)
    return result


class _Counter(ABC):
    def __init__(self, num_classes: int) -> None:
        self.per_class = np.zeros(num_classes, np.int64)
        self.images = self.unlabeled = self.unreadable = 0
        self.sizes: list[tuple[int, int]] = []

    def add(self, dataset: Dataset, sample_id: str) -> None:
        self.images += 1
        try:
            self.sizes.append(dataset.size_hw(sample_id))
            if not dataset.has_truth(sample_id):
                self.unlabeled += 1
                return
            if isinstance(dataset, SegmentationDataset) and sample_id.startswith(SOURCE_PREFIX):
                truth = dataset.source_label(sample_id)
            else:
                truth = dataset.truth(sample_id)
        except DataError:
            self.unreadable += 1
            return
        self.count(truth)

    @abstractmethod
    def count(self, truth: Any) -> None: ...

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        sizes = np.array(self.sizes or [(0, 0)])
        return {
            "images": self.images,
            "unlabeled": self.unlabeled,
            "unreadable": self.unreadable,
            "classes": dict(zip(classes, self.per_class.tolist(), strict=True)),
            "height": [int(sizes[:, 0].min()), int(np.median(sizes[:, 0])), int(sizes[:, 0].max())],
            "width": [int(sizes[:, 1].min()), int(np.median(sizes[:, 1])), int(sizes[:, 1].max())],
        }


class _BoxCounter(_Counter):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.empty = self.difficult = self.crowd = 0
        self.sides: list[np.ndarray] = []

    def count(self, truth: Annotation) -> None:
        self.empty += not len(truth.labels)
        self.per_class += np.bincount(truth.labels, minlength=len(self.per_class))
        self.difficult += int(truth.difficult.sum())
        self.crowd += int(truth.crowd.sum())
        self.sides.append(np.sqrt((truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]).prod(1)))

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        sides = np.concatenate(self.sides) if self.sides else np.zeros(0)
        return super().summary(classes) | {
            "empty": self.empty,
            "boxes": int(self.per_class.sum()),
            "difficult": self.difficult,
            "crowd": self.crowd,
            "small": int((sides < _SMALL_PX).sum()),
            "medium": int(((sides >= _SMALL_PX) & (sides < _MEDIUM_PX)).sum()),
            "large": int((sides >= _MEDIUM_PX).sum()),
        }


class _PixelCounter(_Counter):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.images_with = np.zeros(num_classes, np.int64)
        self.void = 0

    def count(self, truth: np.ndarray) -> None:
        counts = np.bincount(truth.reshape(-1), minlength=VOID + 1)
        self.per_class += counts[: len(self.per_class)]
        self.images_with += counts[: len(self.per_class)] > 0
        self.void += int(counts[VOID])

    def summary(self, classes: Sequence[str]) -> dict[str, Any]:
        images_with = dict(zip(classes, self.images_with.tolist(), strict=True))
        return super().summary(classes) | {
            "pixels": int(self.per_class.sum()),
            "void": self.void,
            "images_with": images_with,
        }


def format_statistics(dataset: Dataset, stats: dict[str, Any]) -> str:
    """Return `statistics` as a table, one column a split."""
    splits = list(stats)
    rows = [["", *splits]]
    for key in (
        "images",
        "unlabeled",
        "unreadable",
        "empty",
        "boxes",
        "difficult",
        "crowd",
        "small",
        "medium",
        "large",
        "pixels",
        "void",
    ):
        if key in stats[splits[0]]:
            rows.append([key, *(f"{stats[s][key]:,}" for s in splits)])
    for key in ("height", "width"):
        rows.append([f"{key} min/median/max", *("/".join(map(str, stats[s][key])) for s in splits)])
    rows += [[f"  {name}", *(_class_cell(stats[s], name) for s in splits)] for name in dataset.classes]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([f"{dataset.name}: {len(dataset.classes)} classes", *lines])


def _class_cell(split: dict[str, Any], name: str) -> str:
    """Return how much of a class there is: boxes, or its share of the pixels and in how many images."""
    count = split["classes"][name]
    if "images_with" not in split:
        return f"{count:,}"
    return f"{100 * count / max(split['pixels'], 1):.2f} % in {split['images_with'][name]:,}"
