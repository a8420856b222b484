"""Rows of earlier cycles that stay in the table (``lut.keep``; the paper: 30 rows a cycle, "150 records in total").

A row of an earlier cycle was trained beside an earlier labeled set and is described by images, not by numbers: this
cycle's detector embeds them anew. Three things change with its age:

- its reward is what it gained over the row base of its own cycle, on top of this cycle's base: gains are compared, as
  the metric itself grows with the labels;
- its weight is keep^age, as what a batch adds is less and less what it added then;
- some of its images were bought in between. The row stays all the same: it tells what this kind of batch added to what
  was labeled then. It can no longer be bought itself.

Rows of another size than this cycle's query, or with images that are no longer in use, are left out. Batches that an
agent had trained because no record was near stay in their cycle.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.pool import purchase_dir
from al_lab.core.stage import StageContext
from al_lab.stages.annotate import load_pool
from al_lab.strategies.detection._mgral.rows.table import load_table, rewards


@dataclass(frozen=True)
class Kept:
    """One row of an earlier cycle.

    Attributes:
        age: cycles.
        ids: of its batch, sorted.
        labeled: what was labeled then, beside which it was trained.
        gain: over that cycle's base, in the metric's units (0..1).
    """

    age: int
    ids: tuple[str, ...]
    labeled: tuple[str, ...]
    gain: float


def table_paths(run_dir: Path, cycle: int) -> list[Path]:
    """Return where the tables of the cycles before this one lie."""
    return [purchase_dir(run_dir, c) / "lut" / "table.json" for c in range(cycle)]


def kept_rows(ctx: StageContext, split: str, size: int, known: Sequence[str]) -> list[Kept]:
    """Return the rows of all earlier cycles that can be compared with this one's, the youngest first.

    Args:
        ctx: of the cycle.
        split: what rows are measured on.
        size: B.
        known: images that are in use now.

    Raises:
        ResumeError: for a table that belongs to other labels than that cycle had.
    """
    in_use, found = set(known), []
    for cycle, path in reversed(list(enumerate(table_paths(ctx.run_dir, ctx.cycle)))):
        pool = load_pool(ctx.dataset, ctx.run_dir, cycle)
        table = load_table(path, pool, split)
        labeled = tuple(pool.labeled())
        rows = [row for row in table["rows"] if row["seed"] == 0]
        reference = float(np.mean(table["references"]))
        for row, reward in zip(rows, rewards(table), strict=True):
            if len(row["ids"]) == size and in_use.issuperset(row["ids"]) and in_use.issuperset(labeled):
                found.append(Kept(ctx.cycle - cycle, tuple(row["ids"]), labeled, float(reward) - reference))
    return found


def kept_facts(kept: Sequence[Kept], factor: float, num_rows: int, labeled: Sequence[str]) -> dict[str, Any]:
    """Say how many records of which age there are, and how much of them was bought since.

    Args:
        kept: of earlier cycles.
        factor: of their weight, a cycle of age.
        num_rows: this cycle's.
        labeled: now.
    """
    ages = sorted(Counter(row.age for row in kept).items())
    bought = set(labeled)
    share = float(np.mean([np.mean([i in bought for i in row.ids]) for row in kept])) if kept else 0.0
    told = ", ".join(f"{n} of {age} cycle{'s' if age > 1 else ''} ago with weight {factor**age:.2g}" for age, n in ages)
    return {
        "factor": factor,
        "records": {str(age): n for age, n in [(0, num_rows), *ages]},
        "share_bought": share,
        "sentence": f"the table holds {num_rows + len(kept)} records: {num_rows} of this cycle"
        + (f", {told}, of whose images {100 * share:.0f} % were bought since" if kept else ", none of earlier ones"),
    }
