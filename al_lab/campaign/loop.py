"""The campaign: cycles of stages, each committed once, gone on with by the same command after any interruption."""

import json
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from al_lab.campaign.assemble import check_parts, trains_here
from al_lab.campaign.ending import foreign_ledger, is_at_its_end, last_cycle, other_settings, sentence, with_cycles_of
from al_lab.campaign.identity import begins_anew, identify, set_aside
from al_lab.campaign.precision import as_begun, decide
from al_lab.campaign.progress import Eta
from al_lab.campaign.publish import Publisher, renew_report
from al_lab.campaign.readiness import check_before_asking
from al_lab.campaign.repair import Repair
from al_lab.config.load import config_difference, fingerprint, load_config, save_config
from al_lab.config.parts import Parts
from al_lab.core.errors import Awaiting, ResumeError
from al_lab.core.files import folder_lock, is_read_only, read_json, remove_temporaries, sha256, write_text
from al_lab.core.pool import INITIAL, TEST, purchase_dir
from al_lab.core.record.csv_file import csv_text
from al_lab.core.record.identity import RunIdentity
from al_lab.core.record.ledger import Ledger, last_key
from al_lab.core.record.purchase import publish_selections
from al_lab.core.stage import Stage, StageContext
from al_lab.data.bought_test import with_test
from al_lab.execution.machine import loaders_to_ask
from al_lab.stages.analyze import Analyze
from al_lab.stages.annotate import Annotate, BuyTest, Initialize, load_pool
from al_lab.stages.evaluate import Evaluate
from al_lab.stages.jobs import hold_open
from al_lab.stages.score import Score
from al_lab.stages.select import Select
from al_lab.stages.survey import Survey
from al_lab.stages.train import Train

log = logging.getLogger(__name__)

_LONG_S = 3600.0  # nobody takes so long to write a file

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
    asked, run_dir = parts.config, run_dir.absolute()
    parts.change(as_begun(asked, run_dir))
    anew = begins_anew(parts.config, run_dir)
    if anew:
        parts.change(asked)
    config = parts.config
    is_new = anew or not (run_dir / "ledger.jsonl").is_file()
    if is_new:
        check_parts(parts)
        check_before_asking(parts, run_dir)
    if anew:
        set_aside(run_dir)
    if is_read_only(run_dir) and is_at_its_end(config, run_dir, ledger := Ledger(run_dir / "ledger.jsonl")):
        _check_config(config, run_dir, ledger)
        lost = [f"{run_dir / name} is not what {key} committed" for key, name in ledger.harmed(run_dir)]
        return _outcome("already finished", run_dir, ledger, "; ".join(lost[:5]))
    with folder_lock(run_dir), _log_file(run_dir):
        remove_temporaries(run_dir, older_than_s=0.0 if trains_here(config) else _LONG_S)
        ledger = Ledger(run_dir / "ledger.jsonl")
        decide(parts, run_dir)
        config = parts.config
        _adopt_config(config, run_dir, ledger)
        identity = identify(config, run_dir)
        if is_at_its_end(config, run_dir, ledger):
            message = _mend(parts, run_dir, ledger, identity) if ledger.harmed(run_dir) else ""
            _bring_up_to_date(run_dir, ledger)
            renew_report(run_dir, config)
            return _outcome("already finished", run_dir, ledger, message)
        if not is_new:
            check_parts(parts, is_new=Ledger.key(0, "train") not in ledger)
        return _run(parts, run_dir, ledger, identity)


def _mend(parts: Parts, run_dir: Path, ledger: Ledger, identity: RunIdentity) -> str:
    """Make again what a finished run has lost, and say what can't be."""
    context = _context(parts, run_dir)
    hold_open(run_dir, context.dataset)
    with context.executor as executor:
        executor.identity = identity
        repair = Repair(context, ledger, _plan(context))
        repair.everything()
    lost = [f"{run_dir / name} can't be made again: {why}" for name, why in repair.given_up.items()]
    return "; ".join(lost[:5])


def _run(parts: Parts, run_dir: Path, ledger: Ledger, identity: RunIdentity) -> dict[str, Any]:
    context = _context(parts, run_dir)
    hold_open(run_dir, context.dataset)  # for jobs that run in this process
    publisher = Publisher(run_dir, parts.config, context.dataset)
    plan = _plan(context)
    repair, eta = Repair(context, ledger, plan), Eta(ledger, plan)
    try:
        with context.executor as executor:
            executor.on_progress, executor.identity = eta.on_job_progress, identity
            repair.everything()
            _bring_up_to_date(run_dir, ledger)  # a kill between a commit and these files leaves them behind
            while (step := _next(context, ledger)) is not None:
                cycle, stage = step
                repair.before(cycle, stage)
                if _key(_next(context, ledger)) != _key(step):
                    continue  # stages before it are to be done again
                context.cycle = cycle
                # A killed `initialize` may have left its pool behind: it begins again with nothing labeled.
                context.pool = load_pool(context.dataset, run_dir, INITIAL if stage.is_first else cycle)
                _run_stage(stage, context, ledger, eta)
                _write_metrics(run_dir, ledger)
                publisher.stage_done(cycle, stage.name, ledger)
    except Awaiting as waiting:
        return _outcome("awaiting", run_dir, ledger, str(waiting))
    finally:
        publisher.finish()
    last, asked = last_cycle(context.budget.cycles, run_dir, ledger), context.budget.cycles
    return _outcome("finished", run_dir, ledger, sentence(last, asked) if last < asked else "")


