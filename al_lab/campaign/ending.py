"""Where a campaign ends: at the cycle it was asked for, or before, when there is nothing left to buy.

It also says whether a campaign may go on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import read_json
from al_lab.core.pool import purchase_dir
from al_lab.core.record.ledger import Ledger, is_as, last_key


def last_cycle(cycles: int, run_dir: Path, ledger: Ledger) -> int:
    """Return the cycle that only trains and evaluates.

    ``cycles``, or the first at whose start all of the pool is labeled.

    The number of boxes that a pool holds is hidden, so a plan of boxes can't be held against it beforehand.
    """
    for cycle in range(cycles):
        key = Ledger.key(cycle - 1, "annotate") if cycle else Ledger.key(0, "initialize")
        path = purchase_dir(run_dir, cycle) / "pool.json"
        digest = ledger.entries.get(key, {}).get("files", {}).get(str(path.relative_to(run_dir)))
        if digest is not None and is_as(path, digest):
            pool = read_json(path)
            if pool["num_ids"] - pool.get("num_left_out", 0) == len(pool["whole"]):
                return cycle
    return cycles


def is_at_its_end(config: Mapping[str, Any], run_dir: Path, ledger: Ledger) -> bool:
    """Whether nothing is left to do."""
    last = last_cycle(int(config["budget"]["cycles"]), run_dir, ledger)
    return last_key(config, last) in ledger


def sentence(cycle: int, cycles: int) -> str:
    """Say why a campaign ended before its last cycle."""
    return (
        f"all of the pool is labeled at cycle {cycle}, so the campaign ends there; budget.cycles={cycles} "
        f"asked for more"
    )


def with_cycles_of(old: Mapping[str, Any], new: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return the old configuration with the new one's fewer cycles, if no more than those were bought.

    A run may be ended early.
    """
    before, now = dict(old.get("budget") or {}), new.get("budget") or {}
    cycles, steps, fewer = now.get("cycles"), now.get("per_cycle"), before.get("per_cycle")
    if isinstance(cycles, int) and ledger.queries_bought <= cycles < int(before.get("cycles") or 0):
        before["cycles"] = cycles
        if isinstance(steps, list) and isinstance(fewer, list) and len(steps) >= cycles:
            before["per_cycle"] = fewer[: len(steps)]
    return {**old, "budget": before}


def other_settings(run_dir: Path, differences: Sequence[str]) -> ResumeError:
    """Return the error for a run that was begun with other settings."""
    return ResumeError(
        explain(
            expected="the configuration this run was started with",
            got="; ".join(differences[:8]),
            where=str(run_dir),
            do="revert the change, give the new run a name=…, or use restart=true (it moves the old folder "
            "aside, once)",
        )
    )


def foreign_ledger(path: Path) -> ResumeError:
    """Return the error for a ledger that tells of other files than those that are there."""
    return ResumeError(
        explain(
            expected="the ledger of this run",
            got="that of a run with other settings, whose files are not here",
            where=str(path),
            do="restore it from a backup, or start anew with restart=again",
        )
    )
