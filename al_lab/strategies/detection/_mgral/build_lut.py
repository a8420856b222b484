"""The stage ``build_lut``: train many times, each time with another random unlabeled batch.

What came of it is written down.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.files import write_json
from al_lab.core.stage import Stage, StageContext
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.strategies.detection._mgral.honesty import SIGNIFICANCE
from al_lab.strategies.detection._mgral.reward_split import Fold
from al_lab.strategies.detection._mgral.rows.halving import Part, train_by_halves
from al_lab.strategies.detection._mgral.rows.plan import Plan, plan_rows
from al_lab.strategies.detection._mgral.rows.settings import LutSettings, row_trainer, scaled
from al_lab.strategies.detection._mgral.rows.shared_start import agreement_with_scratch, as_the_paper
from al_lab.strategies.detection._mgral.rows.table import node_hash, reward_of, row_of, signal_and_noise

log = logging.getLogger(__name__)

#: what a model that saw the first half of the labeled set says of the second
HALF = "half.npz"


def _say(
    rows: Sequence[Mapping[str, Any]], diverged: int, seconds: float, early: Mapping[str, Any], noise: Mapping[str, Any]
) -> None:
    """Log what the table's trainings took, and whether its rewards are more than noise."""
    if diverged:
        log.warning(
            "%d of %d rows and repetitions diverged and were begun again with a seed of their own; "
            "the difference a seed makes is part of their rewards",
            diverged,
            len(rows),
        )
    if early:
        log.info(early["sentence"])
    log.info(
        "%d rows and repetitions took %.1f s each on average, %.3f device-hours in all",
        len(rows),
        seconds / len(rows),
        seconds / 3600,
    )
    log.log(logging.INFO if noise.get("p_value", 1.0) <= SIGNIFICANCE else logging.WARNING, noise["sentence"])


