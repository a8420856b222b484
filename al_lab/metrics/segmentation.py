"""The metrics of a segmenter: of all test pixels together (IoU, Dice), and of borders, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.files import atomic_path
from al_lab.metrics import miou
from al_lab.metrics.miou import IGNORE, Counts, confusion_matrix
from al_lab.metrics.result import MetricResult, mean_of_known, unknown_metric
from al_lab.metrics.surfaces import boundary_counts, hausdorff95

_BOUNDARY, _HAUSDORFF = "boundary_iou", "hd95"
NAMES = (*miou.NAMES, _BOUNDARY, _HAUSDORFF)
LOWER_IS_BETTER = (_HAUSDORFF,)
_BORDERS: dict[str, Any] = {_BOUNDARY: (2,), _HAUSDORFF: ()}  # shape of what is kept of a class in an image


@dataclass(frozen=True)
class Measured:
    """What is kept of N images: enough for every metric, also of images drawn again.

    Attributes:
        counts: confusion matrices.
        boundary_iou: (N, C, 2) intersection and union of boundaries; None: not asked for.
        hd95: (N, C) distances in pixels, NaN of a class that is in neither; None: not asked for.
    """

    counts: Counts
    boundary_iou: np.ndarray | None = None
    hd95: np.ndarray | None = None

    @classmethod
    def of_image(
        cls, truth_HW: np.ndarray, predicted_HW: np.ndarray, num_classes: int, names: Sequence[str]
    ) -> "Measured":
        """Measure one image for these metrics; void pixels (255) count nowhere."""
        counts = Counts.of([confusion_matrix(truth_HW, predicted_HW, num_classes)])
        borders: dict[str, np.ndarray] = {}
        if _BOUNDARY in names:
            borders[_BOUNDARY] = boundary_counts(truth_HW, predicted_HW, num_classes, IGNORE)[None]
        if _HAUSDORFF in names:
            borders[_HAUSDORFF] = hausdorff95(truth_HW, predicted_HW, num_classes, IGNORE)[None]
        return cls(counts, **borders)

    @classmethod
    def joined(cls, parts: Sequence["Measured"]) -> "Measured":
        """Return the images of all parts, in order."""
        borders = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _BORDERS
            if parts and getattr(parts[0], name) is not None
        }
        return cls(Counts.joined([part.counts for part in parts]), **borders)

    def save(self, path: Path) -> None:
        """Write them to ``path``."""
        borders = {name: values for name in _BORDERS if (values := getattr(self, name)) is not None}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{f.name: getattr(self.counts, f.name) for f in fields(Counts)}, **borders)

    @classmethod
    def load(cls, path: Path) -> "Measured":
        """Read what `save` wrote."""
        borders = {
            _BOUNDARY: Column("iu", ("N", "C", 2), required=False),
            _HAUSDORFF: Column("f", ("N", "C"), required=False),
        }
        found = load_arrays(path, {**miou.COLUMNS, **borders})
        return cls(Counts(*(found.pop(f.name) for f in fields(Counts))), **found)


def segmentation_results(measured: Measured, classes: Sequence[str], names: Sequence[str]) -> list[MetricResult]:
    """Return each metric's mean and its classes.

    - ``miou``, ``miou13``, ``foreground_iou``, ``dice``, ``foreground_dice``: of one confusion matrix over all test
      pixels, see `miou_from_confusion`.
    - ``boundary_iou``: intersections and unions of `boundary_counts` are added over images before they are divided.
    - ``hd95``, pixels, smaller is better: `hausdorff95` of a class is averaged over the images that have it, in truth
      or prediction, then over classes.

    A class that the test set's ground truth lacks is left out of the means.

    Raises:
        ConfigError: for a metric that these classes don't have.
        DataError: if no pixel has a class.
    """
    check_metrics(names, classes)
    confusion_CC = measured.counts.total(len(classes))
    of_pixels = [name for name in names if name in miou.NAMES]
    found = {next(iter(r.scalars)): r for r in miou.miou_from_confusion(confusion_CC, classes, of_pixels)}
    for name in names:
        if name in _BORDERS:
            found[name] = _result(name, _border(measured, name, None)[0], confusion_CC, classes)
    return [found[name] for name in names]


def _result(name: str, value_C: np.ndarray, confusion_CC: np.ndarray, classes: Sequence[str]) -> MetricResult:
    true_C, predicted_C = confusion_CC.sum(1), confusion_CC.sum(0)
    if not true_C.any():
        raise DataError(
            explain(
                expected="at least one test pixel with a class",
                got="none",
                where=name,
                do="a mean of nothing is no number: check the id of void, or choose other test images, or none",
            )
        )
    value_C = np.where(true_C > 0, value_C, np.nan)
    rows = [
        {
            "class": label,
            "ap": float(value_C[k]),
            "num_gt": int(true_C[k]),
            "num_det": int(predicted_C[k]),
            "metric": name,
        }
        for k, label in enumerate(classes)
    ]
    return MetricResult({name: float(np.nanmean(value_C))}, rows)


def _border(measured: Measured, name: str, weights_BN: np.ndarray | None) -> np.ndarray:
    """Return the classes' values, (B, C); without draws B is 1. NaN where a class is in no image that was drawn."""
    values = getattr(measured, name)
    weights_BN = np.ones((1, len(values))) if weights_BN is None else np.asarray(weights_BN, np.float64)
    if name == _BOUNDARY:
        hit_BC, all_BC = (weights_BN @ values[..., k].astype(np.float64) for k in (0, 1))
    else:
        known = np.isfinite(values)
        hit_BC, all_BC = weights_BN @ np.where(known, values, 0.0), weights_BN @ known.astype(np.float64)
    return np.divide(hit_BC, all_BC, out=np.full(hit_BC.shape, np.nan), where=all_BC > 0)


def resampled_segmentation(
    measured: Measured, classes: Sequence[str], names: Sequence[str], weights_BN: np.ndarray
) -> dict[str, np.ndarray]:
    """Return, for each metric, its values on resampled test images, (B,).

    Args:
        measured: of N test images.
        classes: C names.
        names: of `NAMES`.
        weights_BN: how often each image is drawn, one row a draw.
    """
    of_pixels = [name for name in names if name in miou.NAMES]
    found = miou.resampled_miou(measured.counts, classes, of_pixels, weights_BN)
    there = measured.counts.total(len(classes)).sum(1) > 0
    borders = [name for name in names if name in _BORDERS]
    return found | {name: mean_of_known(_border(measured, name, weights_BN)[:, there]) for name in borders}


def check_metrics(names: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse metrics that nobody computes for these classes, and a curve that falls as a model gets better.

    Raises:
        ConfigError: naming the metric.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(unknown_metric(name, NAMES))
    miou.check_metrics([name for name in names if name in miou.NAMES], classes)
    if names and names[0] in LOWER_IS_BETTER:
        raise ConfigError(
            explain(
                expected="a metric first that is larger for a better model: curves and verdicts are of the first",
                got=repr(names[0]),
                where="dataset.metrics",
                do=f"e.g. dataset.metrics='[miou,{names[0]}]'",
            )
        )
