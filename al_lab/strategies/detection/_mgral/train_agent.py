"""The stage ``train_agent``: the agent learns from the table which batch is worth most.

It also says how much that is to be believed.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from al_lab.core.errors import WeightsError
from al_lab.core.files import write_json, write_text
from al_lab.core.pool import ids_hash
from al_lab.core.record.csv_file import csv_text
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import Candidates
from al_lab.execution.job import Job
from al_lab.learners.checkpoint import load_checkpoint, save_checkpoint
from al_lab.learners.trainer import limit_threads
from al_lab.strategies.detection._mgral.agent_scores import save_random_scores, save_scores
from al_lab.strategies.detection._mgral.build_lut import HALF, BuildLut
from al_lab.strategies.detection._mgral.decide import AgentSettings, Decision, decide, make_training
from al_lab.strategies.detection._mgral.honesty import (
    SIGNIFICANCE,
    against_chance,
    chosen_sentence,
    learning,
    leave_one_out_sentence,
    likeness,
    p_value,
    query_facts,
    sentences,
)
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.learning.worth import Trainer
from al_lab.strategies.detection._mgral.predictor.choice import Chosen, Predictor, Records, choose
from al_lab.strategies.detection._mgral.predictor.table import Choice, TableSettings
from al_lab.strategies.detection._mgral.reinforce import Iteration, Reinforce
from al_lab.strategies.detection._mgral.rows.kept import kept_facts, kept_rows, table_paths
from al_lab.strategies.detection._mgral.rows.table import load_table, signal_and_noise
from al_lab.strategies.detection._mgral.world import POINTS, World, order_images, seen_anew

log = logging.getLogger(__name__)


class TrainAgent(Stage):
    """``candidates.npz`` and ``lut/table.json`` -> ``agent_scores.npz``, ``rl_curves.csv``, ``agent.json``.

    Killed, it goes on from ``lut/agent_state.ckpt``; a batch that was trained because the table could not tell has a
    result file of its own, named by the hash of its sorted ids, and is never trained twice.
    """

    name = "train_agent"

    def __init__(
        self, settings: AgentSettings, learning: ReinforceSettings, reading: TableSettings, lut: BuildLut
    ) -> None:
        self.settings, self.learning, self.reading, self.lut = settings, learning, reading, lut

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Train, score the pool, and check the table against itself and the agent against chance."""
        limit_threads()
        world = self._world(ctx)
        records = world.records()
        chosen = choose(world.images, records, self.reading, ctx.rng("table"))
        signal = signal_and_noise(world.facts)
        honesty = {"signal": signal, **self._judged(chosen, world.num_rows, len(records.rewards_M))}
        if self.reading.keep is not None:
            honesty["kept"] = kept_facts(world.kept, self.reading.keep, world.num_rows, ctx.pool.labeled())
        if why := self._why_closed(chosen, signal):
            return self._closed(ctx, world, honesty, why)
        state = ctx.cycle_dir / "lut" / "agent_state.ckpt"
        found, pace = self._decide(ctx, world, chosen, records, state, ctx.rng(self.name), self._trained(ctx, world))
        save_scores(ctx.cycle_dir, dict(zip(world.candidates, found.utilities.tolist(), strict=True)))
        write_text(ctx.cycle_dir / "rl_curves.csv", _curves(found.agent.curves if found.agent else []))
        if found.agent:
            honesty["learning"] = learning(found.agent)
        if found.query:
            honesty["query"] = query_facts(found.query, self.settings.query)
        honesty["likeness"] = likeness(world.features_ND, found.batch, ctx.rng("likeness").generator())
        if ctx.cycle == 0 and self.settings.controls and records.are_batches:  # else no row is like a batch
            honesty["controls"] = self._controls(ctx, world, chosen, records, found.batch, signal.get("own_noise"))
        self._say(ctx, honesty, len(found.agent.fall_backs) if found.agent else 0)
        return self._scalars(found.agent, honesty) | pace

    def _why_closed(self, chosen: Chosen, signal: Mapping[str, Any]) -> str | None:
        """Say why nobody should follow this table; None: somebody may."""
        if chosen.predictor is None:
            return "no predictor tells a left-out row better than the mean of the others (strategy.lut.predictor=auto)"
        if self.settings.gate == "warn":
            return None
        found = chosen.judgments.get(chosen.predictor.name)
        if found is not None and not found.is_believed:
            return (
                "left-out rows are predicted no better than by their mean, or in no order (strategy.agent.gate=random)"
            )
        if p_value(signal) > SIGNIFICANCE:
            return "the table tells batches apart no better than noise (strategy.agent.gate=random)"
        return None

    def _closed(self, ctx: StageContext, world: World, honesty: dict[str, Any], why: str) -> dict[str, float]:
        """Leave the agent untrained and score as ``strategy=random`` does."""
        honesty["gate"] = {"sentence": f"no agent was trained and the batch is a random one, as {why}"}
        save_random_scores(ctx, world.candidates)
        write_text(ctx.cycle_dir / "rl_curves.csv", _curves([]))
        self._say(ctx, honesty, 0)
        return {"fall_backs": 0.0, "gate_closed": 1.0}

    @staticmethod
    def _say(ctx: StageContext, honesty: dict[str, Any], fall_backs: int) -> None:
        write_json(
            ctx.cycle_dir / "agent.json",
            honesty | {"fall_backs": fall_backs, "sentence": "; ".join(sentences(honesty))},
        )
        for sentence in sentences(honesty):
            log.info(sentence)

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what `select` and the report read, and the trained agents."""
        names = ("agent_scores.npz", "rl_curves.csv", "agent.json", "lut/shuffled_curves.csv")
        agents = (f"lut/{name}_state.ckpt" for name in ("agent", "shuffled"))
        return [path for name in (*names, *agents) if (path := ctx.cycle_dir / name).is_file()]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the models that a batch trained as a row starts from, and earlier cycles' tables, if they count."""
        tables = table_paths(ctx.run_dir, ctx.cycle) if self.reading.keep is not None else []
        return [ctx.cycle_dir / "model.ckpt", *self.lut.bases_of(ctx), *tables]

    def _world(self, ctx: StageContext) -> World:
        candidates = Candidates.load(ctx.cycle_dir / "candidates.npz")
        s = self.settings
        ids, images = order_images(candidates, ctx.pool.labeled(), ctx.rng(self.name), s.order, s.standardize)
        plan = self.lut.plan(ctx)
        facts = load_table(self.lut.path(ctx), ctx.pool, self.lut.settings.split)
        if plan.first:
            images = seen_anew(ids, images, Candidates.load(self.lut.path(ctx).with_name(HALF)))
        if self.reading.keep is None:
            return World(ids, images, plan.size, plan, facts)
        kept = kept_rows(ctx, self.lut.settings.split, plan.size, ids)
        return World(ids, images, plan.size, plan, facts, kept, self.reading.keep)

    def _judged(self, chosen: Chosen, num_rows: int, num_records: int) -> dict[str, Any]:
        """Return how well each predictor tells each record from the others; all are told, whichever is used.

        ``estimates`` are those of this cycle's rows, which are the first.
        """
        asked = self.reading.predictor
        name = chosen.predictor.name if chosen.predictor else None
        facts: dict[str, Any] = {"predictor": name or "none", "leave_one_out": None, "regressor": None}
        if not chosen.judgments:
            return facts
        told = {k: j.to_json() for k, j in chosen.judgments.items()}
        ridge = {k: told["ridge"][k] for k in ("rmse", "rank_correlation")} | {"alpha": chosen.alpha}
        shown = told.get("table") or told["ridge"]
        shown["estimates"] = shown["estimates"][:num_rows]
        sentence = leave_one_out_sentence(shown, ridge, num_records) if "table" in told else ""
        if asked != "table":
            sentence = "; ".join(filter(None, (sentence, chosen_sentence(told, name, asked))))
        return facts | {
            "leave_one_out": shown | {"sentence": sentence},
            "regressor": ridge,
            "predictors": {
                k: {n: t[n] for n in ("rmse", "rmse_of_mean", "rank_correlation", "is_better_than_mean")}
                for k, t in told.items()
            },
        }

    def _decide(
        self,
        ctx: StageContext,
        world: World,
        chosen: Chosen,
        records: Records,
        path: Path,
        rng: Rng,
        fall_back: Trainer,
    ) -> tuple[Decision, dict[str, float]]:
        """Return the batch: of the trained agent, or of the search over sets; and for the ledger an agent's pace."""
        pace: dict[str, float] = {}

        def train(predictor: Predictor) -> Reinforce:
            agent, found = self._train(ctx, world, predictor, path, rng, fall_back)
            pace.update(found)
            return agent

        return decide(world.images, chosen, records, world.budget, self.settings.query, train, rng), pace

    def _train(
        self, ctx: StageContext, world: World, predictor: Predictor, path: Path, rng: Rng, fall_back: Trainer
    ) -> tuple[Reinforce, dict[str, float]]:
        """Return the trained agent, and for the ledger its size and its speed.

        Seconds an iteration, trainings in it left out.
        """
        s = self.settings
        reference = POINTS * float(np.mean(world.facts["references"])) if s.ref0 == "base" else None
        training = make_training(world.features_ND, world.budget, s, self.learning, rng, reference)
        saver = _Saver(training, path, _whose(world, rng), float(ctx.config["runtime"].get("checkpoint_minutes") or 10))
        saver.restore()
        for known in training.records:
            predictor.append(np.array(known.batch), known.reward)

        first, start, trained = training.iteration, time.monotonic(), 0.0

        def append(batch: np.ndarray) -> float:
            nonlocal trained
            begin = time.monotonic()
            value = fall_back(batch)
            trained += time.monotonic() - begin
            predictor.append(batch, value)
            return value

        training.run(predictor, append, saver, self.lut.settings.online)
        pace = {"agent_parameters": float(sum(p.numel() for p in training.agent.parameters()))}
        if training.iteration > first:
            pace["seconds_per_iteration"] = (time.monotonic() - start - trained) / (training.iteration - first)
        saver.save()
        return training, pace

    def _trained(self, ctx: StageContext, world: World) -> Trainer:
        return lambda batch: self._measure(ctx, world, [batch], "fallback")[0]

    def _measure(
        self, ctx: StageContext, world: World, batches: Sequence[np.ndarray], what: str, seed: int = 0
    ) -> list[float]:
        """Train rows and return their rewards in points; equal batches are trained once."""
        jobs: dict[str, Job] = {}
        names: list[str] = []
        for batch in batches:
            ids = sorted(world.ids[n] for n in batch)
            names.append(f"{what}_{ids_hash(ids)[:12]}")
            jobs[names[-1]] = self.lut.job(ctx, world.plan, ids, 0, seed, names[-1])
        results = dict(zip(jobs, ctx.executor.run(list(jobs.values())), strict=True))
        references = np.asarray(world.facts["references"])
        metric, shift = world.facts["metric"], float(references.mean() - references[0])
        return [POINTS * (float(results[name]["metrics"][metric]) + shift) for name in names]

    def _controls(
        self,
        ctx: StageContext,
        world: World,
        chosen: Chosen,
        records: Records,
        batch: np.ndarray,
        noise: float | None,
    ) -> dict[str, Any]:
        """Train on the agent's batch, on random ones, and on that of an agent that learned from shuffled rewards.

        Same seed, same labels. What the other agent's table can't tell is no training either, which would be true, but
        the reward of some row.
        """
        assert chosen.predictor is not None
        rng, values = ctx.rng("controls"), records.rewards_M

        def some_row(batch: np.ndarray) -> float:
            return float(rng.generator("some row", ids_hash(sorted(world.ids[n] for n in batch))).choice(values))

        mixed = replace(records, rewards_M=values[rng.generator("shuffle").permutation(len(values))])
        reading = replace(self.reading, predictor=cast(Choice, chosen.predictor.name))
        other, _ = self._decide(
            ctx,
            world,
            choose(world.images, mixed, reading, ctx.rng("table")),
            mixed,
            ctx.cycle_dir / "lut" / "shuffled_state.ckpt",
            rng,
            some_row,
        )
        write_text(ctx.cycle_dir / "lut" / "shuffled_curves.csv", _curves(other.agent.curves if other.agent else []))
        random = [
            rng.generator("random", n).choice(len(world.candidates), world.budget, replace=False)
            for n in range(self.settings.controls)
        ]
        measured = self._measure(ctx, world, [batch, other.batch, *random], "control", seed=self.lut.settings.seeds)
        found = learning(other.agent) if other.agent else None
        facts = against_chance(measured[0], measured[1], measured[2:], values[: world.num_rows], noise)
        if found:
            log.info("an agent with shuffled rewards: %s", found["sentence"])
            facts["shuffled_gain"] = found["gain"]
        return facts

    @staticmethod
    def _scalars(training: Reinforce | None, honesty: dict[str, Any]) -> dict[str, float]:
        last = training.curves[-1] if training and training.curves else None
        scalars = {"fall_backs": float(len(training.fall_backs)) if training else 0.0}
        if last is not None:
            scalars |= {
                "reward": last.reward,
                "reference": last.reference,
                "entropy": last.entropy,
                "neighbors": last.neighbors,
            }
        if honesty["leave_one_out"]:
            scalars["table_rank_correlation"] = honesty["leave_one_out"]["rank_correlation"]
        return scalars


