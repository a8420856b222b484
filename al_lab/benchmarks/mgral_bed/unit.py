"""One pool with one initial set: what is labeled, what the head says, what rows and batches are worth.

Shapes: N images of the pool in the agent's reading order (candidates first, then the labeled ones), B of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from al_lab.benchmarks.mgral_bed.head import Truth, expected_gains, fit, go_on, mean_ap, probabilities
from al_lab.benchmarks.mgral_bed.pools import Bed
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.strategies.detection._mgral.batches import by_clusters, halves, part_size, uniform
from al_lab.strategies.detection._mgral.gradient.information import InformationGain
from al_lab.strategies.detection._mgral.predictor.choice import Records
from al_lab.strategies.detection._mgral.world import order_images

_COMPONENTS = 96


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        initial: labeled images.
        budget: B.
        rows: M.
        num_clusters: of designed rows and of the regressors.
        iterations: of an agent.
        random: batches that stand for "random".
        trainings: seeds by which a batch's truth is measured.
    """

    initial: int = 60
    budget: int = 40
    rows: int = 16
    num_clusters: int = 16
    iterations: int = 300
    random: int = 12
    trainings: int = 4


class Unit:
    """See the module's text.

    Args:
        bed: the pool.
        seed: of initial set, rows, agents and heads.
        size: of everything.
    """

    def __init__(self, bed: Bed, seed: int, size: Size) -> None:
        self.bed, self.size, self.rng = bed, size, Rng(seed, bed.name)
        self._standard = _components(bed.pool_ND, (bed.pool_ND, bed.val_VD, bed.test_TD))
        first = self.rng.generator("initial").permutation(len(bed.ids))[: size.initial]
        labels = Truth(self._standard[0][first], bed.pool_NC[first])
        self.base = fit(labels, [self.rng.seed("base") % 2**31])
        p_NC = probabilities(self.base, self._standard[0])[:, 0]
        info = {"embedding": self._standard[0], **_facts(p_NC)}
        candidates = Candidates.images(bed.ids, np.zeros(len(bed.ids)), **info)
        ids, self.images = order_images(
            candidates, [bed.ids[n] for n in first], self.rng.child("order"), "perm", standardize=False
        )
        place = {i: n for n, i in enumerate(bed.ids)}
        rows = np.array([place[i] for i in ids])
        self.ids, self.x_ND, self.y_NC, self.kind_N = ids, self._standard[0][rows], bed.pool_NC[rows], bed.kind_N[rows]
        self._val = Truth(self._standard[1], bed.val_VC)
        self._test = Truth(self._standard[2], bed.test_TC)
        self._simulate()
        self._records: dict[tuple[str, str], Records] = {}
        self._known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def worth(self, batch: np.ndarray, base: np.ndarray | None = None) -> float:
        """Return the mean test mAP of heads trained with the batch's labels, points."""
        return float(self._trained(batch, base)[0].mean())

    def reward(self, batch: np.ndarray, base: np.ndarray | None = None) -> float:
        """Return what a row with labels reaches: one head, measured on validation images, points.

        Args:
            batch: positions, beside those of ``base``.
            base: None: all that is labeled.
        """
        return float(self._trained(batch, base)[1][0])

    def _trained(self, batch: np.ndarray, base: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the heads of each seed reach on test and validation images; all sets share the seeds."""
        all_ = np.sort(np.concatenate([self.images.labeled if base is None else base, batch]))
        if all_.tobytes() not in self._known:
            seeds = [self.rng.seed("head", k) % 2**31 for k in range(self.size.trainings)]
            heads = fit(Truth(self.x_ND[all_], self.y_NC[all_]), seeds)
            self._known[all_.tobytes()] = mean_ap(heads, self._test), mean_ap(heads, self._val)
        return self._known[all_.tobytes()]

    def surrogate(self, batch: np.ndarray) -> float:
        """Return what a row reaches that goes on from the base with the batch, without its labels, points."""
        labeled = self.images.labeled
        labels = Truth(self.x_ND[labeled], self.y_NC[labeled])
        head = go_on(self.base, labels, self.x_ND[batch], self.rng.seed("row") % 2**31)
        return float(mean_ap(head, self._val)[0])

    @cached_property
    def chance(self) -> float:
        """The mean truth of random batches, points."""
        return float(np.mean([self.worth(batch) for batch in self.random]))

    @property
    def noise(self) -> float:
        """Standard deviation of one training on a random batch over seeds, without what a seed does to all, points."""
        values = np.stack([self._trained(batch, None)[0] for batch in self.random])
        apart = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        return float(np.sqrt((apart**2).sum() / ((values.shape[0] - 1) * max(values.shape[1] - 1, 1))))

    @cached_property
    def random(self) -> list[np.ndarray]:
        """Batches that stand for "random"."""
        draw = self.rng.child("random batches")
        return [
            draw.generator(n).choice(self.images.num, self.size.budget, replace=False) for n in range(self.size.random)
        ]

    def rows(self, kind: str) -> list[np.ndarray]:
        """Return positions of the rows' batches: ``uniform`` | ``clusters``."""
        s, ids = self.size, self.ids[: self.images.num]
        features = self.images.features_ND[: self.images.num]
        found = (
            uniform(ids, s.budget, s.rows, self.rng.child("lut"))
            if kind == "uniform"
            else by_clusters(ids, features, s.budget, s.rows, s.num_clusters, self.rng.child("lut"))
        )
        return self._positions(found)

    @cached_property
    def gains(self) -> np.ndarray:
        """What each candidate's labels change in the loss of the validation images, (N,), without any training."""
        return expected_gains(self.base, self.x_ND[: self.images.num], self._val)

    @cached_property
    def information(self) -> InformationGain:
        """What batches are worth by these gains, near copies counting less."""
        features, num = self.images.features_ND, self.images.num
        return InformationGain(features[:num], self.gains, features[num:])

    def _simulate(self) -> None:
        """Cut the labeled set, and let a head that saw the one part say how unsure it is of the other."""
        labeled = self.images.labeled
        self.halves = halves([self.ids[n] for n in labeled], self.rng.child("halves"))
        first, second = (self._positions([half])[0] for half in self.halves)
        head = fit(Truth(self.x_ND[first], self.y_NC[first]), [self.rng.seed("half") % 2**31])
        for name, values in _facts(probabilities(head, self.x_ND)[:, 0]).items():
            self.images.facts[name][second] = values[second]

    def parts(self) -> list[np.ndarray]:
        """Return positions of structured parts of the labeled set's second half."""
        _, second = self.halves
        features = self.images.features_ND[self._positions([second])[0]]
        s = self.size
        return self._positions(
            by_clusters(second, features, part_size(len(second)), s.rows, s.num_clusters, self.rng.child("lut parts"))
        )

    def records(self, rows: str, rewards: str) -> Records:
        """Return the table.

        Args:
            rows: ``uniform`` | ``clusters``, or ``labeled``: parts of the labeled set, which have labels.
            rewards: ``surrogate`` | ``true``: with labels.
        """
        if (rows, rewards) not in self._records:
            self._records[rows, rewards] = self._measured(rows, rewards)
        return self._records[rows, rewards]

    def _measured(self, rows: str, rewards: str) -> Records:
        is_part = rows == "labeled"
        batches = self.parts() if is_part else self.rows(rows)
        base = self._positions([self.halves[0]])[0] if is_part else self.images.labeled
        is_surrogate = rewards == "surrogate" and not is_part
        values = [self.surrogate(b) if is_surrogate else self.reward(b, base) for b in batches]
        return Records(batches, [base] * len(batches), np.array(values), np.ones(len(batches)), not is_part)

    def _positions(self, batches: Sequence[Sequence[str]]) -> list[np.ndarray]:
        place = {i: n for n, i in enumerate(self.ids)}
        return [np.array([place[i] for i in batch]) for batch in batches]


def _components(pool_ND: np.ndarray, parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the first principal components of standardized embeddings, variance 1 on average: a bed is to be fast."""
    mean_D, scale_D = pool_ND.mean(0), np.maximum(pool_ND.std(0), 1e-6)
    axes = np.linalg.svd(((pool_ND - mean_D) / scale_D).astype(np.float64), full_matrices=False)[2][:_COMPONENTS]
    found = [((x - mean_D) / scale_D) @ axes.T for x in parts]
    return [np.asarray(x / found[0].std(), np.float32) for x in found]


def _facts(p_NC: np.ndarray) -> dict[str, np.ndarray]:
    """Return each image's entropy, summed over classes, and how many classes it should show."""
    p_NC = p_NC.clip(1e-7, 1 - 1e-7)
    return {"entropy": -(p_NC * np.log(p_NC) + (1 - p_NC) * np.log(1 - p_NC)).sum(1), "boxes": p_NC.sum(1)}
