"""From what a predictor says to the batch that is bought (beyond MGRAL: the paper takes the B largest scores).

The agent is rewarded for batches it draws, which stay nearly random as long as its scores differ by less than 1, while
the query takes its mode, which nobody ever rewarded. ``agent.query`` says what to do about it:

- ``top``: the paper's mode.
- ``annealed``: the policy is sharpened while it learns (`policy.temperature`): what is drawn last is nearly the mode.
- ``set``: no agent decides; a search over sets maximizes the predictor itself (`search`). A table's maximum is its best
  record, as all its estimates are averages of records; a regressor's is found greedily, then by swaps.

Of the last two, a batch whose estimate lies beyond every record by more than the predictor's own error is refused:
there is no evidence for it (`Judge.ceiling`).

Shapes: N candidates, B bought, J landmarks, K clusters.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from al_lab.strategies.detection._mgral.predictor.choice import Chosen, Records
from al_lab.strategies.detection._mgral.predictor.inputs import SetValue
from al_lab.strategies.detection._mgral.predictor.ridge import Regressor
from al_lab.strategies.detection._mgral.predictor.table import Estimate

Way = Literal["top", "annealed", "set"]

SWEEPS = 10  # over the batch, each image in turn against all candidates
_DRAWS = 20  # random batches that say what an average one is worth
LEAST_GAIN = 1e-9  # points; less is rounding


@dataclass(frozen=True)
class Query:
    """What is bought, and what the predictor says of it.

    Attributes:
        batch: (B,) positions, best first.
        estimate: points.
        ceiling: what it may be at most.
        is_refused: the batch that was asked for lay above; this one does not.
    """

    batch: np.ndarray
    estimate: float
    ceiling: float
    is_refused: bool


class Judge:
    """What may be believed of batches, given a predictor and its records.

    Args:
        chosen: a predictor and its error.
        records: what it learned from.
        num: candidates.
        budget: B.
        generator: of random batches.
    """

    def __init__(self, chosen: Chosen, records: Records, num: int, budget: int, generator: np.random.Generator) -> None:
        assert chosen.predictor is not None
        self.predictor, self.num, self.budget = chosen.predictor, num, min(budget, num)
        random = [generator.choice(num, self.budget, replace=False) for _ in range(_DRAWS)]
        expected = [self.estimate(batch) for batch in random]
        rewards = records.rewards_M
        open_rows = [
            (float(r), batch)
            for r, batch in zip(rewards, records.batches, strict=True)
            if records.are_batches and len(batch) == self.budget and int(np.max(batch)) < num
        ]
        #: the best record that can be bought; without any, the random batch of the best estimate
        self.start = max(open_rows, key=lambda row: row[0])[1] if open_rows else random[int(np.argmax(expected))]
        average = float(rewards.mean()) if records.are_batches else float(np.mean(expected))
        # Simulated queries buy fewer images than this one, so the best of them leads by less.
        times = 1.0 if records.are_batches else self.budget / float(np.mean([len(b) for b in records.batches]))
        #: the best record's lead over the average one, and the error, above an average batch
        self.ceiling = average + max(times, 1.0) * (float(rewards.max() - rewards.mean()) + chosen.error)

    def estimate(self, batch: np.ndarray) -> float:
        """Return what the predictor expects of a batch, points."""
        found = self.predictor(batch)
        if isinstance(found, Estimate):
            return found.nearest if found.value is None else found.value
        return float(found)

    def accept(self, batch: np.ndarray) -> Query:
        """Return the batch; if it is beyond belief as much of it as is not: its first images, the others of `start`."""
        estimate = self.estimate(batch)
        if estimate <= self.ceiling:
            return Query(batch, estimate, self.ceiling, False)
        rest = self.start[~np.isin(self.start, batch)]
        shared = self.start[np.isin(self.start, batch)]
        for keep in range(self.budget - 1, -1, -1):
            first = batch[:keep]
            filled = np.concatenate([first, shared[~np.isin(shared, first)], rest])[: self.budget]
            if (estimate := self.estimate(filled)) <= self.ceiling:
                return Query(filled, estimate, self.ceiling, True)
        return Query(self.start, self.estimate(self.start), self.ceiling, True)

    def search(self) -> Query:
        """Return the best set the predictor knows of that may be believed."""
        if not isinstance(self.predictor, Regressor):  # all estimates are averages of records
            return Query(self.start, self.estimate(self.start), self.ceiling, False)
        value, base = self.predictor.value(), self.predictor.base
        free = search(value, base, self.num, self.budget)
        if self.estimate(free) <= self.ceiling:
            return Query(free, self.estimate(free), self.ceiling, False)
        held = search(value, base, self.num, self.budget, self.start, self.ceiling)
        return Query(held, self.estimate(held), self.ceiling, True)


def search(
    value: SetValue,
    base: np.ndarray,
    num: int,
    budget: int,
    start: np.ndarray | None = None,
    ceiling: float = np.inf,
    sweeps: int = SWEEPS,
) -> np.ndarray:
    """Maximize a function of sets over the batches of a size: greedily, then by swaps until none helps.

    Every step looks at all candidates at once, O(N J).

    Args:
        value: of the base and a batch together.
        base: positions of what is labeled already.
        num: candidates, the first of the images.
        budget: B.
        start: swap from this batch; None: from the greedy one.
        ceiling: no swap may lead above it.
        sweeps: over the batch, at most; each image in turn is swapped for the best.

    Returns:
        (B,) positions; equal values by position.
    """
    state = _State(value, base, num)
    for image in [] if start is None else start.tolist():
        state.add(image)
    while len(state.batch) < budget:
        state.add(int(np.argmax(state.with_each())))
    best = state.value()
    for _ in range(sweeps):
        before = best
        for place in range(budget):
            image = state.remove(place)
            value_N = state.with_each()
            value_N[value_N > ceiling] = -np.inf
            other = int(np.argmax(value_N))
            if value_N[other] > best + LEAST_GAIN:
                image, best = other, float(value_N[other])
            state.add(image, place)
        if best <= before:
            break
    return np.array(state.batch, np.int64)


class _State:
    """A batch under construction, and the value of every batch with one image more."""

    def __init__(self, value: SetValue, base: np.ndarray, num: int) -> None:
        self.f = value
        self.cluster_N, self.distance_NJ = value.cluster_N[:num], value.distance_NJ[:num]
        self.size, self.total, self.total_facts = len(base), float(value.image_N[base].sum()), 0.0
        self.count_K = np.bincount(value.cluster_N[base], minlength=len(value.cluster_K)).astype(np.float64)
        self.base_near_J = value.nearest(base)
        self.near_J = self.base_near_J
        self.batch: list[int] = []
        self.is_open_N = np.ones(num, bool)

    def add(self, image: int, place: int | None = None) -> None:
        self.batch.insert(len(self.batch) if place is None else place, image)
        self._count(image, 1)
        self.near_J = np.minimum(self.near_J, self.distance_NJ[image])

    def remove(self, place: int) -> int:
        image = self.batch.pop(place)
        self._count(image, -1)
        left_J = self.distance_NJ[self.batch].min(0) if self.batch else self.base_near_J
        self.near_J = np.minimum(self.base_near_J, left_J)
        return image

    def value(self) -> float:
        mean = self.total / max(self.size, 1) + self.total_facts / max(len(self.batch), 1)
        clusters = float(self.f.cluster_K @ np.log1p(self.count_K))
        return self.f.constant + mean + clusters - self.f.coverage * float(self.near_J.mean())

    def with_each(self) -> np.ndarray:
        """Return the value (N,) with each candidate; -inf for those that are in it."""
        log_K = np.log1p(self.count_K)
        step_K = self.f.cluster_K * (np.log1p(self.count_K + 1) - log_K)
        num = len(self.is_open_N)
        value_N = (self.total + self.f.image_N[:num]) / (self.size + 1) + step_K[self.cluster_N]
        value_N += (self.total_facts + self.f.fact_N[:num]) / (len(self.batch) + 1)
        if self.f.coverage:
            value_N -= self.f.coverage * np.minimum(self.distance_NJ, self.near_J).mean(1)
        value_N += self.f.constant + float(self.f.cluster_K @ log_K)
        value_N[~self.is_open_N] = -np.inf
        return value_N

    def _count(self, image: int, sign: int) -> None:
        self.size += sign
        self.total += sign * float(self.f.image_N[image])
        self.total_facts += sign * float(self.f.fact_N[image])
        self.count_K[self.cluster_N[image]] += sign
        self.is_open_N[image] = sign < 0
