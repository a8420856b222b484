"""The choice itself: a strategy's ranking, a random share beside it, quotas of classes, a budget of images or boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from al_lab.acquisition.ranking.quotas import Filled, fill
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, explain
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import ProposeContext, Strategy, context_for
from al_lab.core.types import Candidates, Query
from al_lab.data.near_vectors import Cosine
from al_lab.data.predictions.table import Predictions
from al_lab.data.predictions.views import Views
from al_lab.selection.gate import Gates
from al_lab.selection.labeled import Known
from al_lab.selection.near import Near

STRATEGY, RANDOM = "strategy", "random"
_FARTHER = 4  # so many budgets a strategy with a choice of its own ranks, where its first choice leaves something open


@dataclass(frozen=True)
class Order:
    """What was asked for.

    Attributes:
        amount: how much may be bought.
        unit: of it; boxes are those that are expected, the sum of confidences.
        seed: of the draws.
        cycle: which round it is; the draws depend on it.
        random_share: of the amount that goes to images drawn at random.
        quotas: class (a label) -> the least share of the images that show it, or of the boxes.
        shows: confidence from which on an image counts as one that shows a class.
        near_bits: see `Gates`; None: near copies are taken like others.
        near_cosine: the same by embedding, where there is one, see `al_lab.data.near_vectors.near_cosine`.
    """

    amount: int
    unit: Literal["image", "box"] = "image"
    seed: int = 0
    cycle: int = 0
    random_share: float = 0.0
    quotas: Mapping[int, float] = field(default_factory=dict)
    shows: float = 0.3
    near_bits: int | None = None
    near_cosine: Cosine = None


@dataclass(frozen=True)
class Pick:
    """One image that was chosen.

    Attributes:
        sample_id: the image.
        arm: ``strategy``, or ``random`` for one of the random share.
        utility: of the strategy; None where it gave none.
        quota: the class for whose quota it was taken out of turn; None: it was its turn.
    """

    sample_id: str
    arm: str
    utility: float | None
    quota: int | None = None


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what a page tells about it.

    Attributes:
        picks: in the order in which to label them; the random share is spread evenly among the others.
        candidates: of the unlabeled images, with the strategy's utilities.
        wanted: label -> how much of its quota was wanted; in images, or boxes.
        got: label -> how much of it the choice has.
        copies: image that was passed over -> the one it is a near copy of.
        near_cosine: from which cosine on it is one by embedding; None: nobody looked.
        prints: fingerprints of the images that were opened.
        num_without: of the unlabeled images, without an embedding that could be looked at.
        unreadable: image that was passed over -> why.
        num_known: of the images that were looked at, labeled by people before.
    """

    picks: list[Pick]
    candidates: Candidates
    wanted: Mapping[int, float]
    got: Mapping[int, float]
    copies: Mapping[str, str]
    unreadable: Mapping[str, str]
    num_known: int
    prints: Mapping[str, np.ndarray | None] = field(default_factory=dict)
    near_cosine: float | None = None
    num_without: int = 0


def contexts(order: Order, labeled: set[str]) -> Any:
    """Return a function that says what `Strategy.propose` is told of an image, as in a campaign."""

    def of(sample_id: str) -> ProposeContext:
        return context_for(order.seed, order.cycle, sample_id, order.unit, is_labeled=sample_id in labeled)

    return of


def choose(
    strategy: Strategy,
    views: Views,
    predictions: Predictions,
    dataset: Any,
    labeled: set[str],
    known: Known,
    order: Order,
) -> Choice:
    """Choose images.

    Without quotas, random share and near copies this is what a campaign's ``score`` and ``select`` choose from the same
    views, with the same seed, in the same cycle.

    Raises:
        ConfigError: if there is nothing to choose from.
    """
    pool = Pool(tuple(dataset.pool_ids), whole=dict.fromkeys(sorted(labeled), 0), apart=dataset.apart)
    if strategy.scores_labeled and not known.is_empty:
        found = {i for i in pool.unlabeled() if known.has(i)}
        pool = replace(pool, whole={**pool.whole, **dict.fromkeys(sorted(found), 0)})
    ids = pool.in_use() if strategy.scores_labeled else pool.unlabeled()
    if not pool.unlabeled():
        do = "name fewer with --labeled, or another dataset"
        got = f"none: all {len(pool)} are labeled"
        raise ConfigError(explain(expected="images to choose from", got=got, where="al-lab select", do=do))
    told = contexts(order, set(pool.whole))
    candidates = Candidates.concat([strategy.propose(views(i), told(i)) for i in ids])
    table = _Table.of(candidates, pool, predictions, dataset, known, order)
    control = _drawn(table, pool)
    rest = pool.acquire([Query(candidates.sample_ids[n]) for n in control], order.cycle)
    wanted_Q = np.array([share * order.amount for share in order.quotas.values()])
    filled, utility = _filled(strategy, table, rest, control, wanted_Q)
    got_Q = filled.got + table.gain_NQ[control].sum(0)
    labels = list(order.quotas)
    chosen = [
        Pick(candidates.sample_ids[n], STRATEGY, utility.get(n), labels[q] if q >= 0 else None)
        for n, q in zip(filled.rows, filled.quota_of, strict=True)
    ]
    drawn = [Pick(candidates.sample_ids[n], RANDOM, None) for n in control]
    unlabeled = set(pool.unlabeled())
    return Choice(
        _spread(chosen, drawn),
        _rows_of(candidates, [n for n, i in enumerate(candidates.sample_ids) if i in unlabeled]),
        dict(zip(labels, wanted_Q.tolist(), strict=True)),
        dict(zip(labels, got_Q.tolist(), strict=True)),
        dict(table.gates.copies),
        dict(table.gates.unreadable),
        known.count,
        table.gates.prints,
        table.gates.near.min_cosine,
        table.gates.near.lacking(pool.unlabeled()),
    )


