"""The campaign: cycles of stages, each committed once, gone on with by the same command after any interruption."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from al_lab.campaign.assemble import check_parts
from al_lab.campaign.identity import begins_anew, identify, set_aside
from al_lab.campaign.progress import Eta
from al_lab.campaign.publish import Publisher, renew_report
from al_lab.config.load import config_difference, load_config, save_config
from al_lab.config.parts import Parts
from al_lab.core.errors import AwaitingLabels, ResumeError, explain
from al_lab.core.files import folder_lock, read_json, sha256, write_text
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.csv_file import csv_text
from al_lab.core.record.identity import RunIdentity
from al_lab.core.record.ledger import Ledger, last_key
from al_lab.core.stage import Stage, StageContext
from al_lab.stages.analyze import Analyze
from al_lab.stages.annotate import Annotate, Initialize, load_pool
from al_lab.stages.evaluate import Evaluate
from al_lab.stages.jobs import hold_open
from al_lab.stages.score import Score
from al_lab.stages.select import Select
from al_lab.stages.train import Train

log = logging.getLogger(__name__)

_STANDARD: dict[str, type[Stage]] = {s.name: s for s in (Initialize, Train, Evaluate, Score, Select, Annotate)}


def run_campaign(parts: Parts | Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Run a campaign, or go on with it.

    Args:
        parts: what was built of the configuration so far; or the configuration, resolved and as plain containers.
        run_dir: the campaign's folder; it is the truth, and it alone decides what is left to do.

    Returns:
        ``{"status": "finished" | "already finished" | "awaiting", "run_dir", "message", **metrics of the last cycle}``.

    Raises:
        LabError: for everything a user can mend; what is committed stays.
    """
    parts = parts if isinstance(parts, Parts) else Parts(parts)
    config, run_dir = parts.config, run_dir.absolute()
    anew = begins_anew(config, run_dir)
    is_new = anew or not (run_dir / "ledger.jsonl").is_file()
    if is_new:
        check_parts(parts)
    if anew:
        set_aside(run_dir)
    with folder_lock(run_dir), _log_file(run_dir):
        ledger = Ledger(run_dir / "ledger.jsonl")
        _adopt_config(config, run_dir, ledger)
        identity = identify(config, run_dir)
        _write_metrics(run_dir, ledger)  # a kill between a commit and this file leaves it one cycle behind
        if last_key(config) in ledger:
            renew_report(run_dir, config)
            return _outcome("already finished", run_dir, ledger)
        ledger.verify(run_dir)
        if not is_new:
            check_parts(parts, is_new=Ledger.key(0, "train") not in ledger)
        return _run(parts, run_dir, ledger, identity)


def _run(parts: Parts, run_dir: Path, ledger: Ledger, identity: RunIdentity) -> dict[str, Any]:
    context = _context(parts, run_dir)
    hold_open(run_dir, parts.dataset)  # for jobs that run in this process
    publisher = Publisher(run_dir, parts.config, context.dataset)
    plan = _plan(context)
    eta = Eta(ledger, plan)
    try:
        with context.executor as executor:
            executor.on_progress, executor.identity = eta.on_job_progress, identity
            for cycle, stage in plan:
                if Ledger.key(cycle, stage.name) in ledger:
                    continue
                context.cycle = cycle
                # A killed `initialize` may have left its pool behind: it begins again with nothing labeled.
                context.pool = load_pool(
                    context.dataset.pool_ids, run_dir, INITIAL if stage.name == "initialize" else cycle
                )
                _run_stage(stage, context, ledger, eta)
                _write_metrics(run_dir, ledger)
                publisher.stage_done(cycle, stage.name, ledger)
    except AwaitingLabels as waiting:
        return _outcome("awaiting", run_dir, ledger, str(waiting))
    finally:
        publisher.finish()
    return _outcome("finished", run_dir, ledger)


def _run_stage(stage: Stage, context: StageContext, ledger: Ledger, eta: Eta) -> None:
    """Run one stage and commit it; a stage that dies in between runs again and overwrites its own files."""
    cycles = context.budget.cycles
    head = f"cycle {context.cycle:02d}/{cycles:02d} | {stage.name}"
    log.info("%s | %d of %d labeled%s", head, len(context.pool.labeled()), len(context.pool), eta.sentence())
    eta.begin(context.cycle, stage.name)
    start = time.monotonic()
    scalars = stage.run(context)
    seconds = time.monotonic() - start
    files = {str(p.relative_to(context.run_dir)): sha256(p) for p in stage.files(context)}
    ledger.commit(context.cycle, stage.name, seconds=seconds, scalars=scalars, files=files)
    shown = " ".join(f"{k}={v:.4g}" for k, v in list(scalars.items())[:6])
    log.info("%s | done in %.1f s | %s", head, seconds, shown)


