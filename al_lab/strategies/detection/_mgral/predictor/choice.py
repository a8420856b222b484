"""Who tells the agent what a batch is worth: the table, or what learned from it, chosen by leaving one record out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.predictor.inputs import SetInputs
from al_lab.strategies.detection._mgral.predictor.leave_one_out import LeaveOneOut, best_believed, distinct
from al_lab.strategies.detection._mgral.predictor.ridge import FEWEST, Regressor
from al_lab.strategies.detection._mgral.predictor.table import Table, TableSettings

Predictor = Table | Regressor


@dataclass(frozen=True)
class Images:
    """All images a cycle knows something of: N, the candidates first, in the order in which the agent reads them.

    Attributes:
        features_ND: their embeddings, standardized over the candidates.
        num: candidates; those behind them are labeled.
        facts: name -> (N,) one number an image: ``entropy``, ``boxes``; may be empty.
    """

    features_ND: np.ndarray
    num: int
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def labeled(self) -> np.ndarray:
        """Positions of the labeled images; none if nobody looked at them."""
        return np.arange(self.num, len(self.features_ND))


@dataclass(frozen=True)
class Records:
    """Sets of images whose worth was measured.

    Attributes:
        batches: of each record, positions of what it has beyond what was labeled.
        bases: positions of what was labeled then.
        rewards_M: points.
        weight_M: 1 for this cycle's.
        are_batches: they are batches as the query's is; else parts of the labeled set (``lut.rows_from=labeled``),
            which have no likeness to a batch, so that only a regressor can use them.
    """

    batches: Sequence[np.ndarray]
    bases: Sequence[np.ndarray]
    rewards_M: np.ndarray
    weight_M: np.ndarray
    are_batches: bool = True

    @property
    def sets(self) -> list[np.ndarray]:
        """Of each record, all images that are labeled in it."""
        return [np.sort(np.concatenate([base, batch])) for base, batch in zip(self.bases, self.batches, strict=True)]


@dataclass(frozen=True)
class Chosen:
    """Who answers, and how well all of them predict left-out records.

    Attributes:
        predictor: None: nobody predicts better than the mean of all records (``auto`` only).
        judgments: name -> how well; empty where fewer than 3 different records can't tell.
        others: name -> predictor, all of them.
    """

    predictor: Predictor | None
    judgments: Mapping[str, LeaveOneOut]
    others: Mapping[str, Predictor] = field(default_factory=dict)

    @property
    def alpha(self) -> float:
        """Of the ridge regression; NaN if there is none."""
        ridge = self.others.get("ridge")
        return ridge.alpha if isinstance(ridge, Regressor) else float("nan")

    @property
    def error(self) -> float:
        """Of the chosen one, points: root mean square over left-out records; 0 if nobody knows."""
        return self.judgments[self.predictor.name].rmse if self.predictor and self.judgments else 0.0


def choose(images: Images, records: Records, settings: TableSettings, rng: Rng) -> Chosen:
    """Build the predictors, judge them, and take the one that was asked for.

    Raises:
        ValueError: if a regressor was asked for and there are fewer than 3 records.
    """
    found: dict[str, Predictor] = {}
    if records.are_batches:
        found["table"] = Table(
            images.features_ND, records.batches, records.rewards_M, settings, rng, weight_M=records.weight_M
        )
    sets = records.sets
    can_judge = len(np.unique(distinct(sets))) >= FEWEST
    if len(sets) >= FEWEST and (can_judge or settings.predictor in ("ridge", "ensemble")):
        inputs = SetInputs(images.features_ND, images.facts, settings.num_clusters, rng.child("inputs"))
        for kind in ("ridge", "ensemble"):
            found[kind] = Regressor(
                inputs,
                records.bases,
                records.batches,
                records.rewards_M,
                images.labeled,
                kind,
                records.weight_M,
            )
    judgments = {name: predictor.leave_one_out() for name, predictor in found.items()} if can_judge else {}
    name = settings.predictor if settings.predictor != "auto" or not judgments else best_believed(judgments)
    if name == "auto":
        name = "table"  # too few records to judge by
    if name is not None and name not in found:
        raise ValueError(
            f"choose: expected at least {FEWEST} records for {name}, got {len(sets)}; build a larger table"
        )
    return Chosen(None if name is None else found[name], judgments, found)
