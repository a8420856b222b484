"""What buys: controls, MGRAL as built, each remedy alone, and remedies together; all by the product's own code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from al_lab.acquisition.k_center import k_center
from al_lab.benchmarks.mgral_bed.unit import Unit
from al_lab.strategies.detection._mgral.decide import AgentSettings, decide, make_training
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.choice import Predictor, choose
from al_lab.strategies.detection._mgral.predictor.ridge import Regressor
from al_lab.strategies.detection._mgral.predictor.table import Choice, TableSettings
from al_lab.strategies.detection._mgral.query import Way, search
from al_lab.strategies.detection._mgral.reinforce import Reinforce

_HIDDEN = 32  # LSTM width: a third of the embedding's, so that an agent takes seconds


@dataclass(frozen=True)
class Bought:
    """What an arm bought.

    Attributes:
        batch: (B,) positions.
        reach: of what the best batch gains over a random one in the predictor's eyes, the share this one gains; NaN
            where no regressor decided.
        is_refused: the batch that was asked for was held back.
        is_random: nobody was believed.
        free: the batch of the search, whatever its estimate; None where no regressor decided.
        value: says of any batch what it is worth; None where that takes a table.
    """

    batch: np.ndarray
    reach: float = float("nan")
    is_refused: bool = False
    is_random: bool = False
    free: np.ndarray | None = None
    value: Callable[[np.ndarray], float] | None = None


@dataclass(frozen=True)
class Mgral:
    """One form of MGRAL, see ``strategy.lut`` and ``strategy.agent``.

    Attributes:
        rows: ``uniform`` | ``clusters`` | ``labeled``.
        rewards: ``surrogate`` | ``true``: trained with labels, which nobody has; it tells what the other links lose.
        predictor, query: as in the settings.
    """

    rows: str = "uniform"
    rewards: str = "surrogate"
    predictor: Choice = "table"
    query: Way = "top"

    def __call__(self, unit: Unit) -> Bought:
        """Return the batch; a random one where no predictor is believed."""
        rng = unit.rng.child("agent")
        records = unit.records(self.rows, self.rewards)
        settings = TableSettings(predictor=self.predictor, num_clusters=unit.size.num_clusters)
        chosen = choose(unit.images, records, settings, unit.rng.child("table"))
        if chosen.predictor is None:
            return Bought(unit.random[0], is_random=True)

        def train(predictor: Predictor) -> Reinforce:
            agent = AgentSettings(hidden=_HIDDEN, query=self.query)
            learning = ReinforceSettings(iterations=unit.size.iterations, max_fall_backs=0)
            training = make_training(
                unit.images.features_ND[: unit.images.num], unit.size.budget, agent, learning, rng, None
            )
            training.run(predictor)
            return training

        found = decide(unit.images, chosen, records, unit.size.budget, self.query, train, rng)
        is_refused = found.query is not None and found.query.is_refused
        predictor = chosen.predictor
        if not isinstance(predictor, Regressor):
            return Bought(found.batch, is_refused=is_refused)
        free = search(predictor.value(), predictor.base, unit.images.num, unit.size.budget)
        chance = float(np.mean([predictor(b) for b in unit.random]))
        reach = (predictor(found.batch) - chance) / max(predictor(free) - chance, 1e-9)
        return Bought(found.batch, reach, is_refused, free=free)


def entropy(unit: Unit) -> Bought:
    """Return the batch of the largest entropies, summed over classes."""
    values = unit.images.facts["entropy"][: unit.images.num]
    return Bought(np.argsort(-values, kind="stable")[: unit.size.budget])


def core_set(unit: Unit) -> Bought:
    """Return the greedy k-centers among the candidates."""
    return Bought(k_center(unit.images.features_ND, unit.size.budget, unit.images.labeled).order)


def gradient(unit: Unit) -> Bought:
    """Return the images of the largest gains without training."""
    order = np.argsort(-unit.gains, kind="stable")
    return Bought(order[: unit.size.budget], value=lambda batch: float(unit.gains[batch].sum()))


def gradient_set(unit: Unit) -> Bought:
    """Return the batch that is worth most by them, near copies counting less."""
    return Bought(unit.information.greedy(unit.size.budget), value=unit.information)


def best_row(rows: str, rewards: str) -> Callable[[Unit], Bought]:
    """Return what buys the best row of a table."""

    def buy(unit: Unit) -> Bought:
        records = unit.records(rows, rewards)
        return Bought(records.batches[int(np.argmax(records.rewards_M))])

    return buy


#: name -> what buys; ``random`` is no arm: all are compared with the mean of random batches
ARMS: Mapping[str, Callable[[Unit], Bought]] = {
    "entropy": entropy,
    "core-set": core_set,
    "gradient": gradient,
    "gradient, set": gradient_set,
    "best row": best_row("uniform", "surrogate"),
    "as built": Mgral(),
    "ridge": Mgral(predictor="ridge"),
    "auto": Mgral(predictor="auto"),
    "clusters": Mgral(rows="clusters"),
    "annealed": Mgral(query="annealed"),
    "set": Mgral(predictor="ridge", query="set"),
    "labeled": Mgral(rows="labeled", predictor="ridge"),
    "labeled, annealed": Mgral(rows="labeled", predictor="ridge", query="annealed"),
    "labeled, set": Mgral(rows="labeled", predictor="ridge", query="set"),
    "labeled, ensemble, set": Mgral(rows="labeled", predictor="ensemble", query="set"),
    "labeled, auto, set": Mgral(rows="labeled", predictor="auto", query="set"),
    "clusters, auto, set": Mgral(rows="clusters", predictor="auto", query="set"),
    "true: best row": best_row("uniform", "true"),
    "true: as built": Mgral(rewards="true"),
    "true: clusters": Mgral(rows="clusters", rewards="true"),
    "true: clusters, ridge, annealed": Mgral("clusters", "true", "ridge", "annealed"),
    "true: clusters, ridge, set": Mgral("clusters", "true", "ridge", "set"),
}
