"""COCO's assignment of detections to objects, image by image, kept so that test images can be drawn again.

An image's assignment does not depend on the others. So it is made once, and drawing images again only changes how often
each detection and each object counts. Numbers of the test set itself come from `coco_ap`; these are equal to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.types import Annotation, Detections

IOUS = np.linspace(0.5, 0.95, 10)
AREAS = ((0.0, 1e5**2), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))
_RECALLS = np.linspace(0, 1, 101)
_MAX_DETECTIONS = 100  # of an image and class
_TINY = np.spacing(1)


@dataclass(frozen=True)
class Assigned:
    """The detections of one class over all images, the most confident first, and how many objects there are.

    Attributes:
        image_D: position of each detection's image.
        true: at each of `IOUS`, the detections that found an object.
        ignored: likewise, those that count for nothing; all others found nothing.
        objects_N: objects in each image that are not to be ignored.
    """

    image_D: np.ndarray
    true: tuple[np.ndarray, ...]
    ignored: tuple[np.ndarray, ...]
    objects_N: np.ndarray

    def ap(self, weight_N: np.ndarray) -> np.ndarray:
        """Return the average precision at each of `IOUS` if image n is there ``weight_N[n]`` times.

        NaN without objects.
        """
        count = int(self.objects_N @ weight_N)
        if count == 0:
            return np.full(len(IOUS), np.nan)
        weight_D = weight_N[self.image_D]
        so_far_D = np.cumsum(weight_D)
        return np.array([
            _average_precision(weight_D, so_far_D, true, ignored, count)
            for true, ignored in zip(self.true, self.ignored, strict=True)
        ])  # fmt: skip


def _average_precision(
    weight_D: np.ndarray, so_far_D: np.ndarray, true: np.ndarray, ignored: np.ndarray, count: int
) -> float:
    """Return the mean of the precision envelope over 101 recalls: only finds raise recall, and are its corners."""
    if not len(true):
        return 0.0
    found = np.cumsum(weight_D[true])
    left_out = np.append(0, np.cumsum(weight_D[ignored]))[np.searchsorted(ignored, true)]
    precision = found / (so_far_D[true] - left_out + _TINY)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(found / count, _RECALLS, side="left")].mean())


def assign(
    found: Sequence[Detections], truth: Sequence[Annotation], num_classes: int, area: tuple[float, float]
) -> list[Assigned]:
    """Assign the detections of all images to objects, as pycocotools does.

    The most confident detection of an image chooses first: the object of its class that it overlaps most among those
    that nobody took, crowds always among them; one that counts before one to be ignored.

    Args:
        found: detections of each image.
        truth: objects of each image.
        num_classes: K.
        area: of objects that count, in square pixels; the others are ignored, and so are detections of another area
            that found nothing.

    Returns:
        One for each class.
    """
    number = len(found)
    boxes, objects = _Boxes.of(found), _Boxes.of(truth)
    boxes = boxes.rows(np.lexsort((-boxes.extra, boxes.image, boxes.label)))  # stable
    boxes = boxes.rows(_rank(boxes.label * number + boxes.image) < _MAX_DETECTIONS)
    ignored_G = objects.extra.astype(bool) | objects.is_outside(area)
    order = np.lexsort((ignored_G, objects.image, objects.label))  # those that count first
    objects, ignored_G = objects.rows(order), ignored_G[order]
    owner_TD = _match(boxes, objects, ignored_G, number)
    is_found, is_ignored = owner_TD >= 0, np.append(ignored_G, False)[owner_TD]
    true_TD, ignored_TD = is_found & ~is_ignored, is_ignored | (~is_found & boxes.is_outside(area))
    assigned = []
    for k in range(num_classes):
        rows = np.flatnonzero(boxes.label == k)
        rows = rows[np.argsort(-boxes.extra[rows], kind="stable")]
        # What comes after the last find changes no precision that counts.
        hits = np.flatnonzero(true_TD[:, rows].any(0))
        rows = rows[: hits[-1] + 1] if len(hits) else rows[:0]
        count_N = np.bincount(objects.image[(objects.label == k) & ~ignored_G], minlength=number)
        true, ignored = (tuple(np.flatnonzero(row) for row in part[:, rows]) for part in (true_TD, ignored_TD))
        assigned.append(Assigned(boxes.image[rows], true, ignored, count_N))
    return assigned


@dataclass(frozen=True)
class _Boxes:
    """Boxes of all images.

    Attributes:
        image: (N,) position of the image.
        label: (N,) class.
        xywh: (N, 4) float64.
        extra: (N,) confidence of detections, the crowd flag of objects.
    """

    image: np.ndarray
    label: np.ndarray
    xywh: np.ndarray
    extra: np.ndarray

    @classmethod
    def of(cls, items: Sequence[Detections] | Sequence[Annotation]) -> "_Boxes":
        image = np.repeat(np.arange(len(items)), [len(item.labels) for item in items])
        boxes = np.concatenate([item.boxes_xyxy for item in items]).astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        extra = [item.crowd if isinstance(item, Annotation) else item.confidence for item in items]
        return cls(image, np.concatenate([item.labels for item in items]), boxes, np.concatenate(extra))

    def rows(self, chosen: np.ndarray) -> "_Boxes":
        return _Boxes(self.image[chosen], self.label[chosen], self.xywh[chosen], self.extra[chosen])

    def is_outside(self, area: tuple[float, float]) -> np.ndarray:
        size = self.xywh[:, 2] * self.xywh[:, 3]
        return (size < area[0]) | (size > area[1])


def _rank(group: np.ndarray) -> np.ndarray:
    """Return each row's place within its group; rows of a group lie together."""
    position = np.arange(len(group))
    is_first = np.diff(group, prepend=-1) != 0
    return position - np.maximum.accumulate(np.where(is_first, position, 0))


