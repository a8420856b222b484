"""Ask the strategy about every image of the pool."""

from pathlib import Path

from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Candidates, DenseView, ImageView
from al_lab.stages.jobs import propose, pseudo_path
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
            paths = run_sharded(
                ctx, "score", "score", ids, checkpoint, ".npz", beside=beside, cycle=ctx.cycle, pseudo_tau=tau
            )
            candidates = Candidates.concat([Candidates.load(p) for p in paths])
        else:
            paths = []
            views = (self._bare_view(ctx, i) for i in ids)
            candidates = Candidates.concat(
                [propose(ctx.strategy, v, ctx.pool, dict(ctx.config), ctx.cycle, ctx.budget) for v in views]
            )
        candidates.save(ctx.cycle_dir / "candidates.npz")
        scalars: dict[str, float] = {"num_candidates": len(candidates)}
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


def pseudo_tau(ctx: StageContext) -> float | None:
    """Return the confidence from which on the objective trains on a model's own boxes; None: it doesn't."""
    tau = (ctx.config.get("objective") or {}).get("tau")
    return None if tau is None else float(tau)
