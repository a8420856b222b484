"""The stage ``truth``: how much batches are really worth, with their labels. Only the report reads it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from al_lab.config.build import build
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, check_fields
from al_lab.core.files import write_json
from al_lab.core.pool import INITIAL, ids_hash, purchase_dir
from al_lab.core.record.labels import read_labels
from al_lab.core.record.purchase import read_queries, write_labels
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Annotation, Candidates
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.stages.sharding import remove_shards, run_sharded
from al_lab.strategies.detection._mgral.batches import uniform
from al_lab.strategies.detection._mgral.build_lut import BuildLut
from al_lab.strategies.detection._mgral.gradient.weigh import weigh
from al_lab.strategies.detection._mgral.honesty import judged
from al_lab.strategies.detection._mgral.rows.plan import Plan
from al_lab.strategies.detection._mgral.rows.table import load_table, rewards

log = logging.getLogger(__name__)

_POINTS = 100
_FEWEST = 4  # pairs a rank correlation with an interval is made of
_Z = 1.96
Batches = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class TruthSettings:
    """What is trained with labels after the choice is made; the numbers of ``strategy.truth``.

    Attributes:
        rows: so many first rows of the table are trained again with their labels, and beside them the agent's batch,
            the best row of the table and what the rivals would have bought; 0: nothing is, and nobody knows.
        seeds: trainings of each.
        rivals: name to a strategy's configuration node.
    """

    rows: int = 0
    seeds: int = 1
    rivals: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(vars(self), {"rows": at_least(0), "seeds": at_least(1)}, "strategy.truth")
        if 0 < self.rows < _FEWEST:
            raise ConfigError(
                explain(
                    expected=f"0, or at least {_FEWEST} rows to correlate",
                    got=str(self.rows),
                    where="strategy.truth.rows",
                    do="raise strategy.truth.rows",
                )
            )


class Truth(Stage):
    """``queries.json`` and ``lut/table.json`` -> ``truth.json``.

    The rows' rewards come from trainings without labels (MGRAL, Sec. 3.3); here the same batches are trained as the
    next cycle would, with their labels, and measured on the test images. With an oracle that does not know the pool
    (people), the same is asked of parts of the labeled set, see `_on_labeled`. What is revealed is booked as analysis,
    not as bought: nothing that chooses or trains reads this folder.
    """

    name = "truth"

    def __init__(self, settings: TruthSettings, lut: BuildLut) -> None:
        self.settings, self.lut = settings, lut

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Train, compare, and write it down."""
        table = load_table(self.lut.path(ctx), ctx.pool, self.lut.settings.split)
        batches = self._batches(ctx, table)
        known = {i: ctx.oracle.peek(ctx.dataset, i) for i in sorted({i for ids in batches.values() for i in ids})}
        if all(a is not None for a in known.values()):
            facts = self._on_pool(ctx, table, batches, known)
        else:
            facts = self._on_labeled(ctx)
        write_json(ctx.cycle_dir / "truth.json", facts | {"sentence": sentence(facts)})
        log.info(sentence(facts))
        found = facts["rank_correlation"]
        return {} if found is None else {"surrogate_rank_correlation": found["value"]}

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what the report reads."""
        return [ctx.cycle_dir / "truth.json"]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the model that rivals look through, and what the parts of the labeled set start from."""
        return [ctx.cycle_dir / "model.ckpt", *self.lut.bases_of(ctx)]

    def _batches(self, ctx: StageContext, table: Mapping[str, Any]) -> Batches:
        """Return name to ids: the first rows, random ones unless these are, the agent's, the best row, the rivals'."""
        first = [row for row in table["rows"] if row["seed"] == 0]
        batches = {f"row {row['number']}": tuple(row["ids"]) for row in first[: self.settings.rows]}
        if self.lut.settings.batches != "uniform":  # designed rows are no random batches
            unlabeled, size = ctx.pool.unlabeled(), len(next(iter(batches.values())))
            drawn = uniform(unlabeled, size, self.settings.rows, ctx.rng("truth random"))
            batches |= {f"random {m}": ids for m, ids in enumerate(drawn)}
        batches["agent"] = tuple(sorted(q.sample_id for q in read_queries(ctx.cycle_dir)))
        batches["best row"] = tuple(first[int(np.argmax(rewards(table)))]["ids"])
        return batches | {name: self._bought_by(ctx, name, node) for name, node in self.settings.rivals.items()}

    @staticmethod
    def _bought_by(ctx: StageContext, name: str, node: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what another strategy would have bought with this model and budget."""
        strategy = build(node)
        ids = ctx.pool.ids if strategy.scores_labeled else ctx.pool.unlabeled()
        changes = {"strategy": dict(node)}
        model = ctx.cycle_dir / "model.ckpt"
        paths = run_sharded(ctx, f"truth_{name}", "score", ids, model, ".npz", cycle=ctx.cycle, changes=changes)
        candidates = Candidates.concat([Candidates.load(path) for path in paths])
        remove_shards(paths)
        allowance = ctx.budget.allowance(ctx.cycle, len(ctx.pool))
        queries = strategy.select(candidates, ctx.pool, allowance, ctx.rng(f"truth {name}"))
        return tuple(sorted(q.sample_id for q in queries))

    def _on_pool(
        self, ctx: StageContext, table: Mapping[str, Any], batches: Batches, known: Mapping[str, Annotation]
    ) -> dict[str, Any]:
        """Train every batch with its labels beside the whole labeled set, as the next cycle does with the agent's."""
        plan, labeled = self.lut.plan(ctx), ctx.pool.labeled()
        folder = ctx.cycle_dir / "truth"
        write_labels(purchase_dir(folder, INITIAL), read_labels(ctx.run_dir, labeled) | dict(known))
        measured_on = tuple(ctx.dataset.test_ids)
        kept = labeled if measured_on else plan.folds[0].train
        tasks = {
            (name, seed): self._task(ctx, folder, kept, ids, seed)
            for name, ids in batches.items()
            for seed in range(self.settings.seeds)
        }
        values = self._train(ctx, table["metric"], tasks, measured_on or plan.folds[0].measure)
        told = dict(zip((f"row {r['number']}" for r in table["rows"] if r["seed"] == 0), rewards(table), strict=True))
        told["best row"] = float(np.max(rewards(table)))
        rows: list[dict[str, Any]] = [
            {
                "name": name,
                "ids_hash": ids_hash(ids),
                "reward": None if name not in told else _POINTS * float(told[name]),
                "values": [values[name, seed] for seed in range(self.settings.seeds)],
            }
            for name, ids in batches.items()
        ]
        return {
            "on": "pool",
            "metric": table["metric"],
            "measured_on": "test" if measured_on else "holdout",
            "batches": rows,
            "rank_correlation": rank_correlation([r for r in rows if r["name"].startswith("row ")]),
            "against": against_rows(rows),
            "analyzed": {"images": len(known), "boxes": sum(len(a.labels) for a in known.values())},
        }

    def _on_labeled(self, ctx: StageContext) -> dict[str, Any]:
        """Ask the same of the labeled set: half of what rows train on stays, batches are drawn from the other half.

        Each is trained twice beside the half that stays: as a row, without its labels and from a base that saw none of
        them, and with its labels.
        """
        plan, rng = self.lut.plan(ctx), ctx.rng(self.name)
        fold = plan.folds[0]
        order = [fold.train[n] for n in rng.generator("halves").permutation(len(fold.train))]
        kept, others = tuple(sorted(order[: len(order) // 2])), sorted(order[len(order) // 2 :])
        size = max(1, min(len(plan.batches[0]), len(others) // 2))
        draws = [rng.generator("part", m).choice(len(others), size, replace=False) for m in range(self.settings.rows)]
        batches = {f"row {m}": tuple(sorted(others[n] for n in draw)) for m, draw in enumerate(draws)}
        part = replace(plan, folds=[replace(fold, train=kept)])
        surrogate = self._surrogate(ctx, part, batches)
        tasks = {
            (name, seed): self._task(ctx, ctx.run_dir, kept, ids, seed)
            for name, ids in batches.items()
            for seed in range(self.settings.seeds)
        }
        metric = self.lut.settings.metric or ctx.dataset.metrics[0]
        values = self._train(ctx, metric, tasks, fold.measure)
        rows: list[dict[str, Any]] = [
            {
                "name": name,
                "ids_hash": ids_hash(ids),
                "reward": surrogate[name],
                "values": [values[name, seed] for seed in range(self.settings.seeds)],
            }
            for name, ids in batches.items()
        ]
        found = rank_correlation(rows)
        return {
            "on": "labeled",
            "metric": metric,
            "measured_on": "holdout",
            "batches": rows,
            "rank_correlation": found,
            "against": {},
            "analyzed": {"images": 0, "boxes": 0},
        }

    def _surrogate(self, ctx: StageContext, part: Plan, batches: Batches) -> dict[str, float]:
        """Return the reward, in points, of rows beside a part of the labeled set."""
        folder = ctx.cycle_dir / "truth"
        is_gradient = self.lut.settings.reward == "gradient"
        base = folder / "base.ckpt" if self.lut.settings.mode == "finetune" or is_gradient else None
        if base is not None:
            task = self._task(ctx, ctx.run_dir, part.folds[0].train, (), 0)
            task = replace(task, checkpoint=base, scratch_dir=base.with_suffix(".training"))
            ctx.executor.run([self.lut.measured(ctx, task, {}, part.folds[0], "base", keep=True, folder=folder)])
        if is_gradient:
            assert base is not None
            others = sorted({i for ids in batches.values() for i in ids})
            gains = weigh(ctx, base, part.folds[0].measure, others, "truth_gains")
            base.unlink()
            return {name: _POINTS * sum(gains[i] for i in ids) for name, ids in batches.items()}
        jobs = [
            self.lut.job(ctx, part, ids, 0, 0, f"part_{ids_hash(ids)[:12]}", base=base, folder=folder)
            for ids in batches.values()
        ]
        metric = self.lut.settings.metric or ctx.dataset.metrics[0]
        results = ctx.executor.run(jobs)
        if base is not None:
            base.unlink(missing_ok=True)
        return {n: _POINTS * float(r["metrics"][metric]) for n, r in zip(batches, results, strict=True)}

    def _task(self, ctx: StageContext, labels_dir: Path, kept: Sequence[str], ids: Sequence[str], seed: int) -> FitTask:
        stem = ctx.cycle_dir / "truth" / f"{ids_hash(ids)[:12]}_seed{seed}"
        return FitTask(
            labeled=tuple(sorted({*kept, *ids})),
            labels_dir=labels_dir,
            checkpoint=stem.with_suffix(".ckpt"),
            scratch_dir=stem.with_suffix(".training"),
            seed=ctx.rng(self.name).seed(seed),
            cycle=ctx.cycle + 1,
        )

    @staticmethod
    def _train(
        ctx: StageContext, metric: str, tasks: Mapping[tuple[str, int], FitTask], measured_on: Sequence[str]
    ) -> dict[tuple[str, int], float]:
        """Train with the campaign's own objective and recipe; equal batches once. Returns points."""
        jobs = {
            task.checkpoint: Job(
                f"cycle {ctx.cycle:02d} truth {name}",
                "al_lab.stages.jobs:fit_and_measure",
                result=task.checkpoint.with_suffix(".json"),
                kwargs={
                    "run_dir": str(ctx.run_dir),
                    "task": task.to_json(),
                    "changes": {},
                    "ids": list(measured_on),
                    "progress": str(task.scratch_dir / "progress.json"),
                },
            )
            for (name, _), task in tasks.items()
        }
        results = dict(zip(jobs, ctx.executor.run(list(jobs.values())), strict=True))
        return {key: _POINTS * float(results[task.checkpoint]["metrics"][metric]) for key, task in tasks.items()}


def rank_correlation(rows: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return Spearman's correlation of rewards with what labels gave, and its 95 % interval.

    The interval is Fisher's z with the variance (1 + r^2 / 2) / (n - 3) (Bonett and Wright, Psychometrika 2000).

    Args:
        rows: each with ``reward`` and ``values``, points.

    Returns:
        ``value``, ``low``, ``high``, ``rows``; None where all rewards, or all truths, are equal.
    """
    pairs = np.array([(row["reward"], np.mean(row["values"])) for row in rows])
    if len(pairs) < _FEWEST or np.ptp(pairs, axis=0).min() == 0:
        return None
    value = float(spearmanr(*pairs.T).statistic)
    half = _Z * np.sqrt((1 + value**2 / 2) / (len(pairs) - 3))
    z = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    return {
        "value": value,
        "low": float(np.tanh(z - half)),
        "high": float(np.tanh(z + half)),
        "rows": float(len(pairs)),
    }


def against_rows(batches: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Weigh batches against random ones, and the agent's against the best row of the table, all with their labels.

    Rows of the table are random batches, unless there are batches named so. By chance a batch is one more random one:
    its difference from the mean of n has the standard error s sqrt(1 + 1/n), that of two batches s sqrt(2), where s is
    the spread of the random ones. Student's t with n - 1, Holm's correction.
    """
    truth = {row["name"]: float(np.mean(row["values"])) for row in batches}
    random = random_ones(truth)
    n, spread = len(random), float(np.std(random, ddof=1))
    others = [name for name in truth if not name.startswith(("row ", "random "))]
    pairs = {name: (truth[name] - float(np.mean(random)), spread * np.sqrt(1 + 1 / n)) for name in others}
    pairs["agent over best row"] = (truth["agent"] - truth["best row"], spread * np.sqrt(2))
    return judged(pairs, n - 1)


def random_ones(truth: Mapping[str, float]) -> list[float]:
    """Return what random batches gave: those named so, else the rows of the table."""
    named = [value for name, value in truth.items() if name.startswith("random ")]
    return named or [value for name, value in truth.items() if name.startswith("row ")]


def sentence(facts: Mapping[str, Any]) -> str:
    """Say what was found."""
    found, where = facts["rank_correlation"], "test images" if facts["measured_on"] == "test" else "held-out images"
    kind = "random batches" if facts["on"] == "pool" else "parts of the labeled set"
    told = (
        f"rewards of {len(facts['batches'])} batches can't be ranked: all are equal"
        if found is None
        else f"the rewards of {found['rows']:.0f} {kind} and what they give with their labels, on {where}, have a rank "
        f"correlation of {found['value']:+.2f} (95 % interval {found['low']:+.2f} to {found['high']:+.2f})"
    )
    if "agent" not in facts["against"]:
        return told
    agent, best = facts["against"]["agent"], facts["against"]["agent over best row"]
    return (
        f"{told}; with its labels the agent's batch gives {agent['difference']:+.2f} ± {agent['standard_error']:.2f} "
        f"points against random batches ({agent['verdict']}), {best['difference']:+.2f} ± {best['standard_error']:.2f} "
        f"against the best row of the table ({best['verdict']}); ± is a standard error"
    )
