"""The stage ``weigh_images``: what the images of the pool are worth without any row (``lut.reward=gradient``)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.files import write_json
from al_lab.core.pool import ids_hash
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Candidates
from al_lab.execution.job import Job
from al_lab.stages.sharding import remove_shards, run_sharded
from al_lab.strategies.detection._mgral.agent_scores import save_random_scores, save_scores
from al_lab.strategies.detection._mgral.build_lut import BuildLut
from al_lab.strategies.detection._mgral.decide import Gate, on_top
from al_lab.strategies.detection._mgral.gradient.copies import FEWEST, share_of_copies
from al_lab.strategies.detection._mgral.gradient.information import InformationGain
from al_lab.strategies.detection._mgral.gradient.jobs import load_gains, save_gains
from al_lab.strategies.detection._mgral.honesty import likeness
from al_lab.strategies.detection._mgral.query import Way
from al_lab.strategies.detection._mgral.rows.plan import Plan
from al_lab.strategies.detection._mgral.world import order_images

log = logging.getLogger(__name__)

_LITTLE = "where images don't repeat each other this choice was no better than a random one, and on photographs worse"
_JOBS = "al_lab.strategies.detection._mgral.gradient.jobs"


class WeighImages(Stage):
    """``model.ckpt`` and pool -> ``lut/gains.npz``, ``agent_scores.npz``, ``agent.json``, ``lut/table.json``.

    It stands where table and agent stand. The row base says what the loss of the held-out images is and how it slopes;
    one pass over the pool then says what each image's labels are expected to change in it
    (`al_lab.learners.class_gradient`). Bought are the B images of the largest gains (``agent.query=top``), or the
    greedy best set, in which images alike count less (``set``, see `InformationGain`). The table's M batches are not
    trained: beside each stands what the gains say of it, for the stage ``truth`` to compare with labels.

    Where few images have a near copy (`share_of_copies`) there is little to win this way: with ``agent.gate=random``
    nothing is weighed then and the batch is a random one, with ``warn`` log and report say so.
    """

    name = "weigh_images"

    def __init__(self, lut: BuildLut, query: Way, gate: Gate) -> None:
        self.lut, self.query, self.gate = lut, query, gate

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Weigh the images and choose the batch."""
        rng, candidates = ctx.rng(self.name), Candidates.load(ctx.cycle_dir / "candidates.npz")
        ids, images = order_images(candidates, ctx.pool.labeled(), rng, "perm", standardize=True)
        ids, features_ND, labeled_LD = (
            ids[: images.num],
            images.features_ND[: images.num],
            images.features_ND[images.num :],
        )
        copies = share_of_copies(features_ND, labeled_LD, ctx.rng("copies").generator())
        if copies["share"] < FEWEST:
            if self.gate == "random":
                return self._closed(ctx, ids, copies)
            log.warning("%s: %s (strategy.agent.gate=random buys one there)", copies["sentence"], _LITTLE)
        plan = self.lut.plan(ctx)
        bases = self.lut.bases(ctx, plan)
        metric = self.lut.settings.metric or ctx.dataset.metrics[0]
        base = self.lut.base_of(ctx, plan, 0)
        gains = weigh(ctx, base, plan.folds[0].measure, ctx.pool.unlabeled(), "gains")
        save_gains(ctx.cycle_dir / "lut" / "gains.npz", gains)
        worth_N = np.array([gains[i] for i in ids])
        value = InformationGain(features_ND, worth_N, labeled_LD)
        best = np.argsort(-worth_N, kind="stable")
        batch = best[: plan.size] if self.query == "top" else value.greedy(plan.size)
        save_scores(ctx.cycle_dir, dict(zip(ids, on_top(worth_N, batch).tolist(), strict=True)))
        facts = self._facts(worth_N, batch, len(plan.folds[0].measure)) | {"copies": copies}
        like = likeness(features_ND, batch, ctx.rng("likeness").generator())
        write_json(ctx.cycle_dir / "agent.json", facts | ({"likeness": like} if like else {}))
        reference = float(bases[0]["metrics"][metric])
        place = {i: n for n, i in enumerate(ids)}
        batches = [np.array([place[i] for i in row]) for row in plan.batches]
        told = [float(worth_N[b].sum()) if self.query == "top" else value(b) for b in batches]
        write_json(self.lut.path(ctx), self._table(ctx, plan, metric, reference, told))
        log.info(facts["sentence"])
        return {"mean_gain": float(worth_N.mean()), "mean_gain_bought": float(worth_N[batch].mean())}

    def _closed(self, ctx: StageContext, ids: Sequence[str], copies: Mapping[str, Any]) -> dict[str, float]:
        """Weigh nothing and score as ``strategy=random`` does."""
        sentence = f"no image was weighed and the batch is a random one, as {copies['sentence']}: {_LITTLE}"
        save_random_scores(ctx, ids)
        facts = {"reward": "gradient", "query": self.query, "copies": copies, "gate": {"sentence": sentence}}
        write_json(ctx.cycle_dir / "agent.json", facts | {"sentence": sentence})
        log.info(sentence)
        return {"gate_closed": 1.0}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what `select`, `truth` and the report read, and the base that `truth` may start from."""
        folder, both = ctx.cycle_dir / "lut", [ctx.cycle_dir / name for name in ("agent_scores.npz", "agent.json")]
        if not self.lut.path(ctx).exists():  # the gate closed
            return both
        return [
            *both,
            folder / "gains.npz",
            self.lut.path(ctx),
            *sorted(folder.glob("base_*.ckpt")),
        ]

    def _facts(self, worth_N: np.ndarray, batch: np.ndarray, num_held_out: int) -> dict[str, Any]:
        """Sum up what was found, with a sentence."""
        share = float(worth_N[batch].sum() / worth_N.sum()) if worth_N.sum() else 0.0
        top = float(np.sort(worth_N)[::-1][: len(batch)].sum() / worth_N.sum()) if worth_N.sum() else 0.0
        how = "those of the largest gains" if self.query == "top" else "a set in which images alike count less"
        return {
            "reward": "gradient",
            "query": self.query,
            "share_of_gains": share,
            "largest_share_of_gains": top,
            "num_zero": int((worth_N == 0).sum()),
            "sentence": f"no row was trained: images are worth what their labels are expected to change in the class "
            f"loss of {num_held_out} held-out images; of all {len(worth_N)} images' gains the {len(batch)} bought, "
            f"{how}, have {100 * share:.1f} % (the most possible {100 * top:.1f} %)",
        }

    def _table(
        self, ctx: StageContext, plan: Plan, metric: str, reference: float, told: Sequence[float]
    ) -> dict[str, Any]:
        """Return the table's batches with what is said of them; none was trained."""
        return {
            "cycle": ctx.cycle,
            "labeled_hash": plan.labeled_hash,
            "split": self.lut.settings.split,
            "metric": metric,
            "reward": "gradient",
            "num_measured": len(plan.folds[0].measure),
            "base": reference,
            "references": [0.0],
            "rows": [
                {
                    "number": m,
                    "seed": 0,
                    "fold": 0,
                    "ids": list(ids),
                    "ids_hash": ids_hash(ids),
                    "value": value,
                    "reward": value,
                    "seconds": 0.0,
                }
                for m, (ids, value) in enumerate(zip(plan.batches, told, strict=True))
            ],
        }


def weigh(ctx: StageContext, base: Path, held_out: Sequence[str], ids: Sequence[str], what: str) -> dict[str, float]:
    """Return what the labels of each image are expected to change in the loss of the held-out ones.

    Args:
        ctx: of the cycle.
        base: a model that was trained on neither.
        held_out: ids whose labels are known.
        ids: of images.
        what: names the files that are written on the way, and are gone afterwards.
    """
    direction = ctx.cycle_dir / "lut" / f"{what}_direction.ckpt"
    ctx.executor.run(
        [
            Job(
                f"cycle {ctx.cycle:02d} slope of the held-out loss",
                f"{_JOBS}:hold_out",
                result=direction.with_suffix(".json"),
                kwargs={
                    "run_dir": str(ctx.run_dir),
                    "checkpoint": str(base),
                    "ids": list(held_out),
                    "out": str(direction),
                },
                outputs=(direction,),
            )
        ]
    )
    paths = run_sharded(ctx, what, f"{_JOBS}:weigh", ids, base, ".npz", direction=str(direction))
    gains = load_gains(paths)
    remove_shards(paths)
    direction.with_suffix(".json").unlink()
    direction.unlink()
    return gains
