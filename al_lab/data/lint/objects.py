"""The objects of some images, predicted or known, as rows whose sums describe any set of these images.

Shapes: N images, A objects, C classes, B bins of sizes, K bins of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from al_lab.core.types import Annotation
from al_lab.data.predictions.table import Predictions

#: bins of an object's side, in octaves; half an octave wide
_BINS_PER_OCTAVE = 2
_OCTAVES_PX = (0.0, 12.0)  # 1 to 4096 pixels
_OCTAVES_SHARE = (-10.0, 0.0)  # a thousandth of the image's side to all of it
#: from how many objects on an image is in the next bin
COUNT_EDGES = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5)


@dataclass(frozen=True)
class Objects:
    """A objects of N images.

    Attributes:
        image: (A,) int64, 0..N-1.
        label: (A,) int64.
        weight: (A,) float64: 1 of a known object, the confidence of a predicted one.
        side: (A,) float64, square root of the area, in pixels or as a share of the image's; NaN where nobody knows.
        num_images: N.
        in_shares: which of the two ``side`` is.
        is_known: people said it; otherwise a detector.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    side: np.ndarray
    num_images: int
    in_shares: bool
    is_known: bool

    @classmethod
    def predicted(cls, predictions: Predictions, ids: Sequence[str]) -> Objects:
        """Return what a detector expects in some images; sides are shares where all its boxes are."""
        rows = [predictions.rows(i) for i in ids]
        count_N = np.array([r.stop - r.start for r in rows], np.int64)
        start_N = np.array([r.start for r in rows], np.int64)
        image = np.repeat(np.arange(len(rows)), count_N)
        at = np.arange(len(image)) - np.repeat(np.cumsum(count_N) - count_N, count_N) + np.repeat(start_N, count_N)
        in_shares = bool(len(predictions.is_fraction)) and bool(predictions.is_fraction.all())
        side = np.where(predictions.is_fraction[at] == in_shares, _side(predictions.boxes[at]), np.nan)
        weight = predictions.confidence[at].astype(np.float64)
        return cls(image, predictions.labels[at], weight, side, len(rows), in_shares, False)

    @classmethod
    def known(
        cls, annotations: Sequence[Annotation], size_hw: Callable[[int], tuple[int, int]] | None = None
    ) -> Objects:
        """Return what people labeled; crowds count as one object.

        Args:
            annotations: of N images.
            size_hw: of each of them, where sides are to be shares; None: pixels.
        """
        count_N = [len(a.labels) for a in annotations]
        image = np.repeat(np.arange(len(annotations)), count_N)
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(a.boxes_xyxy for a in annotations)])
        label = np.concatenate([np.zeros(0, np.int64), *(a.labels for a in annotations)])
        side = _side(boxes)
        if size_hw is not None:
            side /= np.repeat([np.sqrt(np.prod(size_hw(n))) for n in range(len(annotations))], count_N)
        return cls(image, label, np.ones(len(label)), side, len(annotations), size_hw is not None, True)


def _side(boxes: np.ndarray) -> np.ndarray:
    width_height = (boxes[:, 2:] - boxes[:, :2]).clip(0).astype(np.float64)
    return np.asarray(np.sqrt(width_height.prod(1)))


@dataclass(frozen=True)
class Rows:
    """What is added up over the images of a set.

    Attributes:
        class_NC: objects of each class.
        shows_NC: 1 where an image shows a class.
        side_NB: objects by side, half an octave a bin.
        count_NK: 1 in the bin of the image's number of objects.
    """

    class_NC: csr_array
    shows_NC: csr_array
    side_NB: csr_array
    count_NK: csr_array


def rows_of(objects: Objects, num_classes: int, shows: float) -> Rows:
    """Return the rows of N images.

    Args:
        objects: of them.
        num_classes: C.
        shows: confidence from which on an image counts as one that shows a class.
    """
    num, image = objects.num_images, objects.image
    sure = objects.weight >= shows
    shows_NC = _added(image[sure], objects.label[sure], np.ones(int(sure.sum())), (num, num_classes))
    shows_NC.data[:] = 1.0
    has_side = np.isfinite(objects.side)
    first, last = _OCTAVES_SHARE if objects.in_shares else _OCTAVES_PX
    num_bins = int((last - first) * _BINS_PER_OCTAVE)
    with np.errstate(divide="ignore"):
        octave = np.log2(objects.side[has_side]) - first
    side = np.nan_to_num(octave * _BINS_PER_OCTAVE, neginf=0).clip(0, num_bins - 1).astype(np.int64)
    count_N = np.bincount(image, objects.weight, num)
    return Rows(
        _added(image, objects.label, objects.weight, (num, num_classes)),
        shows_NC,
        _added(image[has_side], side, objects.weight[has_side], (num, num_bins)),
        _added(np.arange(num), np.searchsorted(COUNT_EDGES, count_N), np.ones(num), (num, len(COUNT_EDGES) + 1)),
    )


def _added(row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> csr_array:
    found = csr_array((value, (row, column)), shape=shape)
    found.sum_duplicates()
    return found


def class_distance(a_RC: np.ndarray, b_C: np.ndarray) -> np.ndarray:
    """Return the total variation ½ Σ |p - q| of class shares, (R,): 0 the same, 1 no class in common."""
    return np.asarray(0.5 * np.abs(shares(a_RC) - shares(b_C)).sum(-1))


def side_distance(a_RB: np.ndarray, b_B: np.ndarray) -> np.ndarray:
    """Return the earth mover's distance of sides, (R,) octaves: 1 = objects are half or twice as large on average."""
    moved = (shares(a_RB) - shares(b_B)).cumsum(-1)
    return np.asarray(np.abs(moved).sum(-1) / _BINS_PER_OCTAVE)


def typical_side(a_RB: np.ndarray, in_shares: bool) -> np.ndarray:
    """Return the geometric mean of the sides, (R,), as `Objects.side` has them; to within a bin."""
    first = (_OCTAVES_SHARE if in_shares else _OCTAVES_PX)[0]
    octave_B = first + (np.arange(a_RB.shape[-1]) + 0.5) / _BINS_PER_OCTAVE
    return np.asarray(2 ** (shares(a_RB) @ octave_B))


def shares(sums: np.ndarray) -> np.ndarray:
    """Return sums as shares of their total along the last axis; zeros where there is nothing."""
    sums = np.asarray(sums, np.float64)
    total = sums.sum(-1, keepdims=True)
    return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