def _next(context: StageContext, ledger: Ledger) -> tuple[int, Stage] | None:
    """Return the first (cycle, stage) that is not done; None: the campaign is at its end."""
    plan = _plan(context, last_cycle(context.budget.cycles, context.run_dir, ledger))
    return next(((c, stage) for c, stage in plan if Ledger.key(c, stage.name) not in ledger), None)


def _key(step: tuple[int, Stage] | None) -> str:
    return "" if step is None else Ledger.key(step[0], step[1].name)


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
    # With what the run was begun; says whose ledger this is, and stands in for a lost config.yaml.
    facts = {"fingerprint": fingerprint(context.config)} if stage.name == "initialize" else {}
    ledger.commit(context.cycle, stage.name, seconds=seconds, scalars=scalars, files=files, **facts)
    shown = " ".join(f"{k}={v:.4g}" for k, v in list(scalars.items())[:6])
    log.info("%s | done in %.1f s | %s", head, seconds, shown)


def _plan(context: StageContext, last: int | None = None) -> list[tuple[int, Stage]]:
    """Return every (cycle, stage) in order.

    Cycle 0 begins with `initialize`, the last cycle ends with `evaluate` (and `analyze`).
    """
    last = context.budget.cycles if last is None else last
    is_analyzed = last_key(context.config, last) == Ledger.key(last, Analyze.name)
    return [*_stages(context, last), *([(last, Analyze())] if is_analyzed else [])]


def _stages(context: StageContext, cycles: int) -> Iterator[tuple[int, Stage]]:
    first: list[str | Stage] = [BuyTest()] if context.budget.test else []
    first += [Survey()] if context.budget.looks_first else []
    for cycle in range(cycles + 1):
        names = [*([*first, "initialize"] if cycle == 0 else []), *context.strategy.stages()]
        for item in names:
            stage = _STANDARD[item]() if isinstance(item, str) else item
            yield cycle, stage
            if cycle == cycles and stage.name == "evaluate":
                break


def _context(parts: Parts, run_dir: Path) -> StageContext:
    dataset = with_test(parts.dataset, parts.config, run_dir)
    parts.executor.loaders = loaders_to_ask(parts.config["runtime"]["num_workers"])
    return StageContext(
        run_dir=run_dir,
        cycle=0,
        pool=load_pool(dataset, run_dir, INITIAL),
        config=parts.config,
        dataset=dataset,
        strategy=parts.strategy,
        budget=parts.budget,
        settings=parts.settings,
        oracle=parts.oracle,
        executor=parts.executor,
    )


def _adopt_config(config: Mapping[str, Any], run_dir: Path, ledger: Ledger) -> None:
    """Write the configuration of a new run; see `_check_config` for one that goes on.

    Raises:
        ResumeError: with the differences.
    """
    stored = _check_config(config, run_dir, ledger)
    if stored != config:
        save_config(config, run_dir)


def _check_config(config: Mapping[str, Any], run_dir: Path, ledger: Ledger) -> dict[str, Any] | None:
    """Refuse to go on with a run that was begun under another configuration, and return that; None if it can't be read.

    Raises:
        ResumeError: with the differences.
    """
    try:
        stored = load_config(run_dir) or None
    except ResumeError:
        stored = None
    if not ledger.entries:
        return stored
    begun = ledger.entries.get(Ledger.key(0, "initialize"), {}).get("fingerprint")
    if stored is None:
        if begun is not None and begun != fingerprint(config):
            load_config(run_dir)  # says what is wrong with the file
            raise other_settings(run_dir, ["config.yaml is empty, and the run was begun with other settings"])
        log.warning("%s is lost or damaged and written anew", run_dir / "config.yaml")
        return None
    if begun not in (None, fingerprint(stored)):
        if begun == fingerprint(config):
            log.warning("%s is not what the run was begun with, and is written anew", run_dir / "config.yaml")
            return None
        if ledger.harmed(run_dir):
            raise foreign_ledger(ledger.path)
    differences = config_difference(with_cycles_of(stored, config, ledger), config)
    if differences:
        raise other_settings(run_dir, differences)
    return stored


def _write_metrics(run_dir: Path, ledger: Ledger) -> None:
    """Rewrite ``metrics.jsonl`` and ``metrics.csv`` from what is committed: one line a cycle that was evaluated."""
    rows, spent = [], {"images": 0, "boxes": 0, "pixels": 0, "clicks": 0, "hours": 0.0}
    test_cost = purchase_dir(run_dir, TEST) / "cost.json"
    if test_cost.is_file():  # people's time, too, and the same for every strategy
        spent = _added(spent, read_json(test_cost))
    cycle = 0
    while Ledger.key(cycle, "evaluate") in ledger:
        cost = read_json(purchase_dir(run_dir, cycle - 1 if cycle else INITIAL) / "cost.json")
        spent = _added(spent, cost)
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


def _added(spent: Mapping[str, float], cost: Mapping[str, float]) -> dict[str, float]:
    """Add a purchase; a unit in which one of them was not counted (clicks, before they were) is none of the run's."""
    return {k: v + cost[k] for k, v in spent.items() if k in cost}


def _bring_up_to_date(run_dir: Path, ledger: Ledger) -> None:
    """Rewrite what follows from the ledger and the purchases, where it doesn't, and say which models are gone."""
    files = {name for entry in ledger.entries.values() for name in entry["files"] if name.endswith(".ckpt")}
    gone = sorted(name for name in files if not (run_dir / name).is_file())
    if gone:
        log.warning("no longer there: %s; made again only when a stage needs it", ", ".join(gone))
    _write_metrics(run_dir, ledger)
    if Ledger.key(0, "initialize") in ledger:
        publish_selections(run_dir, range(ledger.queries_bought))


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
