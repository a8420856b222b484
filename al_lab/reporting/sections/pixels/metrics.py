"""Everything a segmentation was measured by, side by side: IoU, Dice, borders; the mean, and class by class."""

import math
from collections.abc import Sequence

import numpy as np

from al_lab.reporting.document.page import Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.read.run_folder import IN_PIXELS, METRIC_LABELS, Run

_MOST_ROWS = 40  # more would bury the rest of the page: they are exported
_TEXT = (
    "IoU and Dice count pixels, of all test images together: a large object outweighs many small ones, and a thin one "
    "hardly counts. Boundary IoU counts only pixels near a border. The Hausdorff distance (95 %) is how far a border "
    "is off, so it names a class that is found in the wrong place; it alone is better when it is smaller."
)


def pixel_metrics_section(lines: Sequence[Series]) -> Section:
    """Show every metric that all runs have: means by cycle (or by line), and classes at the last evaluation.

    Nothing for detection, or where one metric was measured: the curve and its classes say that already.
    """
    section = Section("metrics", "Every metric")
    runs = [run for series in lines for run in series.runs if run.metrics]
    if not runs or not all(run.config.get("segmenter") for run in runs):
        return section
    names = [n for n in runs[0].metric_names if all(n in run.metric_names for run in runs)]
    if len(names) < 2:  # noqa: PLR2004
        return section
    section.text = _TEXT
    drawn = [s for s in lines if any(run.metrics for run in s.runs)]
    is_single = len(runs) == 1
    section.tables.append(_by_cycle(runs[0], names) if is_single else _by_line(drawn, names))
    classes = _by_class(drawn, names, is_single)
    if classes.rows:
        (section.tables if len(classes.rows) <= _MOST_ROWS else section.files).append(classes)
    return section


def _column(name: str) -> str:
    label = METRIC_LABELS.get(name, name)
    return f"{label} ↓" if name in IN_PIXELS else f"{label}, %"


def _shown(name: str, value: float) -> float:
    return value if name in IN_PIXELS else 100 * value


def _by_cycle(run: Run, names: Sequence[str]) -> Table:
    rows = [[row["cycle"], *(_shown(n, run.column(n)[k]) for n in names)] for k, row in enumerate(run.metrics)]
    return Table("metrics", "Means over classes", ["cycle", *map(_column, names)], rows)


def _by_line(lines: Sequence[Series], names: Sequence[str]) -> Table:
    rows = []
    for series in lines:
        found = [run for run in series.runs if run.metrics]
        row: list[str | int | float] = [series.label, len(found)]
        for name in names:
            mean, error = mean_and_error([_shown(name, run.column(name)[-1]) for run in found])
            row += [mean, error]
        rows.append(row)
    columns = ["strategy", "seeds", *(c for name in names for c in (_column(name), "± SE"))]
    note = "Last evaluation, means over seeds with the standard error of that mean (SE)."
    return Table("metrics", "Means over classes", columns, rows, note=note)


def _by_class(lines: Sequence[Series], names: Sequence[str], is_single: bool) -> Table:
    found = {s.label: [{n: _last(run, n) for n in names} for run in s.runs if run.metrics] for s in lines}
    classes = dict.fromkeys(c for of_runs in found.values() for of in of_runs for n in names for c in of[n])
    rows = []
    for label in classes:
        for line, of_runs in found.items():
            values = [_mean([of[name].get(label, math.nan) for of in of_runs]) for name in names]
            shown = [_shown(name, value) for name, value in zip(names, values, strict=True)]
            rows.append([label, *shown] if is_single else [label, line, *shown])
    head = ["class"] if is_single else ["class", "strategy"]
    columns = [_column(name).replace("mean ", "").replace("mIoU", "IoU") for name in names]
    note = "Last evaluation" + ("." if is_single else ", means over seeds.")
    note += " A dash: the metric leaves that class out, or no test image has it."
    return Table("metrics_per_class", "Class by class", [*head, *columns], rows, note=note)


def _last(run: Run, metric: str) -> dict[str, float]:
    """Return the classes of the last evaluation that has the metric."""
    cycles = [row["cycle"] for row in reversed(run.metrics)]
    return next((found for cycle in cycles if (found := run.per_class(cycle, metric))), {})


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if math.isfinite(v)]
    return float(np.mean(known)) if known else math.nan
