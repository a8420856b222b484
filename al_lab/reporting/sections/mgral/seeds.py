"""What tables and controls said, over seeds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from al_lab.core.statistics.verdict import ALPHA, Contrast, contrasts
from al_lab.reporting.document.page import Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read import commands
from al_lab.reporting.read.lut import LutCycle, lut_cycles
from al_lab.reporting.sections.mgral.chance import CONTROLS
from al_lab.reporting.sections.mgral.words import signed

Found = Mapping[str, Mapping[int, list[LutCycle]]]  # line -> seed -> its queries

_OF_A_TABLE = ("error of the table", "of the mean of all rows", "rank correlation", "spread / noise", "reward gain")


def compared_mgral_section(lines: Sequence[Series]) -> Section:
    """Give mean and standard deviation over seeds of what the tables and the controls said.

    Empty if no line has a table.
    """
    section = Section("mgral", "MGRAL over seeds")
    found = {series.label: {run.seed: lut_cycles(run) for run in series.runs} for series in lines}
    found = {label: {seed: cycles for seed, cycles in seeds.items() if cycles} for label, seeds in found.items()}
    found = {label: seeds for label, seeds in found.items() if seeds}
    if not found:
        return section
    controls = [
        row
        for label, seeds in found.items()
        for row in _controls_over_seeds(label, [c for cycles in seeds.values() for c in cycles if len(c.random)])
    ]
    section.text = (
        "The look-up table judged by itself, and the agent against chance: mean ± standard deviation over seeds. "
        + " ".join(f"{row[0]}: {_said(row)}" for row in controls)
    )
    section.tables.append(_tables_over_seeds(found))
    section.files.append(_every_table(found))
    if controls:
        section.tables.append(_controls_table(controls))
    else:
        section.missing.append(
            (
                "No line trained a batch to compare the agent's with. This does, for the first seed:",
                commands.changed(next(s.runs[0] for s in lines if s.label in found), CONTROLS),
            )
        )
    return section


def _tables_over_seeds(found: Found) -> Table:
    rows: list[list] = []
    for label, seeds in found.items():
        for cycle in sorted({c.cycle for cycles in seeds.values() for c in cycles}):
            cells = [_honesty(c) for cycles in seeds.values() for c in cycles if c.cycle == cycle]
            rows.append([label, cycle, len(cells), *map(_mean_and_deviation, zip(*cells, strict=True))])
    return Table(
        "mgral_seeds_mean",
        "Tables and agents over seeds",
        ["strategy", "cycle", "seeds", *_OF_A_TABLE],
        rows,
        note="Errors and gains in points; the gain is the estimated reward's, last tenth of the iterations "
        "minus first.",
    )


def _every_table(found: Found) -> Table:
    rows = [
        [label, seed, c.cycle, *_honesty(c)]
        for label, seeds in found.items()
        for seed, cycles in seeds.items()
        for c in cycles
    ]
    return Table("mgral_seeds", "Tables and agents", ["strategy", "seed", "cycle", *_OF_A_TABLE], rows, digits=2)


def _controls_table(rows: list[list]) -> Table:
    return Table(
        "mgral_controls_mean",
        "Batches measured by a training at the first query, over seeds",
        [
            "strategy",
            "seeds",
            "agent − random",
            "± SE",
            "verdict",
            "agent − shuffled rewards",
            "± SE of that",
            "verdict on that",
        ],
        rows,
        digits=2,
        note=f"Points; SE: standard error over seeds. Clear: Student's t over seeds, p below {ALPHA:g} after "
        f"Holm's correction.",
    )


def _honesty(c: LutCycle) -> list[float]:
    return [
        c.number("leave_one_out", "rmse"),
        c.number("leave_one_out", "rmse_of_mean"),
        c.number("leave_one_out", "rank_correlation"),
        c.signal_to_noise,
        c.number("learning", "gain"),
    ]


def _mean_and_deviation(values: Sequence[float]) -> str | None:
    mean, error = mean_and_error(values)
    if not math.isfinite(mean):
        return None
    deviation = f" ± {error * math.sqrt(np.isfinite(values).sum()):.2f}" if math.isfinite(error) else ""
    return f"{mean:.2f}{deviation}".replace("-", "−")


def _controls_over_seeds(label: str, cycles: Sequence[LutCycle]) -> list[list]:
    if not cycles:
        return []
    judged: list[Contrast] = contrasts(
        [
            dict(enumerate(c.number("controls", name, "difference") for c in cycles))
            for name in ("against_random", "against_shuffled")
        ]
    )
    row: list = [label, len(cycles)]
    for contrast in judged:
        row += [contrast.difference, contrast.standard_error, contrast.verdict]
    return [row]


def _said(row: Sequence) -> str:
    _, n, random, _, first, shuffled, _, second = row
    seeds = f"over {n} seeds" if n > 1 else "on one seed"
    return (
        f"{seeds}, its agent's first batch gives {signed(random)} points against random batches ({first}), "
        f"{signed(shuffled)} against that "
        f"of an agent with shuffled rewards ({second})."
    )
