"""Mean IoU from one confusion matrix over all test pixels (not a mean over images: papers report the former)."""

from collections.abc import Sequence

import numpy as np

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.metrics.result import MetricResult, unknown_metric

IGNORE = 255  # a pixel without ground truth
# What each mean leaves out; miou13 is mIoU* of the SYNTHIA benchmark.
_LEFT_OUT: dict[str, tuple[str, ...]] = {"miou": (), "miou13": ("wall", "fence", "pole")}
_SYNTHIA_CLASSES = 16
NAMES = tuple(_LEFT_OUT)


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
    """Return, for each metric, IoU = TP / (TP + FP + FN) of its classes and their mean.

    A class that never occurs in the ground truth has no IoU (NaN in its row) and is left out of the mean: it could only
    be wrong, and where it is, the classes it was mistaken for already lose. Cityscapes' val frames hold all classes, so
    there the mean is the papers'.

    Args:
        confusion_CC: row truth, column prediction.
        classes: C names.
        names: of `NAMES`.

    Raises:
        ConfigError: for a metric that these classes don't have.
        DataError: if no pixel has a class.
    """
    check_metrics(names, classes)
    hit, true, predicted = np.diag(confusion_CC), confusion_CC.sum(1), confusion_CC.sum(0)
    with np.errstate(invalid="ignore"):
        iou = np.where(true > 0, hit / (true + predicted - hit), np.nan)
    results = []
    for name in names:
        kept = [k for k, label in enumerate(classes) if label not in _LEFT_OUT[name]]
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
                "ap": float(iou[k]),
                "num_gt": int(true[k]),
                "num_det": int(predicted[k]),
                "metric": name,
            }
            for k in kept
        ]
        results.append(MetricResult({name: float(np.nanmean(iou[kept]))}, rows))
    return results


def check_metrics(names: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse metrics that nobody computes for these classes.

    Raises:
        ConfigError: naming the metric.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(unknown_metric(name, NAMES))
        missing = [label for label in _LEFT_OUT[name] if label not in classes]
        if missing or (name == "miou13" and len(classes) != _SYNTHIA_CLASSES):
            raise ConfigError(
                explain(
                    expected=f"the {_SYNTHIA_CLASSES} classes of SYNTHIA for {name}, which leaves out "
                    f"{', '.join(_LEFT_OUT[name])}",
                    got=f"{len(classes)}: {', '.join(classes)}",
                    where="dataset.metrics",
                    do="use dataset.metrics=[miou]",
                )
            )