class _Saver:
    """Keep the agent's state on disk, and say how far it is; ``whose`` tells this training from others."""

    def __init__(self, training: Reinforce, path: Path, whose: str, minutes: float) -> None:
        self.training, self.path, self.whose, self.minutes = training, path, whose, minutes
        self.saved = self.told = time.monotonic()

    def __call__(self, record: Iteration) -> None:
        now = time.monotonic()
        if now - self.saved > 60 * self.minutes:
            self.save()
            self.saved = now
        if now - self.told > 15:  # noqa: PLR2004 - seconds between two lines of the log
            log.info(
                "agent %d/%d | reward %.2f | reference %.2f | advantage %+.2f | entropy %.2f | overlap %.2f | %g "
                "neighbors | %d fall-backs",
                record.iteration + 1,
                self.training.settings.iterations,
                record.reward,
                record.reference,
                record.advantage,
                record.entropy,
                record.overlap,
                record.neighbors,
                record.fall_backs,
            )
            self.told = now

    def save(self) -> None:
        """Write the state."""
        save_checkpoint(self.path, self.training.state_dict() | {"whose": self.whose})

    def restore(self) -> None:
        """Go on from a state of this very training; a damaged one is named, and only the time it took is lost."""
        if not self.path.is_file():
            return
        try:
            state = load_checkpoint(self.path, ("agent", "optimizer", "iteration"))
        except WeightsError as error:
            log.warning("%s. The agent's training starts over.", error)
            return
        if state.get("whose", self.whose) != self.whose:  # those of older versions say nothing
            log.warning("%s belongs to another agent (other table or images). Its training starts over.", self.path)
            return
        self.training.load_state_dict(state)


def _whose(world: World, rng: Rng) -> str:
    """Identify what an agent's training computes."""
    content = [
        world.candidates,
        world.facts["references"],
        [[r["ids"], r["value"]] for r in world.facts["rows"]],
        rng.seed(),
        *([world.keep, [[r.age, r.ids, r.gain] for r in world.kept]] if world.kept else []),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _curves(records: Sequence[Iteration]) -> str:
    rows = [asdict(r) for r in records]
    return csv_text(list(rows[0]) if rows else ["iteration"], (list(row.values()) for row in rows))