@dataclass(frozen=True)
class _Table:
    """The candidates as rows.

    Attributes:
        order: what was asked for.
        candidates: N images.
        row_of: sample -> row.
        cost_N: in the order's unit.
        gain_NQ: what a row brings for each quota.
        gates: see `Gates`.
    """

    order: Order
    candidates: Candidates
    row_of: Mapping[str, int]
    cost_N: np.ndarray
    gain_NQ: np.ndarray
    gates: Gates

    @classmethod
    def of(
        cls, candidates: Candidates, pool: Pool, predictions: Predictions, dataset: Any, known: Known, order: Order
    ) -> _Table:
        ids = candidates.sample_ids
        cost_N = predictions.expected(ids) if order.unit == "box" else np.ones(len(ids))
        near = Near(predictions, pool.whole, order.near_cosine)
        gates = Gates(ids, dataset, pool.apart, known, order.near_bits, near)
        return cls(order, candidates, {i: n for n, i in enumerate(ids)}, cost_N, _gains(predictions, ids, order), gates)

    def shuffled(self, rows: Iterable[int], what: str) -> list[int]:
        """Return rows in a random order that depends on their ids alone."""
        draw = rng_for(self.order.seed, self.order.cycle, what).tie_keys(self.candidates.sample_ids)
        return sorted(rows, key=draw.__getitem__)


def _drawn(table: _Table, pool: Pool) -> list[int]:
    """Return the random share: a uniform draw from everything that is unlabeled."""
    order = table.order
    if not order.random_share:
        return []
    by_draw = table.shuffled((table.row_of[i] for i in pool.unlabeled()), "control")
    share = order.random_share * order.amount
    budget = max(1.0, round(share)) if order.unit == "image" else share
    return fill(by_draw, table.cost_N, budget, np.zeros((len(table.cost_N), 0)), np.zeros(0), table.gates.new).rows


def _filled(
    strategy: Strategy, table: _Table, pool: Pool, control: Sequence[int], wanted_Q: np.ndarray
) -> tuple[Filled, dict[int, float]]:
    """Go through the strategy's own choice; if it leaves money, or a quota, rank farther and go through that."""
    cost_N, order = table.cost_N, table.order
    budget = order.amount - float(cost_N[control].sum())
    owed_Q = np.maximum(wanted_Q - table.gain_NQ[control].sum(0), 0)

    def gone_through(rows: Sequence[int]) -> Filled:
        return fill(rows, cost_N, budget, table.gain_NQ, owed_Q, lambda: table.gates.new(control))

    utility: dict[int, float] = {}
    for queries in _rankings(strategy, table.candidates, pool, Allowance(order.unit, max(0, round(budget))), order):
        for query in queries:
            utility.setdefault(table.row_of[query.sample_id], query.utility)
        filled = gone_through(list(utility))
        taken = set(filled.rows)
        # what the next one would have cost; where all were taken, more is looked for
        following = 1.0 if order.unit == "image" else next((cost_N[row] for row in utility if row not in taken), 0.0)
        if budget - cost_N[filled.rows].sum() < following and (filled.got >= owed_Q).all():
            return filled, utility
    beyond = table.shuffled({table.row_of[i] for i in pool.unlabeled()} - set(utility), "beyond")
    return gone_through([*utility, *beyond]), utility


def _rankings(
    strategy: Strategy, candidates: Candidates, pool: Pool, allowance: Allowance, order: Order
) -> Iterator[list[Query]]:
    """Yield the strategy's choice within the allowance, then a longer one.

    A strategy that takes the best ranks the whole pool as easily; another one ranks some budgets.
    """
    rng = rng_for(order.seed, order.cycle, "select")
    if allowance.amount < 1:
        return
    yield strategy.select(candidates, pool, allowance, rng)
    free = replace(pool, apart=None)  # images passed over for their group are asked about at the gate
    takes_best = type(strategy).select is Strategy.select
    size = len(pool.unlabeled())
    most = size if takes_best else min(size, _FARTHER * allowance.amount)
    yield strategy.select(candidates, free if takes_best else pool, Allowance("image", most), rng)


def _gains(predictions: Predictions, ids: Sequence[str], order: Order) -> np.ndarray:
    """Return (N, Q): whether an image shows each quota's class, or how many boxes of it are expected."""
    if not order.quotas:
        return np.zeros((len(ids), 0))
    if order.unit == "box":
        return np.stack([predictions.expected(ids, label) for label in order.quotas], 1)
    return np.stack([(predictions.strongest(ids, label) >= order.shows).astype(float) for label in order.quotas], 1)


def _spread(chosen: Sequence[Pick], drawn: Sequence[Pick]) -> list[Pick]:
    """Return both arms in one order, evenly mixed: whoever stops early has labeled as much of either."""
    places = [((k + 0.5) / max(1, len(part)), number, pick)
              for number, part in enumerate((chosen, drawn)) for k, pick in enumerate(part)]  # fmt: skip
    return [pick for *_, pick in sorted(places, key=lambda place: place[:2])]


def _rows_of(candidates: Candidates, rows: Sequence[int]) -> Candidates:
    ids = [candidates.sample_ids[n] for n in rows]
    return Candidates.images(ids, candidates.utility[list(rows)])
