"""Average precision of Pascal VOC, with ``difficult`` objects, for all images of a class at once.

Every detection belongs to the one object of its class and image that it overlaps most, whether or not that one is taken
already. So the greedy assignment by confidence needs no loop: of all detections that belong to an object, the most
confident is the true positive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.boxes import pair_iou
from al_lab.core.errors import ConfigError
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.result import Metric, MetricResult, check_inputs, unknown_metric

NAMES = ("voc07_ap50", "voc_area_ap50")
_TOLERANT_GRID = np.arange(11) / 10 - 1e-12
_LEGACY_GRID = np.arange(0.0, 1.1, 0.1)  # 0.3, 0.6 and 0.7 come out slightly too large


class VocAP(Metric):
    """Mean over classes of the VOC average precision at IoU > 0.5.

    Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010. ``voc07_ap50``: mean of the
    precision envelope at recalls 0, 0.1, …, 1 (VOC07). ``voc_area_ap50``: area under it (VOC10 on). ``difficult``
    objects (and COCO's crowds) are neither found nor missed: what overlaps them most is ignored. A class without
    objects in the test set is left out of the mean.

    Args:
        names: which of the two.
        iou: overlap a true positive must exceed, strictly.
        legacy_grid: test recall against the float range of the released evaluators, in which 3/10, 6/10 and 7/10 miss
            their own point.
        legacy_empty: a class without any detection gets -1 (as in ssd.pytorch) instead of 0.
        devkit_plus_one: widths are x2 - x1 + 1, as in the devkit with its integer boxes.
    """

    def __init__(
        self,
        names: Sequence[str] = NAMES,
        *,
        iou: float = 0.5,
        legacy_grid: bool = False,
        legacy_empty: bool = False,
        devkit_plus_one: bool = False,
    ) -> None:
        for name in names:
            if name not in NAMES:
                raise ConfigError(unknown_metric(name, NAMES))
        self.names = tuple(names)
        self.iou, self.extra = float(iou), float(devkit_plus_one)
        self.grid = _LEGACY_GRID if legacy_grid else _TOLERANT_GRID
        self.empty = -1.0 if legacy_empty else 0.0

    def compute(
        self, predictions: Mapping[str, Detections], truth: Mapping[str, Annotation], classes: Sequence[str]
    ) -> MetricResult:
        """See `Metric.compute`."""
        check_inputs(predictions, truth, classes, "VocAP")
        found = _gather([predictions[i] for i in truth], len(classes))
        objects = _gather(list(truth.values()), len(classes))
        curves = [self._curve(*pair) for pair in zip(found, objects, strict=True)]
        scalars, rows = {}, []
        for name in self.names:
            ap = [self._ap(name, curve) for curve in curves]
            if np.isfinite(ap).any():  # else every object is difficult, and there is nothing to measure
                scalars[name] = float(np.nanmean(ap))
            rows += [
                {"class": label, "ap": value, "num_gt": curve.num_gt, "num_det": len(curve.recall), "metric": name}
                for label, value, curve in zip(classes, ap, curves, strict=True)
            ]
        return MetricResult(scalars, rows)

    def resampled(
        self,
        predictions: Mapping[str, Detections],
        truth: Mapping[str, Annotation],
        classes: Sequence[str],
        weights_BN: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """See `Metric.resampled`."""
        found = _gather([predictions[i] for i in truth], len(classes))
        objects = _gather(list(truth.values()), len(classes))
        pairs = list(zip(found, objects, strict=True))
        matches = [match(f, o, self.iou, self.extra) for f, o in pairs]
        values = {name: np.full(len(weights_BN), np.nan) for name in self.names}
        for k, weight_N in enumerate(weights_BN):
            curves = []
            for (f, o), (is_true, is_false) in zip(pairs, matches, strict=True):
                num_gt, drawn = int((weight_N[o.image] * ~o.ignored).sum()), weight_N[f.image]
                curves.append(_Curve(*recall_precision(is_true * drawn, is_false * drawn, num_gt), num_gt))
            for name in self.names:
                ap = [self._ap(name, curve) for curve in curves]
                values[name][k] = np.nanmean(ap) if np.isfinite(ap).any() else np.nan
        return values

    def _ap(self, name: str, curve: "_Curve") -> float:
        if curve.num_gt == 0:
            return float("nan")
        if len(curve.recall) == 0:
            return self.empty
        return (
            eleven_point_ap(curve.recall, curve.precision, self.grid)
            if name == "voc07_ap50"
            else area_ap(curve.recall, curve.precision)
        )

    def _curve(self, found: "_Boxes", objects: "_Boxes") -> "_Curve":
        num_gt = int((~objects.ignored).sum())
        return _Curve(*recall_precision(*match(found, objects, self.iou, self.extra), num_gt), num_gt)


@dataclass(frozen=True)
class _Curve:
    recall: np.ndarray
    precision: np.ndarray
    num_gt: int


@dataclass(frozen=True)
class _Boxes:
    """Boxes of one class over all images.

    Objects image by image, detections the most confident first (equal ones image by image).
    """

    image: np.ndarray  # (N,) position of the image
    row: np.ndarray  # (N,) position among the boxes of all classes, image by image
    boxes_xyxy: np.ndarray  # (N, 4) float64: the products of large float32 coordinates are not exact
    ignored: np.ndarray  # (N,) bool; for objects


def match(found: _Boxes, objects: _Boxes, iou: float, extra: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections, in order of confidence, are true and which are false positives.

    Neither means ignored.
    """
    first = np.searchsorted(objects.image, found.image, side="left")
    count = np.searchsorted(objects.image, found.image, side="right") - first
    # All pairs (detection, object of the same image), detection by detection.
    pair_found = np.repeat(np.arange(len(count)), count)
    starts = np.cumsum(count) - count
    pair_object = np.arange(len(pair_found)) - np.repeat(starts - first, count)
    overlap = pair_iou(found.boxes_xyxy[pair_found], objects.boxes_xyxy[pair_object], extra)
    best, owner = np.zeros(len(count)), np.zeros(len(count), np.int64)
    some = np.flatnonzero(count)
    if len(some):
        best[some] = np.maximum.reduceat(overlap, starts[some])
        is_best = np.flatnonzero(overlap == np.repeat(best, count))
        owner[pair_found[is_best][::-1]] = pair_object[is_best][::-1]  # the first of equally overlapping objects
    is_hit = best > iou
    is_ignored = is_hit.copy()
    is_ignored[is_hit] = objects.ignored[owner[is_hit]]
    hits = np.flatnonzero(is_hit & ~is_ignored)
    is_true = np.zeros(len(count), bool)
    is_true[hits[np.unique(owner[hits], return_index=True)[1]]] = True
    return is_true, ~is_true & ~is_ignored


def true_positives(
    found: Sequence[Detections], truth: Sequence[Annotation], num_classes: int, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections of N images are true and which are false positives, image by image, (D,) bool each.

    As VOC's AP counts them: one of an object's class that overlaps it by more than ``iou``, the most confident of
    several. A detection of a difficult or crowd object is neither.
    """
    is_true, is_false = (np.zeros(sum(map(len, found)), bool) for _ in range(2))
    if not len(is_true):
        return is_true, is_false
    classes = zip(_gather(list(found), num_classes), _gather(list(truth), num_classes), strict=True)
    for mine, objects in classes:
        is_true[mine.row], is_false[mine.row] = match(mine, objects, iou, 0.0)
    return is_true, is_false


def recall_precision(is_true: np.ndarray, is_false: np.ndarray, num_gt: int) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision after every detection, in order of confidence."""
    true, false = np.cumsum(is_true), np.cumsum(is_false)
    return true / max(num_gt, 1), true / np.maximum(true + false, 1)


def eleven_point_ap(recall: np.ndarray, precision: np.ndarray, grid: np.ndarray = _TOLERANT_GRID) -> float:
    """Return the mean over the grid of the best precision at that recall or beyond."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, grid, side="left")].mean())


def area_ap(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area under the precision envelope."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _gather(items: Sequence[Detections] | Sequence[Annotation], num_classes: int) -> list[_Boxes]:
    """Sort the boxes of all images into classes."""
    image = np.repeat(np.arange(len(items)), [len(item.labels) for item in items])
    labels, boxes = (np.concatenate([getattr(item, key) for item in items]) for key in ("labels", "boxes_xyxy"))
    truth = [item for item in items if isinstance(item, Annotation)]
    ignored = np.concatenate([a.difficult | a.crowd for a in truth]) if truth else np.zeros(len(image), bool)
    found = [item.confidence for item in items if isinstance(item, Detections)]
    rank = image if truth else -np.concatenate(found)
    order = np.lexsort((rank, labels))  # stable
    parts = np.split(order, np.searchsorted(labels[order], np.arange(1, num_classes)))
    return [_Boxes(image[part], part, boxes[part].astype(np.float64), ignored[part]) for part in parts]
