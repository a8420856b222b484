"""Mean IoU and Dice from one confusion matrix over all test pixels, not a mean over images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from al_lab.core.arrays import Column
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.metrics.result import MetricResult, mean_of_known, unknown_metric

IGNORE = 255  # a pixel without ground truth
# What is divided of each class, and the classes a mean leaves out; miou13 is mIoU* of the SYNTHIA benchmark.
_NOT_OF_13 = ("wall", "fence", "pole")
_KINDS = {"miou": "iou", "miou13": "iou", "foreground_iou": "iou", "dice": "dice", "foreground_dice": "dice"}
_SYNTHIA_CLASSES = 16
NAMES = tuple(_KINDS)
COLUMNS = {"offsets": Column("i", (None,)), "cells": Column("i", ("M",)), "pixels": Column("u", ("M",))}  # of a file


@dataclass(frozen=True)
class Counts:
    """Confusion matrices of N images: of C x C numbers an image, most are zero.

    Attributes:
        offsets: (N + 1,) where each image's numbers begin.
        cells: (M,) true class * C + predicted class.
        pixels: (M,) how many, uint32.
    """

    offsets: np.ndarray
    cells: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, matrices: Iterable[np.ndarray]) -> "Counts":
        """Keep what is not zero of (C, C) matrices, image by image."""
        lengths = [0]
        cells: list[np.ndarray] = [np.zeros(0, np.int32)]
        pixels: list[np.ndarray] = [np.zeros(0, np.uint32)]
        for matrix in matrices:
            flat = matrix.reshape(-1)
            cells.append(np.flatnonzero(flat).astype(np.int32))
            pixels.append(flat[cells[-1]].astype(np.uint32))
            lengths.append(len(cells[-1]))
        return cls(np.cumsum(lengths), np.concatenate(cells), np.concatenate(pixels))

    @classmethod
    def joined(cls, parts: Sequence["Counts"]) -> "Counts":
        """Return the images of all parts, in order."""
        lengths = np.concatenate([np.diff(p.offsets) for p in parts])
        return cls(
            np.append(0, np.cumsum(lengths)), np.concatenate([p.cells for p in parts]),
            np.concatenate([p.pixels for p in parts]),
        )  # fmt: skip

    def total(self, num_classes: int) -> np.ndarray:
        """Return the (C, C) int64 matrix of all images together."""
        total = np.zeros(num_classes**2, np.int64)
        np.add.at(total, self.cells, self.pixels.astype(np.int64))
        return total.reshape(num_classes, num_classes)


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Count pixels by (true class, predicted class).

    Args:
        truth: integer labels of any shape; ``ignore`` is left out.
        predicted: labels of the same shape, 0..C-1.
        num_classes: C.
        ignore: the label of pixels that don't count.

    Returns:
        (C, C) int64; matrices of several images may be added.

    Raises:
        ValueError: for shapes that differ, or a label that is neither a class nor ``ignore``.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"confusion_matrix: expected a prediction of shape {truth.shape}, got {predicted.shape}; resize it to "
            f"the image"
        )
    valid = truth != ignore
    pair = truth[valid].astype(np.int64), predicted[valid].astype(np.int64)
    for what, labels in zip(("truth", "prediction"), pair, strict=True):
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"confusion_matrix: expected labels in 0..{num_classes - 1} or {ignore} in the {what}, "
                f"got {labels.min()}..{labels.max()}; map the dataset's ids to training ids first"
            )
    return np.bincount(pair[0] * num_classes + pair[1], minlength=num_classes**2).reshape(num_classes, num_classes)


def miou_from_confusion(
    confusion_CC: np.ndarray, classes: Sequence[str], names: Sequence[str] = ("miou",)
) -> list[MetricResult]:
    """Return, for each metric, IoU = TP / (TP + FP + FN) or Dice = 2 TP / (2 TP + FP + FN) of classes, and the mean.

    ``foreground_…`` leaves out the first class, the background of binary and medical data sets. Dice (1945; the F1
    score of pixels) is a class's over all test pixels, as IoU is, not a mean over images or patients.

    A class that never occurs in the ground truth has no value (NaN in its row) and is left out of the mean: it could
    only be wrong, and where it is, the classes it was mistaken for already lose. Cityscapes' val frames hold all
    classes, so there the mean is the papers'.

    Args:
        confusion_CC: row truth, column prediction.
        classes: C names.
        names: of `NAMES`.

    Raises:
        ConfigError: for a metric that these classes don't have.
        DataError: if no pixel has a class.
    """
    check_metrics(names, classes)
    true, predicted = confusion_CC.sum(1), confusion_CC.sum(0)
    results = []
    for name in names:
        kept, value_C = _kept(name, classes), _of_classes(confusion_CC[None], _KINDS[name])[0]
        if not true[kept].any():
            raise DataError(
                explain(
                    expected="at least one test pixel with a class",
                    got="none",
                    where=name,
                    do="a mean of nothing is no number: check the id of void, or choose other test images, or none",
                )
            )
        rows = [
            {
                "class": classes[k],
                "ap": float(value_C[k]),
                "num_gt": int(true[k]),
                "num_det": int(predicted[k]),
                "metric": name,
            }
            for k in kept
        ]
        results.append(MetricResult({name: float(np.nanmean(value_C[kept]))}, rows))
    return results


def resampled_miou(
    counts: Counts, classes: Sequence[str], names: Sequence[str], weights_BN: np.ndarray
) -> dict[str, np.ndarray]:
    """Return, for each metric, its values on resampled test images, (B,).

    Args:
        counts: of N test images.
        classes: C names.
        names: of `NAMES`.
        weights_BN: how often each image is drawn, one row a draw.
    """
    number = len(classes)
    places = (np.repeat(np.arange(len(counts)), np.diff(counts.offsets)), counts.cells)
    of_images = csr_array((counts.pixels.astype(np.int64), places), shape=(len(counts), number**2))
    drawn_BCC = (csr_array(weights_BN.astype(np.int64)) @ of_images).toarray().reshape(-1, number, number)
    value_BC = {kind: _of_classes(drawn_BCC, kind) for kind in {_KINDS[name] for name in names}}
    return {name: mean_of_known(value_BC[_KINDS[name]][:, _kept(name, classes)]) for name in names}


def _kept(name: str, classes: Sequence[str]) -> list[int]:
    """Return the classes a metric's mean is over."""
    if name.startswith("foreground_"):
        return list(range(1, len(classes)))
    left_out = _NOT_OF_13 if name == "miou13" else ()
    return [k for k, label in enumerate(classes) if label not in left_out]


def _of_classes(confusion_BCC: np.ndarray, kind: str) -> np.ndarray:
    """Return the IoU or Dice of each class, (B, C); NaN where it never occurs in the ground truth."""
    hit, true = np.diagonal(confusion_BCC, axis1=1, axis2=2), confusion_BCC.sum(2)
    both = true + confusion_BCC.sum(1)
    top, bottom = (hit, both - hit) if kind == "iou" else (2 * hit, both)
    return np.divide(top, bottom, out=np.full(hit.shape, np.nan), where=true > 0)


def check_metrics(names: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse metrics that nobody computes for these classes.

    Raises:
        ConfigError: naming the metric.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(unknown_metric(name, NAMES))
        lacks = name == "miou13" and (len(classes) != _SYNTHIA_CLASSES or not set(_NOT_OF_13) <= set(classes))
        if lacks:
            raise ConfigError(
                explain(
                    expected=f"the {_SYNTHIA_CLASSES} classes of SYNTHIA for {name}, which leaves out "
                    f"{', '.join(_NOT_OF_13)}",
                    got=f"{len(classes)}: {', '.join(classes)}",
                    where="dataset.metrics",
                    do="use dataset.metrics=[miou]",
                )
            )
