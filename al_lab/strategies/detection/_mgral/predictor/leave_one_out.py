"""How well a predictor tells each of its records from the others: the only evidence there is that its word counts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import spearmanr


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """How well each record is predicted from the others, against "the mean of the others".

    Attributes:
        estimates: (M,) of each record.
        rmse: root mean square error of the estimates, records of earlier labeled sets counting less.
        rmse_of_mean: that of the mean of the other records; an estimator that does not beat it gives the agent only
            noise to learn from.
        rank_correlation: Spearman's, estimates against rewards. A record that leaves lowers the others' mean if it is
            good, so a useless estimator comes out slightly below 0.
    """

    estimates: np.ndarray = field(repr=False)
    rmse: float
    rmse_of_mean: float
    rank_correlation: float

    @property
    def is_better_than_mean(self) -> bool:
        """Say whether looking at the batch helps at all."""
        return self.rmse < self.rmse_of_mean

    @property
    def is_believed(self) -> bool:
        """Say whether an agent may follow it: a smaller error than the mean's, and the right order."""
        return self.is_better_than_mean and self.rank_correlation > 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"estimates": self.estimates.tolist(), "is_better_than_mean": self.is_better_than_mean}


def judged(
    estimates_M: np.ndarray, rewards_M: np.ndarray, same_M: np.ndarray, weight_M: np.ndarray | None = None
) -> LeaveOneOut:
    """Compare estimates that were made without the record with the mean of the others.

    Args:
        estimates_M: points.
        rewards_M: points.
        same_M: records of equal number are trainings on the same images: none of them counts among "the others".
        weight_M: of the records; None: all 1.
    """
    weight = np.ones(len(rewards_M)) if weight_M is None else weight_M
    means = np.empty(len(rewards_M))
    for k in range(len(rewards_M)):
        others = same_M != same_M[k]
        means[k] = np.average(rewards_M[others], weights=weight[others])
    return LeaveOneOut(
        estimates=estimates_M,
        rmse=_rms(estimates_M - rewards_M, weight),
        rmse_of_mean=_rms(means - rewards_M, weight),
        rank_correlation=rank_correlation(estimates_M, rewards_M),
    )


def distinct(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return for each set of positions a number (M,) that equal sets share."""
    keys: dict[bytes, int] = {}
    return np.array([keys.setdefault(np.sort(s).tobytes(), len(keys)) for s in sets])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's; 0 if either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:  # noqa: PLR2004
        return 0.0
    return float(spearmanr(a, b).statistic)


def best_believed(found: Mapping[str, LeaveOneOut]) -> str | None:
    """Return the predictor of least error among those that are believed; None if there is none."""
    believed = {name: judgment.rmse for name, judgment in found.items() if judgment.is_believed}
    return min(believed, key=lambda name: believed[name]) if believed else None


def _rms(errors: np.ndarray, weight: np.ndarray) -> float:
    return float(np.sqrt(np.average(errors**2, weights=weight)))
