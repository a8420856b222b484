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
_MOST_AT_ONCE = 2**16  # detections of one class, times how often the images are drawn: half a megabyte an array
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
        once = self._by_class(predictions, truth, classes, np.ones((1, len(truth)), np.int64))
        scalars, rows = {}, []
        for name, ap_1C in once.ap_BC.items():
            ap = ap_1C[0].tolist()
            if np.isfinite(ap).any():  # else every object is difficult, and there is nothing to measure
                scalars[name] = float(np.nanmean(ap))
            rows += [
                {"class": label, "ap": value, "num_gt": objects, "num_det": found, "metric": name}
                for label, value, objects, found in zip(classes, ap, once.num_gt, once.num_det, strict=True)
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
        values = {}
        for name, ap_BC in self._by_class(predictions, truth, classes, weights_BN).ap_BC.items():
            known = np.isfinite(ap_BC).any(1)
            values[name] = np.full(len(weights_BN), np.nan)
            values[name][known] = np.nanmean(ap_BC[known], 1)
        return values

    def _by_class(
        self,
        predictions: Mapping[str, Detections],
        truth: Mapping[str, Annotation],
        classes: Sequence[str],
        weights_BN: np.ndarray,
    ) -> "_ByClass":
        found = _gather([predictions[i] for i in truth], len(classes))
        objects = _gather(list(truth.values()), len(classes))
        ap_BC = {name: np.full((len(weights_BN), len(classes)), np.nan) for name in self.names}
        for column, (mine, theirs) in enumerate(zip(found, objects, strict=True)):
            is_true, is_false = match(mine, theirs, self.iou, self.extra)
            num_gt_B = (np.take(weights_BN, theirs.image, 1) * ~theirs.ignored).sum(1)
            for name, ap_B in self.of_class(is_true, is_false, mine.image, num_gt_B, weights_BN).items():
                ap_BC[name][:, column] = ap_B
        num_gt = [int((~theirs.ignored).sum()) for theirs in objects]
        return _ByClass(ap_BC, num_gt, [len(mine.image) for mine in found])

    def of_class(
        self,
        is_true: np.ndarray,
        is_false: np.ndarray,
        image: np.ndarray,
        num_gt_B: np.ndarray,
        weights_BN: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Return the average precision of one class for every draw of the test images, (B,); NaN without an object.

        Args:
            is_true: (D,) bool, detections that are true positives, the most confident first.
            is_false: (D,) likewise false positives.
            image: (D,) position of each detection's image.
            num_gt_B: objects to find in each draw.
            weights_BN: how often each image is drawn, one row a draw.
        """
        ap_B = {name: np.full(len(weights_BN), np.nan) for name in self.names}
        rows = max(_MOST_AT_ONCE // max(len(is_true), 1), 1)
        for some in (slice(k, k + rows) for k in range(0, len(weights_BN), rows)):
            drawn_BD = np.take(weights_BN[some], image, 1)
            recall, precision = recall_precision(is_true * drawn_BD, is_false * drawn_BD, num_gt_B[some])
            for name in self.names:
                ap_B[name][some] = np.where(num_gt_B[some] > 0, self._ap(name, recall, precision), np.nan)
        return ap_B

    def _ap(self, name: str, recall: np.ndarray, precision: np.ndarray) -> np.ndarray | float:
        if recall.shape[-1] == 0:
            return self.empty
        return eleven_point_ap(recall, precision, self.grid) if name == "voc07_ap50" else area_ap(recall, precision)


@dataclass(frozen=True)
class _ByClass:
    """Average precision of each class, for each of B times that test images are drawn.

    NaN where no object is drawn; ``num_gt`` and ``num_det`` of each class are those of each image drawn once.
    """

    ap_BC: dict[str, np.ndarray]
    num_gt: list[int]
    num_det: list[int]


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


def recall_precision(
    is_true: np.ndarray, is_false: np.ndarray, num_gt: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision after every detection, in order of confidence.

    Args:
        is_true: (..., D) how often each detection counts as a true positive.
        is_false: (..., D) likewise as a false positive.
        num_gt: (...) objects to find.
    """
    true, false = np.cumsum(is_true, -1), np.cumsum(is_false, -1)
    return true / np.maximum(num_gt, 1)[..., None], true / np.maximum(true + false, 1)


def eleven_point_ap(recall: np.ndarray, precision: np.ndarray, grid: np.ndarray = _TOLERANT_GRID) -> np.ndarray:
    """Return the mean over the grid of the best precision at that recall or beyond; (..., D) -> (...)."""
    envelope = _envelope(precision)
    envelope = np.concatenate([envelope, np.zeros((*envelope.shape[:-1], 1))], -1)
    at = [np.searchsorted(row, grid, side="left") for row in recall.reshape(-1, recall.shape[-1])]
    return np.take_along_axis(envelope, np.reshape(at, (*recall.shape[:-1], len(grid))), -1).mean(-1)


def area_ap(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the area under the precision envelope; (..., D) -> (...)."""
    return (np.diff(recall, prepend=0.0) * _envelope(precision)).sum(-1)


def _envelope(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[..., ::-1], -1)[..., ::-1]


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
