"""The chain from a row to a gain, link by link: where does the signal die?"""

from collections.abc import Iterator

import numpy as np

from al_lab.benchmarks.mgral_bed.unit import Unit
from al_lab.strategies.detection._mgral.predictor.choice import choose
from al_lab.strategies.detection._mgral.predictor.leave_one_out import rank_correlation
from al_lab.strategies.detection._mgral.predictor.table import Table, TableSettings

#: link -> what it asks
LINKS = {
    "a": "is there anything to gain: points by which batches differ, with their labels",
    "b": "does the surrogate rank batches as labels do: rank correlation with the truth",
    "c": "does a predictor tell left-out rows (error as a multiple of the mean's), and the labels of designed batches",
    "d": "does the query find what the predictor values: share of the best batch's expected gain",
    "e": "what is gained in the end: points of test mAP over random batches",
}
Fact = tuple[str, str, float]  # link, name, value


def links(unit: Unit) -> Iterator[Fact]:
    """Yield what links a, b and c say of a pool; d and e are the arms'."""
    yield from _anything(unit)
    for rows in ("uniform", "clusters"):
        true = unit.records(rows, "true")
        surrogate = unit.records(rows, "surrogate")
        yield "b", f"surrogate, {rows} rows", rank_correlation(surrogate.rewards_M, true.rewards_M)
        entropies = [unit.images.facts["entropy"][b].sum() for b in true.batches]
        yield "b", f"sum of entropy, {rows} rows", rank_correlation(np.array(entropies), true.rewards_M)
    for rows, rewards in (
        ("uniform", "surrogate"),
        ("clusters", "surrogate"),
        ("uniform", "true"),
        ("clusters", "true"),
        ("labeled", "true"),
    ):
        yield from _predictors(unit, rows, rewards)


def _anything(unit: Unit) -> Iterator[Fact]:
    truths = {kind: [unit.worth(b) for b in unit.rows(kind)] for kind in ("uniform", "clusters")}
    for kind, values in truths.items():
        yield "a", f"spread of {kind} rows", float(np.std(values, ddof=1))
        yield "a", f"best of {kind} rows over random", float(np.max(values)) - unit.chance
    yield "a", "labels of a random batch", unit.chance - unit.worth(np.zeros(0, np.int64))
    yield "a", "noise of one training", unit.noise


def _predictors(unit: Unit, rows: str, rewards: str) -> Iterator[Fact]:
    records = unit.records(rows, rewards)
    # what a predictor says of designed batches against their labels' worth: rows it never saw, unless it did
    designed = unit.records("clusters", "true")
    settings = TableSettings(predictor="auto", num_clusters=unit.size.num_clusters)
    chosen = choose(unit.images, records, settings, unit.rng.child("table"))
    for name, predictor in chosen.others.items():
        found = chosen.judgments[name]
        label = f"{name}, {rows} rows, {rewards} rewards"
        yield "c", f"{label}: error", found.rmse / max(found.rmse_of_mean, 1e-9)
        yield "c", f"{label}: rank correlation", found.rank_correlation
        if rows != "clusters":
            said = [_value(predictor, b) for b in designed.batches]
            yield "c", f"{label}: of designed batches", rank_correlation(np.array(said), designed.rewards_M)


def _value(predictor: object, batch: np.ndarray) -> float:
    if isinstance(predictor, Table):
        found = predictor(batch)
        return found.nearest if found.value is None else found.value
    assert callable(predictor)
    return float(predictor(batch))