def _plan(context: StageContext) -> list[tuple[int, Stage]]:
    """Return every (cycle, stage) in order: cycle 0 begins with `initialize`, the last cycle ends with `evaluate` (and `analyze`)."""
    is_analyzed = last_key(context.config) == Ledger.key(context.budget.cycles, Analyze.name)
    last = [(context.budget.cycles, Analyze())] if is_analyzed else []
    return [*_stages(context.strategy, context.budget.cycles), *last]


def _stages(strategy: Any, cycles: int) -> Iterator[tuple[int, Stage]]:
    for cycle in range(cycles + 1):
        names: list[str | Stage] = [*(["initialize"] if cycle == 0 else []), *strategy.stages()]
        for item in names:
            stage = _STANDARD[item]() if isinstance(item, str) else item
            yield cycle, stage
            if cycle == cycles and stage.name == "evaluate":
                break


def _context(parts: Parts, run_dir: Path) -> StageContext:
    return StageContext(
        run_dir=run_dir,
        cycle=0,
        pool=load_pool(parts.dataset.pool_ids, run_dir, 0),
        config=parts.config,
        dataset=parts.dataset,
        strategy=parts.strategy,
        budget=parts.budget,
        settings=parts.settings,
        oracle=parts.oracle,
        executor=parts.executor,
    )


def _adopt_config(config: Mapping[str, Any], run_dir: Path, ledger: Ledger) -> None:
    """Write the configuration of a new run; refuse to go on with a run that was begun under another one.

    Raises:
        ResumeError: with the differences.
    """
    path = run_dir / "config.yaml"
    if path.is_file() and ledger.entries:
        differences = config_difference(load_config(run_dir), config)
        if differences:
            raise ResumeError(
                explain(
                    expected="the configuration this run was started with",
                    got="; ".join(differences[:8]),
                    where=str(run_dir),
                    do="revert the change, give the new run a name=…, or use restart=true (it moves the old folder aside, once)",
                )
            )
    if not path.is_file() or load_config(run_dir) != config:
        save_config(config, run_dir)


def _write_metrics(run_dir: Path, ledger: Ledger) -> None:
    """Rewrite ``metrics.jsonl`` and ``metrics.csv`` from what is committed: one line a cycle that was evaluated."""
    rows, spent = [], {"images": 0, "boxes": 0, "pixels": 0, "hours": 0.0}
    cycle = 0
    while Ledger.key(cycle, "evaluate") in ledger:
        cost = read_json(purchase_dir(run_dir, cycle - 1 if cycle else INITIAL) / "cost.json")
        spent = {k: v + cost[k] for k, v in spent.items()}
        pool = read_json(purchase_dir(run_dir, cycle) / "pool.json")
        rows.append(
            {
                "cycle": cycle,
                "num_labeled": pool["num_labeled"],
                **{f"spent_{k}": v for k, v in spent.items()},
                **ledger.entries[Ledger.key(cycle, "evaluate")]["scalars"],
            }
        )
        cycle += 1
    if rows:
        write_text(run_dir / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        columns = list(rows[0])
        write_text(run_dir / "metrics.csv", csv_text(columns, ([row.get(c) for c in columns] for row in rows)))


def _outcome(status: str, run_dir: Path, ledger: Ledger, message: str = "") -> dict[str, Any]:
    evaluated = [e for e in ledger.entries.values() if e["stage"] == "evaluate"]
    metrics: Mapping[str, float] = evaluated[-1]["scalars"] if evaluated else {}
    return {"status": status, "run_dir": str(run_dir), "message": message, **metrics}


class _log_file:  # noqa: N801 - reads as a statement
    """Copy the log into ``run.log`` while the campaign runs; opened after the lock, so that two runs never share it."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "run.log"

    def __enter__(self) -> None:
        self.handler = logging.FileHandler(self.path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s | %(message)s"))
        logging.getLogger().addHandler(self.handler)
        log.info("command: %s", shlex.join(sys.argv))

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()
