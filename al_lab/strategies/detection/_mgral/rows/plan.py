"""Which images this cycle's rows train on, and which they are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.record.labels import read_classes
from al_lab.core.rng import Rng
from al_lab.core.stage import StageContext
from al_lab.core.types import Candidates
from al_lab.strategies.detection._mgral.batches import by_clusters, halves, part_size, uniform
from al_lab.strategies.detection._mgral.reward_split import Fold, reward_folds
from al_lab.strategies.detection._mgral.rows.settings import LutSettings


@dataclass(frozen=True)
class Plan:
    """What this cycle's rows are; a function of (seed, cycle) and the pool.

    Attributes:
        folds: see `reward_folds`.
        batches: M lists of ids, sorted: unlabeled images, or parts of the labeled ones.
        size: B.
        first: with ``rows_from=labeled`` what a simulated query begins with, and every row trains on; else empty.
        labeled_hash: of the labeled set.
    """

    folds: list[Fold]
    batches: list[tuple[str, ...]]
    labeled_hash: str
    size: int
    first: tuple[str, ...] = ()


def plan_rows(ctx: StageContext, s: LutSettings, rng: Rng) -> Plan:
    """Draw the batches and cut the labeled set.

    Args:
        ctx: of the cycle.
        s: of the table.
        rng: of the stage.
    """
    labeled, unlabeled = ctx.pool.labeled(), ctx.pool.unlabeled()
    size = min(ctx.budget.allowance(ctx.cycle, len(ctx.pool)).amount, len(unlabeled))
    folds = reward_folds(
        s.split,
        read_classes(ctx.run_dir, labeled, ctx.dataset.task),
        ctx.dataset,
        rng,
        fraction=s.fraction,
        minimum=s.minimum,
        folds=s.folds,
    )
    if s.rows_from == "labeled":
        return _simulated(ctx, s, rng, folds, size)
    if s.batches == "uniform":
        batches = uniform(unlabeled, size, s.rows, rng)
    else:
        batches = by_clusters(unlabeled, embeddings(ctx, unlabeled), size, s.rows, s.num_clusters, rng)
    return Plan(folds, batches, ctx.pool.labeled_hash(), size)


def _simulated(ctx: StageContext, s: LutSettings, rng: Rng, folds: list[Fold], size: int) -> Plan:
    """Plan rows that buy again what is labeled already, see `batches`."""
    first, second = halves(folds[0].train, rng.child("halves"))
    features = embeddings(ctx, second)
    batches = by_clusters(second, features, part_size(len(second)), s.rows, s.num_clusters, rng)
    return Plan(folds, batches, ctx.pool.labeled_hash(), size, first)


def embeddings(ctx: StageContext, ids: Sequence[str]) -> np.ndarray:
    """Return the embeddings (N, D) of some images that the stage ``score`` looked at."""
    candidates = Candidates.load(ctx.cycle_dir / "candidates.npz")
    place = {i: n for n, i in enumerate(candidates.sample_ids)}
    return np.asarray(candidates.info["embedding"], np.float32)[[place[i] for i in ids]]
