"""What a metric is given and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation, Detections


@dataclass(frozen=True)
class MetricResult:
    """Numbers of one evaluation.

    Attributes:
        scalars: name -> value in [0, 1]; a name is absent if no object of the test set counts for it (small ones, say).
        per_class: rows with class, ap, num_gt, num_det, metric; ap is NaN for a class the test set does not have, and
            such a class is left out of the mean.
    """

    scalars: dict[str, float]
    per_class: list[dict[str, Any]] = field(default_factory=list)


class Metric(ABC):
    """Compares detections with ground truth over a whole test set.

    Attributes:
        names: the scalars it computes, such as ``voc07_ap50``.
    """

    names: tuple[str, ...]

    @abstractmethod
    def compute(
        self, predictions: Mapping[str, Detections], truth: Mapping[str, Annotation], classes: Sequence[str]
    ) -> MetricResult:
        """Return the result; both mappings have the ids of the whole test set.

        Raises:
            DataError: if they don't, if a label has no class, or if there is no object at all.
        """

    @abstractmethod
    def resampled(
        self,
        predictions: Mapping[str, Detections],
        truth: Mapping[str, Annotation],
        classes: Sequence[str],
        weights_BN: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Return the metrics on resampled test images.

        Args:
            predictions: as for `compute`.
            truth: likewise; its order is that of the images in ``weights_BN``.
            classes: of the dataset.
            weights_BN: how often each image is drawn, one row a draw.

        Returns:
            Metric -> (B,) values; NaN for a draw without any object.
        """


def mean_of_known(values_BK: np.ndarray) -> np.ndarray:
    """Return the mean over classes of each row, (B,), without those that are NaN; NaN if all are."""
    known = np.isfinite(values_BK)
    total = np.where(known, values_BK, 0).sum(1)
    return np.divide(total, known.sum(1), out=np.full(len(values_BK), np.nan), where=known.any(1))


def check_inputs(
    predictions: Mapping[str, Detections], truth: Mapping[str, Annotation], classes: Sequence[str], where: str
) -> None:
    """Refuse what can't be evaluated honestly; see `Metric.compute`."""
    for expected, given, what in ((truth, predictions, "predictions"), (predictions, truth, "ground truth")):
        missing = next((i for i in expected if i not in given), None)
        if missing is not None:
            raise DataError(
                explain(
                    expected=f"{what} of every test image",
                    got=f"none of {missing!r}",
                    where=where,
                    do="evaluate and predict the same ids",
                )
            )
    for what, items in (("detection", predictions), ("object", truth)):
        for sample_id, item in items.items():
            k = item.labels
            if len(k) and not 0 <= k.min() <= k.max() < len(classes):
                raise DataError(
                    explain(
                        expected=f"labels in 0..{len(classes) - 1}",
                        got=f"{what} labels {k.min()}..{k.max()} in {sample_id!r}",
                        where=where,
                        do="use the dataset's own classes for both",
                    )
                )
    if not any(len(a.labels) for a in truth.values()):
        raise DataError(
            explain(
                expected="at least one object in the test set",
                got=f"none in {len(truth)} images",
                where=where,
                do="an AP of nothing is no number: choose test images with objects, or none at all",
            )
        )


def unknown_metric(name: str, choices: Sequence[str]) -> str:
    """Return the message for a metric that does not exist."""
    return explain(expected="a metric's name", got=repr(name), where="dataset.metrics", do=did_you_mean(name, choices))
