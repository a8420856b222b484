"""What MGRAL leaves in a cycle's folder, read for the report.

That is the look-up table, what it says of itself, the agent's curves and its times.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.reporting.read.run_folder import Run, number_of

_POINTS = 100
# Kinds of trainings, by the first word of their result files.
KINDS = ("base", "row", "fallback", "control")
Curves = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LutCycle:
    """One query of MGRAL.

    Attributes:
        table: ``lut/table.json``: split, metric, mode, number of images measured on.
        rewards_M: of the rows, points.
        repeats: row -> its rewards with other seeds, points.
        reference: the metric of the base, which saw no unlabeled image, points.
        batch_size: images of a row.
        facts: ``agent.json``; before it is written, what the table says of itself.
        curves: ``rl_curves.csv``, column -> (I,); empty if there is none. ``shuffled``: of the control's agent.
        trainings: kind -> (n,) seconds of each training.
        seconds: stage -> seconds of its last stretch; ``scalars``: what the ledger kept of ``train_agent``.
        with_labels: ``truth.json``: what batches give with their labels; empty where it was not measured.
    """

    cycle: int
    table: Mapping[str, Any]
    rewards_M: np.ndarray
    repeats: Mapping[int, list[float]]
    reference: float
    batch_size: int
    facts: Mapping[str, Any]
    curves: Curves
    shuffled: Curves
    trainings: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]
    scalars: Mapping[str, float]
    with_labels: Mapping[str, Any]

    def number(self, *path: str) -> float:
        """Return a number of ``facts``; NaN where it is not."""
        node: Any = self.facts
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else math.nan

    def sentence(self, name: str) -> str:
        """Return what the run said of a finding, "" if it said nothing."""
        node = self.facts.get(name)
        return str(node.get("sentence", "")) if isinstance(node, Mapping) else ""

    @property
    def signal_to_noise(self) -> float:
        """Spread between rows over the spread between seeds; infinite where no seed made any difference."""
        ratio = self.number("signal", "signal_to_noise")
        return math.inf if ratio > 1e6 else ratio

    @property
    def estimates_M(self) -> np.ndarray:
        """What the table says of each row without it, points; empty where nobody asked."""
        node = self.facts.get("leave_one_out")
        values = node.get("estimates") if isinstance(node, Mapping) else None
        estimates = np.asarray(values, float) if isinstance(values, list) else np.zeros(0)
        return estimates if estimates.shape == self.rewards_M.shape else np.zeros(0)

    @property
    def random(self) -> np.ndarray:
        """Rewards of the random batches of the control, points; empty where none was trained."""
        node = self.facts.get("controls")
        values = node.get("random") if isinstance(node, Mapping) else None
        return np.asarray(values, float) if isinstance(values, list) else np.zeros(0)


def lut_cycles(run: Run) -> list[LutCycle]:
    """Return the queries that have a table of trainings, ascending; empty for every other strategy."""
    return [item for item in _cycles(run) if item.table.get("reward") != "gradient"]


def gain_cycles(run: Run) -> list[LutCycle]:
    """Return the queries whose batches were valued without any training (``lut.reward=gradient``), ascending."""
    return [item for item in _cycles(run) if item.table.get("reward") == "gradient"]


def closed_gates(run: Run) -> dict[int, str]:
    """Return cycle -> why nothing was weighed there and a random batch was bought (``agent.gate=random``)."""
    told: dict[int, str] = {}
    for cycle, folder in run.cycle_dirs.items():
        path = folder / "agent.json"
        facts = run.read_object(path) if path.exists() and not (folder / "lut" / "table.json").exists() else None
        gate = facts.get("gate") if facts else None
        if isinstance(gate, Mapping):
            told[cycle] = str(gate.get("sentence", ""))
    return told


def _cycles(run: Run) -> list[LutCycle]:
    found = (
        _of_cycle(run, cycle, folder)
        for cycle, folder in run.cycle_dirs.items()
        if (folder / "lut" / "table.json").exists()
    )
    return [item for item in found if item is not None]


def agent_scores(run: Run, cycle: int) -> np.ndarray | None:
    """Return the agent's score of every candidate; None if no agent scored this cycle."""
    path = run.cycle_dirs.get(cycle, run.path) / "agent_scores.npz"
    return run.load(path, _scores, "its scores are")


