"""What a batch would be worth, read off a table of batches whose worth was measured (MGRAL, Sec. 3.5).

Shapes: N images, D features, M records of B images each.

| paper | here |
|---|---|
| ~X_{S,l}, its mAP | ``batches_MB[l]``, ``rewards_M[l]`` |
| Wasserstein distance of the batch to each record | ``distance_M`` |
| "preset threshold (e.g., mean minus one standard deviation)" | `Estimate.threshold` |
| "weights inversely proportional to distance" | w_l = 1 / (d_l + 1e-8)^p, p = ``weight_power`` = 1 |
| "no entry meets the threshold" | `Estimate.value` is None |

UNSPECIFIED in the paper, decided here: which Wasserstein distance (its reference, Vallender 1974, is the
one-dimensional closed form: mean over dimensions); of which distances mean and deviation are taken: "preset" says that
no batch has a part in it, so on the published pairs they are those between the rows themselves (``pairwise_std``), and
an agent that has moved away from random batches meets no record; elsewhere those of the batch in question to the
records (``query_std``), which nearly always leave a neighbor, however far it is; how many neighbors count (all below
the threshold).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from al_lab.acquisition.transport import earth_mover, sort_columns, unit_directions, wasserstein_1
from al_lab.core.fields import at_least, check_fields, not_negative, one_of, optional, share
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.predictor.leave_one_out import LeaveOneOut, distinct, judged, rank_correlation

Distance = Literal["perdim_w1", "flatten", "mean", "sliced", "emd"]
Threshold = Literal["query_std", "pairwise_std"]
Choice = Literal["table", "ridge", "ensemble", "auto"]

_EPS = 1e-8  # keeps the weight of a record that is the batch itself finite
_SLICES = 128


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """How the table is read.

    Attributes:
        distance: ``perdim_w1``: Wasserstein-1 in every dimension, averaged; ``flatten``: of all B D numbers as one
            sample; ``mean``: of the D numbers of the batches' means; ``sliced``: along 128 fixed random directions,
            averaged; ``emd``: exact, O(B^3) a record.
        threshold: mean - std of the distances of this batch (``query_std``) or of those between the rows, known before
            any batch is looked at (``pairwise_std``; Sec. 3.5: "preset").
        k_max: at most so many neighbors, the nearest; None: all below the threshold.
        weight_power: p of the weights; 1 is the paper's, more trusts near records more.
        predictor: ``table`` as described here (the paper; older files call it ``neighbors``), or beyond the paper
            ``ridge`` | ``ensemble``: what learned from it (`Regressor`), or ``auto``: the one of the three that
            predicts left-out rows best, nobody if none does better than their mean.
        num_clusters: of the images, as regressors and designed rows see them.
        keep: rows of earlier cycles stay in the table with this factor a cycle of age as their weight, see
            `al_lab.strategies.detection._mgral.rows.kept`; None: each cycle begins an empty one.
    """

    distance: Distance = "perdim_w1"
    threshold: Threshold = "query_std"
    k_max: int | None = None
    weight_power: float = 1.0
    predictor: Choice = "table"
    num_clusters: int = 16
    keep: float | None = None

    def __post_init__(self) -> None:
        if self.predictor == "neighbors":  # type: ignore[comparison-overlap]
            object.__setattr__(self, "predictor", "table")
        check_fields(
            vars(self),
            {
                "distance": one_of(*get_args(Distance)),
                "threshold": one_of(*get_args(Threshold)),
                "predictor": one_of(*get_args(Choice)),
                "num_clusters": at_least(2),
                "k_max": optional(at_least(1)),
                "weight_power": not_negative,
                "keep": optional(share),
            },
            "strategy.lut",
        )


@dataclass(frozen=True)
class Estimate:
    """What the table says of one batch.

    Attributes:
        value: the estimated reward; None if no record is near enough.
        nearest: the reward of the nearest record.
        neighbors: (K,) records below the threshold, nearest first.
        weights: (K,) theirs, sum 1.
        threshold: distances below it count.
        distance_min, distance_mean, distance_std: over all records.
    """

    value: float | None
    nearest: float
    neighbors: np.ndarray
    weights: np.ndarray
    threshold: float
    distance_min: float
    distance_mean: float
    distance_std: float


def estimate(
    distance_M: np.ndarray,
    rewards_M: np.ndarray,
    settings: TableSettings,
    threshold: float | None = None,
    weight_M: np.ndarray | None = None,
) -> Estimate:
    """Average the rewards of the records that are near: sum_l w_l mAP_l / sum_l w_l over l with d_l < threshold.

    Args:
        distance_M: of the batch to every record, >= 0.
        rewards_M: of the records.
        settings: see there.
        threshold: None: mean - std (of the population) of these distances.
        weight_M: of the records, a factor on w_l; None: all 1.
    """
    mean, std = float(distance_M.mean()), float(distance_M.std())
    threshold = mean - std if threshold is None else threshold
    order = np.argsort(distance_M, kind="stable")
    near = order[distance_M[order] < threshold][: settings.k_max]
    weight = (distance_M[near] + _EPS) ** -settings.weight_power
    weight = weight if weight_M is None else weight * weight_M[near]
    weight = weight / weight.sum() if len(near) else weight
    value = float(weight @ rewards_M[near]) if len(near) else None
    return Estimate(value, float(rewards_M[order[0]]), near, weight, threshold, float(distance_M[order[0]]), mean, std)


@dataclass(frozen=True, kw_only=True)
class TableLeaveOneOut(LeaveOneOut):
    """What is told of the table besides.

    Where no neighbor is below the threshold, a record's estimate is its nearest neighbor's reward.

    Attributes:
        distance_correlation: Spearman's, distance against difference of rewards, over all pairs; near batches should be
            worth the same.
        num_without_neighbors: records that would have been a fall-back.
    """

    distance_correlation: float
    num_without_neighbors: int


def leave_one_out(
    distance_MM: np.ndarray,
    rewards_M: np.ndarray,
    settings: TableSettings,
    same_M: np.ndarray | None = None,
    weight_M: np.ndarray | None = None,
) -> TableLeaveOneOut:
    """Estimate every record from the others.

    Args:
        distance_MM: between records.
        rewards_M: at least 3.
        settings: see there.
        same_M: records of equal number are trainings on the same batch: none of them helps to predict another.
        weight_M: see `Table`.

    Raises:
        ValueError: with fewer than 3 distinct batches.
    """
    num = len(rewards_M)
    same = np.arange(num) if same_M is None else np.asarray(same_M)
    if len(np.unique(same)) < 3:  # noqa: PLR2004
        raise ValueError(
            f"leave_one_out: expected at least 3 distinct batches, got {len(np.unique(same))}; build a larger table"
        )
    threshold = pairwise_threshold(distance_MM) if settings.threshold == "pairwise_std" else None
    weight = np.ones(num) if weight_M is None else weight_M
    estimates, alone = np.empty(num), 0
    for k in range(num):
        others = np.flatnonzero(same != same[k])
        guess = estimate(distance_MM[k, others], rewards_M[others], settings, threshold, weight[others])
        estimates[k] = guess.nearest if guess.value is None else guess.value
        alone += guess.value is None
    a, b = np.triu_indices(num, 1)
    a, b = a[same[a] != same[b]], b[same[a] != same[b]]
    general = judged(estimates, rewards_M, same, weight)
    return TableLeaveOneOut(
        **vars(general),
        distance_correlation=rank_correlation(distance_MM[a, b], np.abs(rewards_M[a] - rewards_M[b])),
        num_without_neighbors=alone,
    )


def pairwise_threshold(distance_MM: np.ndarray) -> float:
    """Return mean - std of the distances between different records."""
    distances = distance_MM[np.triu_indices(len(distance_MM), 1)]
    return float(distances.mean() - distances.std()) if len(distances) else 0.0


class Table:
    """Records with their features ready to be compared: sorting them once is what makes an estimate fast.

    Args:
        features_ND: of all images, standardized over the pool.
        batches_MB: positions of each record's images.
        rewards_M: in the metric's points (0..100).
        settings: how it is read.
        rng: names the directions of ``sliced``.
        weight_M: of the records: those of earlier labeled sets count less; None: all 1.
    """

    name = "table"

    def __init__(
        self,
        features_ND: np.ndarray,
        batches_MB: Sequence[np.ndarray] | np.ndarray,
        rewards_M: np.ndarray,
        settings: TableSettings,
        rng: Rng,
        weight_M: np.ndarray | None = None,
    ) -> None:
        self.features_ND = np.ascontiguousarray(features_ND, np.float32)
        self.settings = settings
        self._directions = unit_directions(features_ND.shape[1], _SLICES, rng.generator("slices")).astype(np.float32)
        self.batches = [np.asarray(batch, np.int64) for batch in batches_MB]
        self.rewards_M = np.array(rewards_M, np.float64)
        self.weight_M = np.ones(len(self.rewards_M)) if weight_M is None else np.array(weight_M, np.float64)
        if len(self.batches) != len(self.rewards_M) or not len(self.batches) or not np.isfinite(self.rewards_M).all():
            raise ValueError(
                f"Table: expected one finite reward a batch and at least one, got {len(self.batches)} batches "
                f"and rewards "
                f"{self.rewards_M}; build the missing rows"
            )
        self._num_rows = len(self.batches)
        self._blocks: list[np.ndarray] = []
        if settings.distance != "emd":
            self._blocks.append(self._sorted(self.batches))

    def __len__(self) -> int:
        return len(self.rewards_M)

    def __call__(self, batch: np.ndarray) -> Estimate:
        """Estimate the reward of a batch (B,) of positions."""
        threshold = self._pairwise_threshold if self.settings.threshold == "pairwise_std" else None
        return estimate(self.distances(batch), self.rewards_M, self.settings, threshold, self.weight_M)

    def append(self, batch: np.ndarray, reward: float) -> None:
        """Add a batch that was trained because nothing was near; it counts from the next estimate on."""
        batch = np.asarray(batch, np.int64)
        if self.settings.distance != "emd":
            self._blocks.append(self._sorted([batch]))
        self.batches.append(batch)
        self.rewards_M = np.append(self.rewards_M, reward)
        self.weight_M = np.append(self.weight_M, 1.0)

    def distances(self, batch: np.ndarray) -> np.ndarray:
        """Return the distances (M,) of a batch to all records."""
        if self.settings.distance == "emd":
            return np.array([earth_mover(self.features_ND[batch], self.features_ND[other]) for other in self.batches])
        mine = sort_columns(self._view(self.features_ND[batch]))
        return np.concatenate([wasserstein_1(mine, block).mean(1) for block in self._blocks])

    def pairwise(self) -> np.ndarray:
        """Return the distances (M, M) between records."""
        return np.stack([self.distances(batch) for batch in self.batches])

    def leave_one_out(self) -> TableLeaveOneOut:
        """See the function of this name; records of the same images count as one batch."""
        return leave_one_out(self.pairwise(), self.rewards_M, self.settings, distinct(self.batches), self.weight_M)

    @cached_property
    def _pairwise_threshold(self) -> float:
        # Of the rows, not of batches that an agent's drift added, whether or not they came before the first question.
        rows = slice(self._num_rows)
        return pairwise_threshold(np.stack([self.distances(batch)[rows] for batch in self.batches[rows]]))

    def _sorted(self, batches: list[np.ndarray]) -> np.ndarray:
        size, dim = self._view(self.features_ND[batches[0]]).shape
        if any(len(batch) != len(batches[0]) for batch in batches):
            raise ValueError(
                f"Table: expected records of one size, got sizes {sorted({len(b) for b in batches})}; build the "
                f"table anew"
            )
        table_DMB = np.empty((dim, len(batches), size), np.float32)
        for m, batch in enumerate(batches):
            table_DMB[:, m] = sort_columns(self._view(self.features_ND[batch]))
        return table_DMB

    def _view(self, batch_BD: np.ndarray) -> np.ndarray:
        views: dict[str, Callable[[], np.ndarray]] = {
            "perdim_w1": lambda: batch_BD,
            "flatten": lambda: batch_BD.reshape(-1, 1),
            "mean": lambda: batch_BD.mean(0)[:, None],
            "sliced": lambda: batch_BD @ self._directions,
        }
        return views[self.settings.distance]()
