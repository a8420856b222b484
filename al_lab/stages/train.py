"""Train on everything bought so far, in a worker process."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from al_lab.config.signatures import literal_of
from al_lab.core.errors import ConfigError, ResumeError, explain
from al_lab.core.files import atomic_path, read_json, sha256, write_json
from al_lab.core.pool import purchase_dir
from al_lab.core.record.labels import pixel_labels_hash, read_labels
from al_lab.core.record.ledger import is_as
from al_lab.core.record.moved import first_path, with_targets
from al_lab.core.record.seal import is_whole, seal
from al_lab.core.rng import rng_for
from al_lab.core.stage import Stage, StageContext
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.learners.build import build_learner
from al_lab.stages.score import pseudo_tau
from al_lab.stages.waiting import answered

log = logging.getLogger(__name__)


class Train(Stage):
    """labels -> ``model.ckpt``."""

    name = "train"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Fit the learner; an identical fit that is in ``runtime.cache_dir`` is reused."""
        task = self.task(ctx)
        if _is_awaited(ctx):
            return _taken(ctx, task)
        cache = _Cache(ctx, task)
        cached = cache.fetch(task.checkpoint)
        if cached is not None:
            return cached
        kwargs = {
            "run_dir": str(ctx.run_dir),
            "task": task.to_json(),
            "progress": str(task.scratch_dir / "progress.json"),
        }
        (scalars,) = ctx.executor.run(
            [
                Job(
                    f"cycle {ctx.cycle:02d} train",
                    "al_lab.stages.jobs:fit",
                    kwargs,
                    ctx.cycle_dir / "train.json",
                    devices=task.devices,
                    outputs=(task.checkpoint,),
                )
            ]
        )
        cache.store(task.checkpoint, scalars)
        train_log = task.scratch_dir / "train_log.csv"
        if train_log.is_file():
            shutil.copyfile(train_log, ctx.cycle_dir / "train_log.csv")
        shutil.rmtree(task.scratch_dir, ignore_errors=True)
        return scalars

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the checkpoint."""
        return [ctx.cycle_dir / "model.ckpt"]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the model it goes on from and the pseudo-labels it trains on."""
        task = self.task(ctx)
        return [p for p in (task.pseudo, task.init_checkpoint) if p is not None and p.is_relative_to(ctx.run_dir)]

    @staticmethod
    def task(ctx: StageContext) -> FitTask:
        """Describe this cycle's training."""
        settings = ctx.settings
        before = purchase_dir(ctx.run_dir, ctx.cycle - 1)
        labeled = ctx.pool.labeled()
        # a segmenter may learn from a source domain, or query before its first step
        if not labeled and ctx.dataset.task == "detection":
            raise ConfigError(
                explain(
                    expected="at least one labeled image",
                    got="none",
                    where=f"cycle {ctx.cycle}",
                    do="raise budget.initial",
                )
            )
        start, init = settings.start, before / "model.ckpt"
        if not ctx.cycle:
            start, init = (
                "scratch" if settings.init is None else "weights",
                Path(settings.init or "").expanduser().absolute(),
            )
        # Training that continues is one training, with one order of its images.
        rng = rng_for(int(ctx.config["seed"]), 0 if settings.start == "continue" else ctx.cycle, "train")
        return FitTask(
            labeled=labeled,
            unlabeled=ctx.pool.unlabeled(),
            labels_dir=ctx.run_dir,
            cycle=ctx.cycle,
            checkpoint=ctx.cycle_dir / "model.ckpt",
            scratch_dir=ctx.cycle_dir / "training",
            seed=rng.seed(),
            pseudo=before / "pseudo.npz" if ctx.cycle and pseudo_tau(ctx) is not None else None,
            start=start,
            init_checkpoint=None if start == "scratch" else init,
            stop_at=settings.stop_step(ctx.cycle, len(labeled), ctx.budget.cycles),
            devices=int(ctx.config["runtime"]["devices"]),
        )