def _match(boxes: _Boxes, objects: _Boxes, ignored_G: np.ndarray, number: int) -> np.ndarray:
    """Return (T, D) the object each detection takes at each threshold, -1 for none.

    Detections of one rank take theirs at once in all images and classes.
    """
    group_D, group_G = (b.label * number + b.image for b in (boxes, objects))
    crowd_G, rank_D = objects.extra.astype(bool), _rank(group_D)
    first = np.searchsorted(group_G, group_D, side="left")
    count = np.searchsorted(group_G, group_D, side="right") - first
    pair_D = np.repeat(np.arange(len(count)), count)
    pair_G = np.arange(len(pair_D)) - np.repeat(np.cumsum(count) - count - first, count)
    overlap = _overlap(boxes.xywh[pair_D], objects.xywh[pair_G], crowd_G[pair_G])
    near = overlap >= IOUS[0]
    pair_D, pair_G, overlap = pair_D[near], pair_G[near], overlap[near]
    owner_TD, is_free_TG = np.full((len(IOUS), len(count)), -1), np.ones((len(IOUS), len(group_G)), bool)
    by_rank = np.argsort(rank_D[pair_D], kind="stable")
    for rows in np.split(by_rank, np.flatnonzero(np.diff(rank_D[pair_D[by_rank]])) + 1):
        if not len(rows):
            continue
        who, target, iou = pair_D[rows], pair_G[rows], overlap[rows]
        fits_TP = is_free_TG[:, target] & (iou >= np.minimum(IOUS, 1 - 1e-10)[:, None])
        # One that counts before one to be ignored, then the overlap, then the later object.
        value_TP = np.where(fits_TP, iou + 2.0 * ~ignored_G[target], -1.0)
        starts = np.flatnonzero(np.diff(who, prepend=-1))
        lengths = np.diff(np.append(starts, len(who)))
        best_TP = np.repeat(np.maximum.reduceat(value_TP, starts, axis=1), lengths, axis=1)
        place_TS = np.maximum.reduceat(
            np.where(fits_TP & (value_TP == best_TP), np.arange(len(who)), -1), starts, axis=1
        )
        t, s = np.nonzero(place_TS >= 0)
        taken = target[place_TS[t, s]]
        owner_TD[t, who[starts][s]] = taken
        is_free_TG[t, taken] = crowd_G[taken]
    return owner_TD


def _overlap(found_xywh: np.ndarray, truth_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU of pairs; of a crowd, how much of the detection lies in it."""
    low = np.maximum(found_xywh[:, :2], truth_xywh[:, :2])
    high = np.minimum(found_xywh[:, :2] + found_xywh[:, 2:], truth_xywh[:, :2] + truth_xywh[:, 2:])
    both, own = np.maximum(high - low, 0).prod(1), found_xywh[:, 2:].prod(1)
    union = np.where(crowd, own, own + truth_xywh[:, 2:].prod(1) - both)
    return np.divide(both, union, out=np.zeros(len(both)), where=both > 0)
