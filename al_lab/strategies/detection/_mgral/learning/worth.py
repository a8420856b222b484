"""What a batch is worth to the agent: an estimate, or where nobody can tell a training (MGRAL, Sec. 3.5)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from al_lab.strategies.detection._mgral.predictor.table import Estimate

Estimator = Callable[[np.ndarray], Estimate | float | None]
Trainer = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class FallBack:
    """A batch that was trained because no record was near.

    Whoever keeps the table appends it, again after a restart.
    """

    iteration: int
    batch: tuple[int, ...]
    reward: float


@dataclass(frozen=True)
class OwnBatch:
    """What the agent would have bought after an iteration, trained as a row (``lut.online``).

    Attributes:
        iteration: after which.
        batch: positions.
        reward: what the training reached, points.
        expected: what the predictor had said before, points.
    """

    iteration: int
    batch: tuple[int, ...]
    reward: float
    expected: float


def is_due(iteration: int, iterations: int, trainings: int) -> bool:
    """Say whether one of so many trainings, evenly spread and none at the end, comes after an iteration."""
    before, after = (n * (trainings + 1) // max(iterations, 1) for n in (iteration, iteration + 1))
    return before < after <= trainings


class Worth:
    """The rewards of one iteration's batches, and where they come from.

    Args:
        iteration: which.
        estimate: the worth of a batch (B,) of positions; None, or an `Estimate` without value, if it can't tell.
        fall_back: trains a row; also appends to the table. None: nobody does.
        may_train: batches that may still be trained in this iteration.

    Attributes:
        trained: those that were.
        nearest_instead: batches that took the nearest record's worth, because none might be trained.
    """

    def __init__(self, iteration: int, estimate: Estimator, fall_back: Trainer | None, may_train: int) -> None:
        self.iteration, self.estimate, self.fall_back, self.may_train = iteration, estimate, fall_back, may_train
        self.trained: list[FallBack] = []
        self.nearest_instead = 0
        self._said: list[Estimate] = []

    def of(self, batch: np.ndarray) -> float:
        """Return what a batch is worth, points.

        Raises:
            ValueError: if nobody can tell.
        """
        found = self.estimate(batch)
        if isinstance(found, Estimate):
            self._said.append(found)
            value = found.value
        else:
            value = found
        if value is None and self.fall_back is not None and len(self.trained) < self.may_train:
            value = float(self.fall_back(batch))
            self.trained.append(FallBack(self.iteration, tuple(batch.tolist()), value))
        elif value is None and isinstance(found, Estimate):
            value = found.nearest
            self.nearest_instead += 1
        if value is None or not np.isfinite(value):
            raise ValueError(
                f"train_agent: expected a finite reward at iteration {self.iteration}, got {value}; "
                "give an Estimate, or a fall_back that trains"
            )
        return float(value)

    def mean(self, name: str) -> float | None:
        """Return the mean of a number of the estimates; None without any."""
        values = [len(e.neighbors) if name == "neighbors" else getattr(e, name) for e in self._said]
        return float(np.mean(values)) if values else None
