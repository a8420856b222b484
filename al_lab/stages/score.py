"""Ask the strategy about every image of the pool."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.strategy import Strategy
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.stages.jobs import JUDGED, propose, pseudo_path
from al_lab.stages.sharding import remove_shards, run_sharded


class Score(Stage):
    """``model.ckpt`` and pool -> ``candidates.npz``, and ``pseudo.npz`` for an objective that trains on it.

    Views are never stored.
    """

    name = "score"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Propose in parallel, or right here when the strategy needs no network."""
        ids = ctx.pool.in_use() if ctx.strategy.scores_labeled else ctx.pool.unlabeled()
        tau = pseudo_tau(ctx)
        if ctx.strategy.needs_for(ctx.budget.unit) or tau is not None:
            checkpoint = ctx.cycle_dir / "model.ckpt"
            beside = None if tau is None else pseudo_path
            judged = {"judged": some_images(ctx, ids)} if ctx.strategy.judges else {}
            fn, more = self.looking(ctx.cycle_dir)
            asked = {"cycle": ctx.cycle, "pseudo_tau": tau, **judged, **more}
            paths = run_sharded(ctx, "score", fn, ids, checkpoint, ".npz", beside=beside, **asked)
            candidates, judgement = _split(Candidates.concat([Candidates.load(p) for p in paths]))
        else:
            paths, judgement = [], {}
            views = (self._bare_view(ctx, i) for i in ids)
            candidates = Candidates.concat(
                [
                    propose(ctx.strategy, v, ctx.pool, dict(ctx.config), ctx.cycle, ctx.budget, ctx.dataset)
                    for v in views
                ]
            )
        candidates.save(ctx.cycle_dir / "candidates.npz")
        scalars: dict[str, float] = {"num_candidates": len(candidates), **judgement}
        if tau is not None:
            pseudo = load_predictions([pseudo_path(p) for p in paths])
            save_predictions(ctx.cycle_dir / "pseudo.npz", pseudo)
            scalars |= {"pseudo_images": len(pseudo), "pseudo_boxes": sum(len(d) for d in pseudo.values())}
        remove_shards(paths)
        if len(candidates):
            scalars |= {
                "max_utility": float(candidates.utility.max()),
                "mean_utility": float(candidates.utility.mean()),
            }
        return scalars

    def looking(self, cycle_dir: Path) -> tuple[str, dict[str, Any]]:
        """Return the job that looks at images with a cycle's model, and what it is given besides what `score` is."""
        return "al_lab.stages.jobs:score", {}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the candidates and the pseudo-labels."""
        return [
            ctx.cycle_dir / "candidates.npz",
            *([ctx.cycle_dir / "pseudo.npz"] if pseudo_tau(ctx) is not None else []),
        ]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the model, if the strategy looks through it."""
        looks = ctx.strategy.needs_for(ctx.budget.unit) or pseudo_tau(ctx) is not None
        return super().inputs(ctx) if looks else []

    @staticmethod
    def _bare_view(ctx: StageContext, sample_id: str) -> ImageView | DenseView:
        if ctx.budget.unit in ("image", "box"):
            return ImageView(sample_id)
        return DenseView(sample_id, ctx.dataset.size_hw(sample_id), probs=None)


def scoring(strategy: Strategy) -> Score:
    """Return the stage with which a strategy looks at images."""
    return next((stage for stage in strategy.stages() if isinstance(stage, Score)), Score())


def some_images(ctx: StageContext, ids: Sequence[str]) -> list[str]:
    """Return ``runtime.analyze_images`` of the ids, the same ones for every strategy and seed."""
    count = int(ctx.config["runtime"].get("analyze_images", 0))
    return first_ids(ids, int(ctx.config["split_seed"]), count)


def first_ids(ids: Sequence[str], split_seed: int, count: int) -> list[str]:
    """Return some ids, whatever their order and number: the same ones first, of any subset that has them."""
    keys = Rng(split_seed, "analyze").tie_keys(ids)
    return [ids[k] for k in np.argsort(keys, kind="stable")[:count]]


def _split(candidates: Candidates) -> tuple[Candidates, dict[str, float]]:
    """Return the candidates without what is for the report, and the means of that over the images judged."""
    columns = {name: values for name, values in candidates.info.items() if name.startswith(JUDGED)}
    known = {name: values[np.isfinite(values)] for name, values in columns.items()}
    rest = {name: values for name, values in candidates.info.items() if name not in columns}
    means = {name.removeprefix(JUDGED): float(values.mean()) for name, values in known.items() if len(values)}
    return dataclasses.replace(candidates, info=rest), means


def pseudo_tau(ctx: StageContext) -> float | None:
    """Return the confidence from which on the objective trains on a model's own boxes; None: it doesn't."""
    tau = (ctx.config.get("objective") or {}).get("tau")
    return None if tau is None else float(tau)
