"""Let the strategy choose, and check that the choice can be paid."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, explain
from al_lab.core.record.purchase import pixel_files, write_queries
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Candidates, Query
from al_lab.stages.entropies import path as entropies_path
from al_lab.stages.entropies import write_most_unsure

log = logging.getLogger(__name__)


class Select(Stage):
    """``candidates.npz`` (and what the strategy's own stages wrote) -> ``queries.json``, ``entropies.json``."""

    name = "select"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Select within the budget.

        Strangers, repetitions and overspending are refused here, once for every strategy.
        """
        candidates = Candidates.load(ctx.cycle_dir / "candidates.npz")
        if candidates.segment is not None:
            candidates = candidates.with_maps(ctx.dataset.segment_map)
        allowance = ctx.budget.allowance(ctx.cycle, len(ctx.pool))
        ctx.strategy.restore(ctx.cycle_dir)
        queries = ctx.strategy.select(candidates, ctx.pool, allowance, ctx.rng("select"))
        where = f"select of cycle {ctx.cycle}"
        if not queries:
            raise ConfigError(
                explain(
                    expected="at least one query",
                    got=f"none from {len(candidates)} candidates",
                    where=where,
                    do=f"there is nothing left to buy, or the allowance is 0: budget.cycles={ctx.cycle} ends the "
                    f"run here, "
                    "with all that it has bought",
                )
            )
        allowance.check(queries, where)
        ctx.pool.acquire(queries, ctx.cycle)
        short = _short(ctx, queries, allowance, where)
        write_queries(
            ctx.cycle_dir, queries, allowance, {q.sample_id: str(ctx.dataset.image_path(q.sample_id)) for q in queries}
        )
        write_most_unsure(ctx, candidates)
        utilities = [q.utility for q in queries]
        return {
            "num_queries": len(queries),
            "mean_selected_utility": float(np.mean(utilities)),
            "min_selected_utility": float(np.min(utilities)),
            **short,
        }

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the queries, of pixels their masks, and what entropy would have chosen."""
        unsure = [p for p in (entropies_path(ctx.cycle_dir),) if p.is_file()]
        return [ctx.cycle_dir / "queries.json", *pixel_files(ctx.cycle_dir, ("masks",)), *unsure]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return what was scored."""
        return [ctx.cycle_dir / "candidates.npz"]


def _short(ctx: StageContext, queries: Sequence[Query], allowance: Allowance, where: str) -> dict[str, float]:
    """Hold a selection to the gap that images of a group keep; say by how much it falls short of the budget.

    Raises:
        ConfigError: naming two images that are too near.
    """
    if ctx.pool.apart is None:
        return {}
    ctx.pool.apart.check(queries, where)
    missing = allowance.amount - len(queries)
    if allowance.unit != "image" or missing <= 0:
        return {}
    log.warning(
        "%s: %d of %d images: no other that is left is far enough from those in its group (dataset.min_gap)",
        where, len(queries), allowance.amount,
    )  # fmt: skip
    return {"num_short": missing}
