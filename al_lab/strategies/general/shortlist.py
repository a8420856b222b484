"""Shortlist: the most uncertain images first, then those among them that another strategy prefers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import number_from
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Reason, Strategy
from al_lab.core.types import Annotation, Candidates, DenseView, ImageView, Query


class Shortlist(Strategy):
    """Two steps: ``of`` puts delta B images on a list, ``then`` chooses B of them.

    The frame of PPAL (Yang et al., "Plug and Play Active Learning for Object Detection", CVPR 2024, arXiv 2211.11612):
    uncertainty says what is worth a label, variety keeps the batch from asking the same thing twice. Its own two steps
    (class difficulties, class-matched features) need training; here they are any two strategies.

    | symbol | argument | default | where |
    |---|---|---|---|
    | delta | factor | 4 | PPAL's, for COCO and VOC |

    Where images of a group stay apart, the list is as long as it takes to hold B that may be bought together.

    Args:
        of: the strategy whose highest utilities make the list.
        then: the strategy that chooses from it; labeled images are its centers as ever.
        factor: delta, so many budgets are listed; 1 leaves nothing to choose.
    """

    made_of: ClassVar[tuple[str, ...]] = ("of", "then")
    units: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, of: Strategy, then: Strategy, factor: float = 4.0) -> None:
        self.of, self.then = of, then
        self.factor = number_from(1)(factor, "strategy.factor", do="PPAL's is 4")
        self.scores_labeled = of.scores_labeled or then.scores_labeled
        self.needs_labels = of.needs_labels or then.needs_labels
        for name, part in (("of", of), ("then", then)):
            if not part.only_views:
                where, do = f"strategy.{name}", "choose one that looks at each image by itself, e.g. entropy"
                got = f"{type(part).__name__}, which has stages of its own"
                raise ConfigError(explain(expected="a strategy without stages", got=got, where=where, do=do))

    def needs_for(self, unit: str) -> tuple[str, ...]:
        """Return what both need."""
        return tuple(dict.fromkeys((*self.of.needs_for(unit), *self.then.needs_for(unit))))

    def view_options(self) -> dict[str, Any]:
        """Return the options of both."""
        return self.of.view_options() | self.then.view_options()

    def restore(self, cycle_dir: Path) -> None:
        """See `Strategy.restore`."""
        self.of.restore(cycle_dir)
        self.then.restore(cycle_dir)

    def learn(self, labels: Mapping[str, Annotation]) -> None:
        """See `Strategy.learn`."""
        self.of.learn(labels)
        self.then.learn(labels)

    def propose(self, view: ImageView | DenseView, ctx: ProposeContext) -> Candidates:
        """Return the image with the utilities of both, and what both keep of it."""
        first, second = self.of.propose(view, ctx), self.then.propose(view, _second(ctx))
        for name in set(first.info) & set(second.info):
            if not np.array_equal(first.info[name], second.info[name], equal_nan=True):
                got = f"two different ones called {name!r}"
                do = "choose two strategies that don't keep the same thing, or the same numbers for both"
                raise ConfigError(explain(expected="arrays of each strategy", got=got, where="strategy", do=do))
        info = {**first.info, **second.info, "then_utility": second.utility}
        return Candidates.images([view.sample_id], first.utility, **info)

    def select(self, candidates: Candidates, pool: Pool, budget: Allowance, rng: Rng) -> list[Query]:
        """Return B of the listed images, as ``then`` chooses them."""
        unlabeled = set(pool.unlabeled())
        listed = set(self._listed(candidates, pool, budget.amount, rng.child("list")))
        wanted = listed | (set(pool.labeled()) if self.then.scores_labeled else set())
        rows = [n for n, i in enumerate(candidates.sample_ids) if i in wanted]
        info = {name: array[rows] for name, array in candidates.info.items()}
        utility = info.pop("then_utility")
        few = Candidates.images([candidates.sample_ids[n] for n in rows], utility, **info)
        rest = replace(pool, left_out=pool.left_out | (unlabeled - listed))
        return self.then.select(few, rest, budget, rng)

    def _listed(self, candidates: Candidates, pool: Pool, amount: int, rng: Rng) -> list[str]:
        size = math.ceil(self.factor * amount)
        most = size if pool.apart is None else len(pool.unlabeled())
        # a list is no purchase: what is near on it may be listed, and one of it is chosen
        queries = self.of.select(candidates, replace(pool, apart=None), Allowance("image", most), rng)
        ranked = [query.sample_id for query in queries]
        if pool.apart is None:
            return ranked
        taken = pool.apart.rows(ranked).first(range(len(ranked)), amount)
        return ranked[: max(size, int(taken[-1]) + 1 if len(taken) == amount else len(ranked))]

    def explain(self, view: ImageView, ctx: ProposeContext, classes: Sequence[str], utility: float) -> Reason:
        """See `Strategy.explain`."""
        listed = float(self.of.propose(view, ctx).utility[0])
        first = self.of.explain(view, ctx, classes, listed)
        second = self.then.explain(view, _second(ctx), classes, utility)
        parts = {"of": listed} | {f"of_{k}": v for k, v in first.parts.items()}
        parts |= {f"then_{k}": v for k, v in second.parts.items()}
        return Reason(parts, f"on the list for {first.words}; {second.words}")


def _second(ctx: ProposeContext) -> ProposeContext:
    return replace(ctx, rng=ctx.rng.child("then"))