def _is_awaited(ctx: StageContext) -> bool:
    model = ctx.config.get("detector") or ctx.config.get("segmenter") or {}
    return bool(literal_of(model["_target_"], "is_awaited", False))


def _taken(ctx: StageContext, task: FitTask) -> dict[str, float]:
    """Wait for the predictions of a model that somebody else trains, see `PredictionsModel.take`.

    Of the pool they are needed where something is still to be chosen by what the model says.
    """
    model: Any = build_learner(ctx.config, ctx.dataset)
    looks = bool(ctx.strategy.needs_for(ctx.budget.unit)) or ctx.oracle.wants_predictions
    looked_at = ctx.pool.in_use() if ctx.strategy.scores_labeled else ctx.pool.unlabeled()
    roles = {
        "test set": ctx.dataset.test_ids,
        "pool": looked_at if looks and ctx.cycle < ctx.budget.cycles else (),
    }
    before = purchase_dir(ctx.run_dir, ctx.cycle - 1) / "model.ckpt" if ctx.cycle else None
    return dict(answered(ctx, model, lambda: model.take(task, roles, before), lambda: model.wait_for_news(task)))


class _Cache:
    """The same recipe, seed and labels are the same model, so ten strategies can share their cycle 0."""

    def __init__(self, ctx: StageContext, task: FitTask) -> None:
        root = ctx.config["runtime"].get("cache_dir")
        self.folder = Path(root) / self._key(ctx, task) if root else None

    @staticmethod
    def _key(ctx: StageContext, task: FitTask) -> str:
        config = {k: ctx.config.get(k) for k in ("dataset", "detector", "segmenter", "objective", "trainer")}
        # The threshold decides which pseudo-labels there are; those are named below, and without any it decides
        # nothing.
        config["objective"] = {k: v for k, v in (config["objective"] or {}).items() if k != "tau"}
        content = {
            "config": with_targets(config, first_path),
            "seed": task.seed,
            "start": task.start,
            "stop_at": task.stop_at,
            "devices": task.devices,
            "labels": _labels(ctx, task),
            "unlabeled": task.unlabeled,
            "pseudo": sha256(task.pseudo) if task.pseudo else None,
            "init": sha256(task.init_checkpoint) if task.init_checkpoint else None,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def fetch(self, checkpoint: Path) -> dict[str, float] | None:
        """Copy a finished model here, if there is one and it is what was stored."""
        path = None if self.folder is None else self.folder / "scalars.json"
        if self.folder is None or path is None or not path.is_file():
            return None
        try:
            stored = read_json(path)
            entry = {k: stored[k] for k in ("scalars", "sha256", "digest")}
        except (ResumeError, KeyError, TypeError):
            entry = None
        model = self.folder / "model.ckpt"
        if entry is None or not is_whole(entry) or not is_as(model, entry["sha256"]):
            log.warning(
                "%s: the model there is damaged or has no digest; it is trained again and replaced", self.folder
            )
            return None
        with atomic_path(checkpoint) as temporary:
            shutil.copyfile(model, temporary)
        log.info("the same training is in %s: reused", self.folder)
        scalars: dict[str, float] = entry["scalars"]
        return scalars

    def store(self, checkpoint: Path, scalars: dict[str, float]) -> None:
        """Keep a finished model; ``scalars.json`` comes last and makes it count."""
        if self.folder is None:
            return
        with atomic_path(self.folder / "model.ckpt") as temporary:
            try:
                os.link(checkpoint, temporary)
            except OSError:  # another file system
                shutil.copyfile(checkpoint, temporary)
        write_json(self.folder / "scalars.json", seal({"scalars": scalars, "sha256": sha256(checkpoint)}))


def _labels(ctx: StageContext, task: FitTask) -> Any:
    """Return what tells the labels of a training from others, as plain JSON."""
    if ctx.dataset.task == "segmentation":
        return pixel_labels_hash(ctx.run_dir, task.labeled, task.cycle)
    return {i: a.to_json() for i, a in read_labels(ctx.run_dir, task.labeled).items()}
