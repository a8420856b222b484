"""Mean IoU from one confusion matrix over all test pixels (not a mean over images: papers report the former)."""

from collections.abc import Sequence

import numpy as np

from al_lab.metrics.result import MetricResult

IGNORE = 255  # a pixel without ground truth


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
        raise ValueError(f"confusion_matrix: expected a prediction of shape {truth.shape}, got {predicted.shape}; resize it to the image")
    valid = truth != ignore
    pair = truth[valid].astype(np.int64), predicted[valid].astype(np.int64)
    for what, labels in zip(("truth", "prediction"), pair, strict=True):
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(f"confusion_matrix: expected labels in 0..{num_classes - 1} or {ignore} in the {what}, "
                             f"got {labels.min()}..{labels.max()}; map the dataset's ids to training ids first")
    return np.bincount(pair[0] * num_classes + pair[1], minlength=num_classes**2).reshape(num_classes, num_classes)


def miou_from_confusion(confusion_CC: np.ndarray, classes: Sequence[str], name: str = "miou") -> MetricResult:
    """Return IoU = TP / (TP + FP + FN) of each class and its mean over the classes that occur in the ground truth.

    Args:
        confusion_CC: row truth, column prediction.
        classes: C names.
        name: the scalar's.
    """
    hit, true, predicted = np.diag(confusion_CC), confusion_CC.sum(1), confusion_CC.sum(0)
    with np.errstate(invalid="ignore"):
        iou = np.where(true > 0, hit / (true + predicted - hit), np.nan)
    rows = [{"class": label, "ap": float(iou[k]), "num_gt": int(true[k]), "num_det": int(predicted[k]), "metric": name}
            for k, label in enumerate(classes)]
    return MetricResult({name: float(np.nanmean(iou)) if (true > 0).any() else 0.0}, rows)
