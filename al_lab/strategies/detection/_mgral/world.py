"""What one cycle's agent works with: candidates in reading order, the labeled images, the table's rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.strategies.detection._mgral.agent import Order, sequence_order
from al_lab.strategies.detection._mgral.predictor.choice import Images, Records
from al_lab.strategies.detection._mgral.rows.kept import Kept
from al_lab.strategies.detection._mgral.rows.plan import Plan
from al_lab.strategies.detection._mgral.rows.table import rewards

POINTS = 100  # rewards are in points of the metric
#: numbers an image that `Candidates.info` may hold beside its embedding
FACTS = ("entropy", "boxes")


@dataclass(frozen=True)
class World:
    """See the module's text.

    Attributes:
        ids: of the candidates in reading order, then of the labeled images, if they were looked at.
        images: in that order.
        budget: B.
        plan: of the rows.
        facts: the table, as it was written.
        kept: rows of earlier cycles, behind the table's own.
        keep: the factor of their weight a cycle of age.
    """

    ids: tuple[str, ...]
    images: Images
    budget: int
    plan: Plan
    facts: dict[str, Any]
    kept: Sequence[Kept] = ()
    keep: float = 1.0

    @property
    def candidates(self) -> tuple[str, ...]:
        """The ids that can be bought."""
        return self.ids[: self.images.num]

    @property
    def features_ND(self) -> np.ndarray:
        """What the agent reads."""
        return self.images.features_ND[: self.images.num]

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Return where images stand in reading order."""
        place = {i: n for n, i in enumerate(self.ids)}
        return np.array([place[i] for i in ids], np.int64)

    @property
    def num_rows(self) -> int:
        """Rows of this cycle, the first of the records."""
        return sum(row["seed"] == 0 for row in self.facts["rows"])

    def records(self) -> Records:
        """Return the rows of first seeds, with rewards in points; then those of earlier cycles."""
        rows = [row for row in self.facts["rows"] if row["seed"] == 0]
        sets = [self.positions(row["ids"]) for row in rows]
        first = self.plan.first
        base = self.positions(first) if first else self.images.labeled
        bases = [base] * len(rows)
        reference = float(np.mean(self.facts["references"]))
        earlier = {row.labeled: self.positions(row.labeled) for row in self.kept}
        return Records(
            sets + [self.positions(row.ids) for row in self.kept],
            bases + [earlier[row.labeled] for row in self.kept],
            POINTS * np.array([*rewards(self.facts), *(reference + row.gain for row in self.kept)]),
            np.array([1.0] * len(rows) + [self.keep**row.age for row in self.kept]),
            not first,
        )


def order_images(
    candidates: Candidates, labeled: Sequence[str], rng: Rng, order: Order, standardize: bool
) -> tuple[tuple[str, ...], Images]:
    """Return the candidates in reading order with the labeled images behind, and their features.

    Args:
        candidates: all images that were looked at, with an embedding each.
        labeled: those of them (or others) that can't be bought.
        rng: of the stage.
        order: see `sequence_order`.
        standardize: every dimension to mean 0 and deviation 1 over those that can be bought.
    """
    bought = set(labeled)
    is_labeled = np.array([i in bought for i in candidates.sample_ids], bool)
    open_ = np.flatnonzero(~is_labeled)
    rows = open_[sequence_order([candidates.sample_ids[n] for n in open_], rng, order)]
    rows = np.concatenate([rows, np.flatnonzero(is_labeled)])
    features = np.asarray(candidates.info["embedding"], np.float32)
    if standardize:
        deviation = features[open_].std(0)
        features = (features - features[open_].mean(0)) / np.where(deviation > 0, deviation, 1)
    facts: Mapping[str, np.ndarray] = {
        name: np.asarray(candidates.info[name], np.float64)[rows] for name in FACTS if name in candidates.info
    }
    return tuple(candidates.sample_ids[n] for n in rows), Images(features[rows], len(open_), facts)


def seen_anew(ids: Sequence[str], images: Images, half: Candidates) -> Images:
    """Return the images with what another model, which did not see them, says of some labeled ones.

    Args:
        ids: of the images.
        images: see there.
        half: what that model said.
    """
    place = {i: n for n, i in enumerate(ids)}
    rows = np.array([place[i] for i in half.sample_ids], np.int64)
    facts = {name: values.copy() for name, values in images.facts.items()}
    for name, values in facts.items():
        values[rows] = np.asarray(half.info[name], np.float64)
    return replace(images, facts=facts)
