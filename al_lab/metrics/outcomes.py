"""What became of each detection in the test images, in a small file: they can be drawn again without truth or boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.files import atomic_path
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.result import mean_of_known
from al_lab.metrics.voc_ap import NAMES, VocAP, true_positives

IOU = 0.5  # VOC's
_COLUMNS = {
    "ids": Column("U", ("N",)),
    "count": Column("iu", ("N",)),
    "confidence": Column("f", ("D",)),
    "label": Column("iu", ("D",)),
    "outcome": Column("i", ("D",)),
    "objects": Column("iu", ("N",)),
    "object_label": Column("iu", ("O",)),
}


@dataclass(frozen=True)
class Outcomes:
    """The detections of N test images with D detections and O objects that count (not ``difficult``, no crowd).

    As VOC's AP counts them at IoU 0.5 (`al_lab.metrics.voc_ap`), image by image.

    Attributes:
        ids: (N,) sample ids.
        count: (N,) detections of each image.
        confidence: (D,) float32.
        label: (D,) class.
        outcome: (D,) 1: a true positive, -1: a false one, 0: neither (it found a difficult object).
        objects: (N,) objects of each image.
        object_label: (O,) class.
    """

    ids: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    outcome: np.ndarray
    objects: np.ndarray
    object_label: np.ndarray

    @classmethod
    def of(cls, predictions: Mapping[str, Detections], truth: Mapping[str, Annotation], num_classes: int) -> "Outcomes":
        """Match detections with objects.

        Args:
            predictions: of the whole test set.
            truth: likewise; its order is kept.
            num_classes: of the dataset.
        """
        found = [predictions[i] for i in truth]
        counted = [a.labels[~(a.difficult | a.crowd)] for a in truth.values()]
        is_true, is_false = true_positives(found, list(truth.values()), num_classes, IOU)
        none = np.zeros(0, np.float32)
        return cls(
            np.asarray(list(truth), np.str_),
            np.asarray([len(d) for d in found], np.int64),
            np.concatenate([none, *(d.confidence for d in found)]),
            np.concatenate([none, *(d.labels for d in found)]).astype(np.int64),
            is_true.astype(np.int8) - is_false.astype(np.int8),
            np.asarray([len(labels) for labels in counted], np.int64),
            np.concatenate([none, *counted]).astype(np.int64),
        )

    def average_precision(
        self, weights_BN: np.ndarray | None = None, names: Sequence[str] = NAMES
    ) -> dict[str, np.ndarray]:
        """Return VOC's metrics with images drawn as often as ``weights_BN`` says, each (B,).

        Args:
            weights_BN: one row a draw (`al_lab.metrics.resampling.resamples`); None: every image once.
            names: of the metrics.

        Returns:
            Metric -> means over the classes that have objects in a draw; NaN for a draw without any.
        """
        weights_BN = np.ones((1, len(self.ids)), np.int64) if weights_BN is None else np.asarray(weights_BN)
        image_D, image_O = (np.repeat(np.arange(len(self.ids)), each) for each in (self.count, self.objects))
        metric, order = VocAP(names), np.argsort(-self.confidence, kind="stable")
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for label in np.unique(self.object_label):
            mine = order[self.label[order] == label]
            num_gt_B = np.take(weights_BN, image_O[self.object_label == label], 1).sum(1)
            is_true, is_false = self.outcome[mine] > 0, self.outcome[mine] < 0
            for name, ap_B in metric.of_class(is_true, is_false, image_D[mine], num_gt_B, weights_BN).items():
                found[name].append(ap_B)
        return {
            name: mean_of_known(np.stack(rows, 1)) if rows else np.full(len(weights_BN), np.nan)
            for name, rows in found.items()
        }

    def save(self, path: Path) -> None:
        """Write them to ``path``, compressed, numbers in the narrowest types that hold them."""
        narrow = {
            name: (values := getattr(self, name)).astype(np.min_scalar_type(int(values.max(initial=0))))
            for name in ("count", "label", "objects", "object_label")
        }
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, ids=self.ids, confidence=self.confidence, outcome=self.outcome, **narrow)

    @classmethod
    def load(cls, path: Path) -> "Outcomes":
        """Read what `save` wrote.

        Raises:
            ResumeError: if the file is damaged.
        """
        z = load_arrays(path, _COLUMNS, compressed=True)
        wide = {name: z[name].astype(np.int64) for name in ("count", "label", "objects", "object_label")}
        return cls(**{**z, **wide})
