"""The stage ``build_lut``: train many times, each time with another random unlabeled batch.

What came of it is written down.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from al_lab.core.errors import ConfigError, ResumeError, explain
from al_lab.core.fields import at_least, between, check_fields, one_of, optional, positive, share
from al_lab.core.files import read_json, write_json
from al_lab.core.pool import Pool, ids_hash
from al_lab.core.record.labels import read_classes
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Candidates
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.learners.settings import TrainSettings
from al_lab.strategies.detection._mgral.batches import Batches, RowsFrom, by_clusters, halves, part_size, uniform
from al_lab.strategies.detection._mgral.honesty import SIGNIFICANCE, against_base, spread_against_noise
from al_lab.strategies.detection._mgral.reward_split import Fold, reward_folds

log = logging.getLogger(__name__)


#: what a model that saw the first half of the labeled set says of the second
HALF = "half.npz"


@dataclass(frozen=True, kw_only=True)
class LutSettings:
    """How the table is built; the numbers of ``strategy.lut``.

    Liang et al., MGRAL, Sec. 3.3: M rows, each = labeled set + one random unlabeled batch of the query's size, trained
    semi-supervised, and its mAP.

    Attributes:
        rows: M; 200 on VOC, 30 on COCO.
        objective: of the rows: ``isd`` for SSD, ``sed`` for RetinaNet, as a configuration node.
        mode: ``scratch`` (the paper) or ``finetune``: rows start from the row base, a supervised training on the same
            labels.
        trainer: of the rows, as a configuration node; None: the campaign's.
        length: rows train for this fraction of that schedule, milestones included.
        lr_scale: factor on its learning rate: rows that start from the base would undo it at the full one.
        split: what rows are measured on, see `reward_folds`.
        fraction, minimum, folds: of that split.
        metric: the reward; None: the dataset's first metric.
        repeats: rows that are trained again with other seeds, to see how much of the spread is noise.
        seeds: trainings of each of these, the first included.
        batches: which the rows are: ``uniform`` (the paper) or ``clusters``, see `batches`.
        num_clusters: of ``batches=clusters`` and ``rows_from=labeled``.
        rows_from: what a row trains on: the labeled set and a batch without labels (``unlabeled``, the paper), or half
            of the labeled set and a part of the other half, with their labels (``labeled``), see `batches`.
        early_stop: rows stop after this fraction of their schedule (beyond the paper); None: at its end.
    """

    rows: int
    objective: Mapping[str, Any]
    mode: Literal["scratch", "finetune"] = "finetune"
    trainer: Mapping[str, Any] | None = None
    length: float = 1.0
    lr_scale: float = 1.0
    split: str = "holdout"
    fraction: float = 0.2
    minimum: int = 50
    folds: int = 5
    metric: str | None = None
    repeats: int = 3
    seeds: int = 3
    early_stop: float | None = None
    batches: Batches = "uniform"
    num_clusters: int = 16
    rows_from: RowsFrom = "unlabeled"

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "rows": at_least(2),
                "mode": one_of("scratch", "finetune"),
                "length": positive,
                "lr_scale": positive,
                "seeds": at_least(1),
                "repeats": between(0, self.rows),
                "early_stop": optional(share),
                "batches": one_of(*get_args(Batches)),
                "rows_from": one_of(*get_args(RowsFrom)),
            },
            "strategy.lut",
        )
        if self.rows_from == "labeled" and (self.mode, self.lr_scale) != ("scratch", 1):
            raise ConfigError(
                explain(
                    expected="rows that are trained as the campaign's models are",
                    got=f"strategy.lut.mode={self.mode} and strategy.lut.lr_scale={self.lr_scale:g}: the base has seen "
                    "every label, so a row that goes on from it says nothing of its part",
                    where="strategy.lut.rows_from=labeled",
                    do="set strategy.lut.mode=scratch strategy.lut.lr_scale=1",
                )
            )
        if self.rows_from == "labeled" and self.split == "kfold":
            raise ConfigError(
                explain(
                    expected="rows that are all measured on the same images",
                    got="strategy.lut.split=kfold",
                    where="strategy.lut.rows_from=labeled",
                    do="set strategy.lut.split=holdout",
                )
            )


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


class BuildLut(Stage):
    """``model.ckpt`` and pool -> ``lut/table.json``.

    Every row is a job with a result file: what is finished is never trained again.
    """

    name = "build_lut"

    def __init__(self, settings: LutSettings) -> None:
        self.settings = settings

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Train and measure the bases, the rows and their repetitions.

        They run in parallel where they don't need each other.
        """
        plan = self.plan(ctx)
        bases = self.bases(ctx, plan)
        metric = self.settings.metric or ctx.dataset.metrics[0]
        references = [float(base["metrics"][metric]) for base in bases]
        if plan.first:
            self._look(ctx, plan)
        numbers = [(m, 0) for m in range(len(plan.batches))] + [
            (m, s) for s in range(1, self.settings.seeds) for m in range(self.settings.repeats)
        ]
        results = ctx.executor.run(
            [self.job(ctx, plan, plan.batches[m], m % len(plan.folds), s, f"row_{m:03d}_seed{s}") for m, s in numbers]
        )
        rows = [
            _row(number, number[0] % len(plan.folds), plan.batches[number[0]], result, metric)
            for number, result in zip(numbers, results, strict=True)
        ]
        table = {
            "cycle": ctx.cycle,
            "labeled_hash": plan.labeled_hash,
            "split": self.settings.split,
            "metric": metric,
            "mode": self.settings.mode,
            "rows_from": self.settings.rows_from,
            "objective": _hash(self.settings.objective),
            "num_measured": len({i for fold in plan.folds for i in fold.measure}),
            "references": references,
            "rows": [row | {"reward": _reward(row, references)} for row in rows],
            "seconds": sum(r["seconds"] for r in results),
        }
        diverged = sum("diverged" in row for row in rows)
        if diverged:
            log.warning(
                "%d of %d rows and repetitions diverged and were begun again with a seed of their own; "
                "the difference a seed makes is part of their rewards",
                diverged,
                len(rows),
            )
        noise = signal_and_noise(table)
        write_json(self.path(ctx), table | {"signal": noise})
        log.info(
            "%d rows and repetitions took %.1f s each on average, %.3f device-hours in all",
            len(rows),
            table["seconds"] / len(rows),
            table["seconds"] / 3600,
        )
        log.log(logging.INFO if noise.get("p_value", 1.0) <= SIGNIFICANCE else logging.WARNING, noise["sentence"])
        return {
            "rows": len(plan.batches),
            "reference": float(np.mean(references)),
            **{k: v for k, v in noise.items() if isinstance(v, float)},
            "training_seconds": table["seconds"],
            **({"diverged_rows": diverged} if diverged else {}),
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
        s, rng = self.settings, ctx.rng(self.name)
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
            return self._simulated(ctx, folds, size)
        if s.batches == "uniform":
            batches = uniform(unlabeled, size, s.rows, rng)
        else:
            batches = by_clusters(unlabeled, _embeddings(ctx, unlabeled), size, s.rows, s.num_clusters, rng)
        return Plan(folds, batches, ctx.pool.labeled_hash(), size)

    def _simulated(self, ctx: StageContext, folds: list[Fold], size: int) -> Plan:
        """Plan rows that buy again what is labeled already, see `batches`."""
        s, rng = self.settings, ctx.rng(self.name)
        first, second = halves(folds[0].train, rng.child("halves"))
        features = _embeddings(ctx, second)
        batches = by_clusters(second, features, part_size(len(second)), s.rows, s.num_clusters, rng)
        return Plan(folds, batches, ctx.pool.labeled_hash(), size, first)

    def _look(self, ctx: StageContext, plan: Plan) -> None:
        """Train on the first half, and ask that model what it expects of the images of the second."""
        folder = ctx.cycle_dir / "lut"
        task = FitTask(
            labeled=plan.first,
            labels_dir=ctx.run_dir,
            checkpoint=folder / "base_half.ckpt",
            scratch_dir=folder / "base_half.training",
            seed=ctx.rng("lut base").seed("half"),
            cycle=ctx.cycle,
        )
        ctx.executor.run([self.measured(ctx, task, {}, plan.folds[0], "base_half", keep=True)])
        second = sorted(set(plan.folds[0].train) - set(plan.first))
        ctx.executor.run(
            [
                Job(
                    f"cycle {ctx.cycle:02d} look at the second half",
                    "al_lab.stages.jobs:score",
                    result=folder / "half_scored.json",
                    kwargs={
                        "run_dir": str(ctx.run_dir),
                        "checkpoint": str(task.checkpoint),
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
        jobs = []
        for n, fold in enumerate(plan.folds):
            checkpoint = self._base(ctx, plan, n)
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
        results: list[dict[str, Any]] = ctx.executor.run(jobs)
        return results

    def bases_of(self, ctx: StageContext) -> list[Path]:
        """Return the models that the rows start from; none if they start from scratch."""
        if self.settings.mode != "finetune":
            return []
        plan = self.plan(ctx)
        return [self._base(ctx, plan, n) for n in range(len(plan.folds))]

    def _base(self, ctx: StageContext, plan: Plan, fold: int) -> Path:
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
        changes: dict[str, Any] = {"trainer": scaled(s.trainer or ctx.config["trainer"], s.length, s.lr_scale)}
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
            init_checkpoint=(base or self._base(ctx, plan, fold)) if finetune else None,
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
                "early_stop": None if keep else self.settings.early_stop,
                "progress": str(task.scratch_dir / "progress.json"),
            },
            outputs=(task.checkpoint,) if keep else (),
        )


def _embeddings(ctx: StageContext, ids: Sequence[str]) -> np.ndarray:
    """Return the embeddings (N, D) of some images that the stage ``score`` looked at."""
    candidates = Candidates.load(ctx.cycle_dir / "candidates.npz")
    place = {i: n for n, i in enumerate(candidates.sample_ids)}
    return np.asarray(candidates.info["embedding"], np.float32)[[place[i] for i in ids]]


def scaled(trainer: Mapping[str, Any], length: float, lr: float = 1.0) -> dict[str, Any]:
    """Return a recipe whose whole schedule is longer or shorter by a factor.

    Its learning rate is higher or lower by another.
    """
    node = dict(trainer)
    if lr != 1:
        node["lr"] = node.get("lr", TrainSettings.lr) * lr
    if length != 1:
        for key in ("max_iters", "max_epochs", "warmup_iters"):
            if node.get(key):
                node[key] = node[key] * length if key == "max_epochs" else max(1, round(node[key] * length))
        node["milestones"] = [
            m * length if node.get("max_epochs") else max(1, round(m * length)) for m in node.get("milestones") or ()
        ]
    return node


def _row(
    number: tuple[int, int], fold: int, batch: Sequence[str], result: Mapping[str, Any], metric: str
) -> dict[str, Any]:
    return {
        "number": number[0],
        "seed": number[1],
        "fold": fold,
        "ids": list(batch),
        "ids_hash": ids_hash(batch),
        "value": float(result["metrics"][metric]),
        "per_class": result["per_class"],
        "seconds": result["seconds"],
        **({"diverged": result["diverged"]} if "diverged" in result else {}),
    }


def rewards(table: Mapping[str, Any]) -> np.ndarray:
    """Return the reward of each row (first seeds), (M,): its metric, with the differences between folds taken out."""
    return np.array([_reward(row, table["references"]) for row in table["rows"] if row["seed"] == 0])


def _reward(row: Mapping[str, Any], references: Sequence[float]) -> float:
    return float(row["value"] - references[row["fold"]] + np.mean(references))


def load_table(path: Path, pool: Pool, split: str) -> dict[str, Any]:
    """Read a table and refuse rows that belong to another labeled set or were measured on other images.

    Raises:
        ResumeError: naming what differs.
    """
    table: dict[str, Any] = read_json(path)
    for name, expected in (("labeled_hash", pool.labeled_hash()), ("split", split)):
        if table[name] != expected:
            raise ResumeError(
                explain(
                    expected=f"rows with {name} {expected}",
                    got=str(table[name]),
                    where=str(path),
                    do="delete the folder lut of this cycle: its rows belong to other labels",
                )
            )
    return table


def signal_and_noise(table: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the spread between rows with the spread between seeds of the same row, in points.

    See `spread_against_noise`.
    """
    repeated: dict[int, list[float]] = {}
    for row in table["rows"]:
        repeated.setdefault(row["number"], []).append(100 * row["value"])
    return against_base(
        100 * rewards(table),
        100 * float(np.mean(table["references"])),
        spread_against_noise(100 * rewards(table), repeated),
    )


def _hash(node: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(node, sort_keys=True, default=str).encode()).hexdigest()[:16]