def _scores(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as z:
        return np.asarray(z["scores"], float)


def _of_cycle(run: Run, cycle: int, folder: Path) -> LutCycle | None:
    path = folder / "lut" / "table.json"
    table = run.read_object(path)
    if table is None:
        return None
    try:
        rows = table["rows"]
        rewards = np.asarray([_POINTS * row["reward"] for row in rows if row["seed"] == 0], float)
        repeats: dict[int, list[float]] = {}
        for row in rows:
            if row["seed"] != 0:
                repeats.setdefault(int(row["number"]), []).append(_POINTS * float(row["reward"]))
        reference, size = _POINTS * float(np.mean(table["references"])), len(rows[0]["ids"])
        seconds_of_rows = np.asarray([row["seconds"] for row in rows], float)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        run.left_out(path, f"no rows as expected, {type(error).__name__}: {error}", "the look-up table is")
        return None
    facts = run.read_object(folder / "agent.json")
    entries = [e for e in run.ledger if e.get("cycle") == cycle]
    scalars: Any = next((e.get("scalars") for e in entries if e.get("stage") == "train_agent"), None)
    return LutCycle(
        cycle,
        {k: v for k, v in table.items() if k != "rows"},
        rewards,
        repeats,
        reference,
        size,
        facts if facts is not None else {"signal": table.get("signal")},
        _curves(run, folder / "rl_curves.csv"),
        _curves(run, folder / "lut" / "shuffled_curves.csv"),
        {"row": seconds_of_rows, **{kind: _seconds(run, folder / "lut", kind) for kind in KINDS if kind != "row"}},
        {str(e.get("stage")): float(e["seconds"]) for e in entries if isinstance(e.get("seconds"), int | float)},
        scalars if isinstance(scalars, dict) else {},
        _truth(run, folder / "truth.json"),
    )


def _truth(run: Run, path: Path) -> Mapping[str, Any]:
    """Read what batches give with their labels; nothing where a batch has no numbers."""
    facts = run.read_object(path) if path.exists() else None
    if facts is None:
        return {}
    try:
        numbers = [[b.get("reward") or 0.0, *b["values"]] for b in facts["batches"]]
        found = [facts["rank_correlation"] or {}, *facts["against"].values()]
        sound = all(len(v) > 1 and np.isfinite(np.asarray(v, float)).all() for v in numbers)
        sound &= all(isinstance(f, dict) for f in found) and all(isinstance(b["name"], str) for b in facts["batches"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        run.left_out(path, f"no batches as expected, {type(error).__name__}: {error}", "what batches give is")
        return {}
    if not sound:
        run.left_out(path, "batches without numbers", "what batches give is")
        return {}
    return facts


def _seconds(run: Run, folder: Path, kind: str) -> np.ndarray:
    """Read how long each training of a kind took.

    A base that is the cycle's own model was only measured, and has no time.
    """
    values = []
    for path in sorted(folder.glob(f"{kind}_*.json")):
        node = run.read_json(path)
        result = node.get("result") if isinstance(node, dict) else None
        if isinstance(result, dict) and isinstance(result.get("seconds"), int | float):
            values.append(float(result["seconds"]))
    return np.asarray(values, float)


def _curves(run: Run, path: Path) -> Curves:
    """Read one record an iteration; what is no number becomes NaN."""
    rows = run.read_csv(path)
    return (
        {name: np.asarray([number_of(row.get(name)) for row in rows], float) for name in rows[0] if name}
        if rows
        else {}
    )
