"""What MGRAL's table and agent cost: the paper's Tables 1 and 2 from the run's own clock, and device-hours by stage."""

import math
from collections.abc import Sequence

import numpy as np

from al_lab.reporting.document.page import Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.read.lut import KINDS, LutCycle
from al_lab.reporting.read.run_folder import Run

_MINUTE, _HOUR = 60.0, 3600.0
_PER = 10  # iterations, as in the paper's Table 1
# Liang et al., MGRAL, Tables 1 and 2: VOC, four GTX 1080 Ti; parameters are those of detector and agent together.
_PAPER_1 = {"without": (4800.0, math.nan), "with": (3.0, 640.0)}
_PAPER_2 = (("MGRAL, as published", 9 * 60.0, 7 * 60.0 + 8, 0.5, 33.0), ("Entropy, as published", 0.0, 0.0, 5.0, 26.3))
_WALL_DEVICES = ("train", "evaluate", "score")  # these keep the devices busy, and only their own clock is known


def price_section(run: Run, cycles: Sequence[LutCycle]) -> Section:
    """Show seconds and device-hours of each stage, and what an iteration costs with and without the table."""
    section = Section("price", "Price of the table")
    trainings = {kind: np.concatenate([c.trainings[kind] for c in cycles]) for kind in KINDS}
    rows = trainings["row"]
    section.text = (
        f"The tables took {len(rows)} trainings of {rows.mean():,.1f} s on average, {rows.sum() / _HOUR:,.2f} "
        f"device-hours (a device "
        f"is a GPU, or a process where there is none). Besides these, {len(trainings['fallback'])} batches were "
        f"trained as no record was "
        f"near, and {len(trainings['control'])} as controls."
    )
    section.tables += [_stages(run, cycles), _iterations(run, cycles), _a_cycle(run, cycles)]
    return section


def _stages(run: Run, cycles: Sequence[LutCycle]) -> Table:
    """Return seconds and device-hours of each stage of the whole run."""
    stages: dict[str, float] = {}
    for entry in run.ledger:
        if isinstance(entry.get("seconds"), int | float):
            stages[str(entry.get("stage"))] = stages.get(str(entry.get("stage")), 0.0) + float(entry["seconds"])
    node = run.config.get("runtime")
    devices = int(node.get("devices") or 1) if isinstance(node, dict) else 1
    own = {"build_lut": ("base", "row"), "train_agent": ("fallback", "control")}
    rows: list[list] = []
    for stage, seconds in stages.items():
        times = [c.trainings[kind] for c in cycles for kind in own.get(stage, ())]
        busy = float(sum(t.sum() for t in times)) if stage in own else seconds * (devices if stage == "train" else 1)
        number = (
            sum(map(len, times))
            if stage in own
            else sum(e.get("stage") == "train" for e in run.ledger)
            if stage == "train"
            else None
        )
        rows.append([stage, seconds, number, busy / _HOUR if stage in (*own, *_WALL_DEVICES) else None])
    rows.append(["sum", sum(stages.values()), sum(row[2] or 0 for row in rows), sum(row[3] or 0.0 for row in rows)])
    return Table(
        "mgral_stages",
        "Seconds and device-hours by stage, all cycles",
        ["stage", "seconds", "trainings", "device-hours"],
        rows,
        digits=[0, 1, 0, 3],
        note="Seconds are wall-clock, and trainings run side by side where there are workers: device-hours add up each "
        "training's own clock. Those of evaluate and score count one device. A stage or training that resumed counts "
        "its last stretch.",
    )


def _iterations(run: Run, cycles: Sequence[LutCycle]) -> Table:
    """Rebuild Table 1: ten iterations and a cycle's, with the table and without."""
    samples = _samples(run)
    a_row = float(np.mean(np.concatenate([c.trainings["row"] for c in cycles])))
    pace = _mean(
        [
            float(c.scalars["seconds_per_iteration"])
            for c in cycles
            if isinstance(c.scalars.get("seconds_per_iteration"), int | float)
        ]
    )
    count = _mean([len(c.curves["reward"]) for c in cycles if "reward" in c.curves])
    built = _mean([c.seconds["build_lut"] for c in cycles if "build_lut" in c.seconds])
    without = (_PER * samples * a_row / _MINUTE, count * samples * a_row / _MINUTE)
    within = (_PER * pace / _MINUTE, count * pace / _MINUTE)
    rows: list[list] = [
        ["without the table (reckoned)", *without, *_PAPER_1["without"]],
        ["with the table", *within, *_PAPER_1["with"]],
        [
            "ratio",
            *(a / b if b > 0 else math.nan for a, b in zip(without, within, strict=True)),
            _PAPER_1["without"][0] / _PAPER_1["with"][0],
            math.nan,
        ],
        ["building the table", math.nan, built / _MINUTE, math.nan, math.nan],
    ]
    return Table(
        "mgral_table_1",
        "Table 1 of the paper: minutes of the agent's training",
        ["", f"{_PER} iterations", "one cycle's", f"paper: {_PER} iterations", "paper: one cycle's"],
        rows,
        digits=2,
        note=f"Without the table every iteration would train its {'batch' if samples == 1 else f'{samples} batches'}, "
        f"reckoned from {a_row:,.1f} s a "
        "row. Iterations are timed without the trainings in them; the first one compiles. Means over cycles. The "
        "paper used four GTX 1080 Ti.",
    )


def _a_cycle(run: Run, cycles: Sequence[LutCycle]) -> Table:
    """Rebuild Table 2: training and inference of a cycle."""

    def mean(*stages: str) -> float:
        sums = [sum(c.seconds.get(stage, math.nan) for stage in stages) for c in cycles]
        return _mean([value for value in sums if math.isfinite(value)]) / _MINUTE

    parameters = [
        float(c.scalars["agent_parameters"])
        for c in cycles
        if isinstance(c.scalars.get("agent_parameters"), int | float)
    ]
    millions = parameters[-1] / 1e6 if parameters else math.nan
    rows: list[list] = [[run.strategy, mean("build_lut"), mean("train_agent"), mean("score", "select"), millions]]
    rows += map(list, _PAPER_2)
    return Table(
        "mgral_table_2",
        "Table 2 of the paper: minutes a cycle beyond the detector's training",
        ["", "training: the table", "training: the agent", "inference", "parameters, millions"],
        rows,
        digits=[0, 1, 1, 2, 2],
        note="Inference is the scoring of the pool and the selection. The agent's minutes hold its fall-backs and "
        "controls. Parameters are the "
        "agent's here, and of detector and agent in the paper, whose table is built on machines side by side (printed "
        "in brackets there).",
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _samples(run: Run) -> int:
    node = run.config.get("strategy")
    learning = node.get("learning") if isinstance(node, dict) else None
    value = learning.get("num_samples") if isinstance(learning, dict) else None
    return value if isinstance(value, int) and value > 0 else 1