class BuildLut(Stage):
    """``model.ckpt`` and pool -> ``lut/table.json``.

    Every row is a job with a result file: what is finished is never trained again.
    """

    name = "build_lut"

    def __init__(self, settings: LutSettings) -> None:
        self.settings = settings

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Train and measure the bases, the rows and their repetitions."""
        plan = self.plan(ctx)
        metric = self.settings.metric or ctx.dataset.metrics[0]
        numbers = [(m, 0) for m in range(len(plan.batches))] + [
            (m, s) for s in range(1, self.settings.seeds) for m in range(self.settings.repeats)
        ]
        early: dict[str, Any] = {}
        if self.settings.calibrate is None:
            bases, results = self._train(ctx, plan, numbers)
        else:
            bases, results, early = self._train_by_halves(ctx, plan, numbers, metric)
        references = [float(base["metrics"][metric]) for base in bases]
        rows = [
            row_of(number, number[0] % len(plan.folds), plan.batches[number[0]], result, metric)
            for number, result in zip(numbers, results, strict=True)
        ]
        table = {
            "cycle": ctx.cycle,
            "labeled_hash": plan.labeled_hash,
            "split": self.settings.split,
            "metric": metric,
            "mode": self.settings.mode,
            "rows_from": self.settings.rows_from,
            "objective": node_hash(self.settings.objective),
            "num_measured": len({i for fold in plan.folds for i in fold.measure}),
            "references": references,
            "rows": [row | {"reward": reward_of(row, references)} for row in rows],
            "seconds": sum(r["seconds"] for r in results),
            **({"early": early} if early else {}),
        }
        if self.settings.against_scratch and ctx.cycle == 0:
            table["shared_start"] = self._against_scratch(ctx, plan, table, metric)
        noise = signal_and_noise(table)
        write_json(self.path(ctx), table | {"signal": noise})
        diverged = sum("diverged" in row for row in rows)
        _say(rows, diverged, table["seconds"], early, noise)
        return {
            "rows": len(plan.batches),
            "reference": float(np.mean(references)),
            **{k: v for k, v in noise.items() if isinstance(v, float)},
            "training_seconds": table["seconds"],
            **({"diverged_rows": diverged} if diverged else {}),
            **({"shared_start": table["shared_start"]["rank_correlation"]} if "shared_start" in table else {}),
        }

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the table, and the models that rows of the next stage start from."""
        folder = self.path(ctx).parent
        return [self.path(ctx), *sorted(folder.glob("base_*.ckpt")), *sorted(folder.glob(HALF))]

    @staticmethod
    def path(ctx: StageContext) -> Path:
        """Return where the table lies."""
        return ctx.cycle_dir / "lut" / "table.json"

    def plan(self, ctx: StageContext) -> Plan:
        """Draw the batches and cut the labeled set."""
        return plan_rows(ctx, self.settings, ctx.rng(self.name))

    def _train(
        self, ctx: StageContext, plan: Plan, numbers: Sequence[tuple[int, int]]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what the bases gave and what the rows (number, seed) gave.

        One batch of jobs where rows start from scratch, so that no device waits for a base that they don't need.
        """
        bases = self._base_jobs(ctx, plan)
        rows = [
            self.job(ctx, plan, plan.batches[m], m % len(plan.folds), s, f"row_{m:03d}_seed{s}") for m, s in numbers
        ]
        if self.settings.mode == "finetune":
            return ctx.executor.run(bases), ctx.executor.run(rows)
        half = [self._half_job(ctx, plan)] if plan.first else []
        results = ctx.executor.run([*bases, *half, *rows])
        if plan.first:
            self._look(ctx, plan)
        return results[: len(bases)], results[len(bases) + len(half) :]

    def _train_by_halves(
        self, ctx: StageContext, plan: Plan, numbers: Sequence[tuple[int, int]], metric: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
        """Return the same, and how well the rung ranked rows; see `halving`."""
        bases = self.bases(ctx, plan)
        folder, folds = self.path(ctx).parent, len(plan.folds)

        def job(m: int, seed: int, part: Part) -> Job:
            name = f"row_{m:03d}_{'rung' if part == 'rung' else f'seed{seed}'}"
            found = self.job(ctx, plan, plan.batches[m], m % folds, seed, name)
            if part == "rung":  # its weights are no output: once the rest is trained nobody misses them
                return replace(found, kwargs=found.kwargs | {"keep": True, "early_stop": self.settings.early_stop})
            if part == "whole":
                return found
            start = {"start": "continue", "init_checkpoint": str(folder / f"row_{m:03d}_rung.ckpt")}
            return replace(found, kwargs=found.kwargs | {"task": found.kwargs["task"] | start})

        def reward(m: int, result: dict[str, Any]) -> float:
            return float(result["metrics"][metric] - bases[m % folds]["metrics"][metric])

        results, facts = train_by_halves(self.settings, numbers, ctx.executor.run, job, reward, metric)
        for path in folder.glob("row_*_rung.ckpt"):
            path.unlink()
        return bases, results, facts

    def _against_scratch(self, ctx: StageContext, plan: Plan, table: dict[str, Any], metric: str) -> dict[str, Any]:
        """Train some of the table's batches as the paper does, and say whether both ways rank them alike."""
        paper, folds = BuildLut(as_the_paper(self.settings)), len(plan.folds)
        some = range(self.settings.against_scratch or 0)
        results = ctx.executor.run(
            [paper.job(ctx, plan, plan.batches[m], m % folds, 0, f"scratch_{m:03d}") for m in some]
        )
        rows = [row_of((m, 0), m % folds, plan.batches[m], results[m], metric) for m in some]
        shared = {row["number"]: row["reward"] for row in table["rows"] if row["seed"] == 0}
        facts = agreement_with_scratch([shared[m] for m in some], [reward_of(row, table["references"]) for row in rows])
        log.info(facts["sentence"])
        return facts

    def _half_job(self, ctx: StageContext, plan: Plan) -> Job:
        """Describe the training on the first half, which says what it expects of the images of the second."""
        folder = ctx.cycle_dir / "lut"
        task = FitTask(
            labeled=plan.first,
            labels_dir=ctx.run_dir,
            checkpoint=folder / "base_half.ckpt",
            scratch_dir=folder / "base_half.training",
            seed=ctx.rng("lut base").seed("half"),
            cycle=ctx.cycle,
        )
        return self.measured(ctx, task, {}, plan.folds[0], "base_half", keep=True)

    def _look(self, ctx: StageContext, plan: Plan) -> None:
        """Ask the model of the first half about the images of the second."""
        folder = ctx.cycle_dir / "lut"
        second = sorted(set(plan.folds[0].train) - set(plan.first))
        ctx.executor.run(
            [
                Job(
                    f"cycle {ctx.cycle:02d} look at the second half",
                    "al_lab.stages.jobs:score",
                    result=folder / "half_scored.json",
                    kwargs={
                        "run_dir": str(ctx.run_dir),
                        "checkpoint": str(folder / "base_half.ckpt"),
                        "cycle": ctx.cycle,
                        "ids": second,
                        "out": str(folder / HALF),
                    },
                    outputs=(folder / HALF,),
                )
            ]
        )

    def bases(self, ctx: StageContext, plan: Plan) -> list[dict[str, Any]]:
        """Return what each fold gives without any unlabeled image: ref_0, and where finetuned rows start.

        If rows train on the whole labeled set the base is the cycle's own model.
        """
        results: list[dict[str, Any]] = ctx.executor.run(self._base_jobs(ctx, plan))
        return results

    def _base_jobs(self, ctx: StageContext, plan: Plan) -> list[Job]:
        jobs = []
        for n, fold in enumerate(plan.folds):
            checkpoint = self.base_of(ctx, plan, n)
            if checkpoint.name == "model.ckpt":
                jobs.append(
                    Job(
                        f"cycle {ctx.cycle:02d} reference",
                        "al_lab.stages.jobs:measure",
                        result=ctx.cycle_dir / "lut" / "base_0.json",
                        kwargs={"run_dir": str(ctx.run_dir), "checkpoint": str(checkpoint), "ids": list(fold.measure)},
                    )
                )
                continue
            task = FitTask(
                labeled=fold.train,
                labels_dir=ctx.run_dir,
                checkpoint=checkpoint,
                scratch_dir=checkpoint.with_suffix(".training"),
                seed=ctx.rng("lut base").seed(n),
                cycle=ctx.cycle,
            )
            jobs.append(self.measured(ctx, task, {}, fold, f"base_{n}", keep=True))
        return jobs

    def bases_of(self, ctx: StageContext) -> list[Path]:
        """Return the models that the rows start from; none if they start from scratch."""
        if self.settings.mode != "finetune":
            return []
        plan = self.plan(ctx)
        return [self.base_of(ctx, plan, n) for n in range(len(plan.folds))]

    def base_of(self, ctx: StageContext, plan: Plan, fold: int) -> Path:
        """Return the model that was trained on a fold's images alone."""
        is_whole = set(plan.folds[fold].train) == set(ctx.pool.labeled())
        return ctx.cycle_dir / "model.ckpt" if is_whole else ctx.cycle_dir / "lut" / f"base_{fold}.ckpt"

    def job(
        self,
        ctx: StageContext,
        plan: Plan,
        batch: Sequence[str],
        fold: int,
        seed: int,
        name: str,
        base: Path | None = None,
        folder: Path | None = None,
    ) -> Job:
        """Describe the training of one row; all rows share one seed, so that they differ by their batch alone.

        ``base`` is what it starts from and ``folder`` where it lies, if these are not the cycle's own.
        """
        s, folder = self.settings, folder or ctx.cycle_dir / "lut"
        recipe = row_trainer(s.trainer, ctx.config["trainer"])
        changes: dict[str, Any] = {"trainer": scaled(recipe, s.length, s.lr_scale)}
        is_part = s.rows_from == "labeled"
        if not is_part:
            changes["objective"] = dict(s.objective)
        finetune = s.mode == "finetune"
        task = FitTask(
            labeled=(*plan.first, *batch) if is_part else plan.folds[fold].train,
            unlabeled=() if is_part else tuple(batch),
            labels_dir=ctx.run_dir,
            checkpoint=folder / f"{name}.ckpt",
            scratch_dir=folder / f"{name}.training",
            seed=ctx.rng("lut row").seed(seed),
            cycle=ctx.cycle,
            start="weights" if finetune else "scratch",
            init_checkpoint=(base or self.base_of(ctx, plan, fold)) if finetune else None,
        )
        return self.measured(ctx, task, changes, plan.folds[fold], name, folder=folder)

    def measured(
        self,
        ctx: StageContext,
        task: FitTask,
        changes: dict[str, Any],
        fold: Fold,
        name: str,
        keep: bool = False,
        folder: Path | None = None,
    ) -> Job:
        """Describe a training and its measurement on what a fold holds out."""
        return Job(
            f"cycle {ctx.cycle:02d} {name.replace('_', ' ')}",
            "al_lab.stages.jobs:fit_and_measure",
            result=(folder or ctx.cycle_dir / "lut") / f"{name}.json",
            kwargs={
                "run_dir": str(ctx.run_dir),
                "task": task.to_json(),
                "changes": changes,
                "ids": list(fold.measure),
                "keep": keep,
                "early_stop": None if keep else self.settings.stop_of_all,
                "progress": str(task.scratch_dir / "progress.json"),
            },
            outputs=(task.checkpoint,) if keep else (),
        )
