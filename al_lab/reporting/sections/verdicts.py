"""Who is better: differences from random with their verdicts, all pairs, and how small a difference could be seen."""

import math
from collections.abc import Sequence

import numpy as np

from al_lab.core.statistics.verdict import ALPHA, Contrast
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.verdicts import Difference, differences
from al_lab.reporting.judge.curves import mean_and_error, shared_areas
from al_lab.reporting.judge.judge import Judge, Resolution, alike
from al_lab.reporting.judge.protocol import Series, reference
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.results import SPENT_LABELS, judge_of, last_values, metric_label, spent_columns

_SEEDS = (3, 5, 8)  # of the power table
_FEW_OBJECTS = 20  # of a class in the test set: one object more or less moves its AP by five points
_FEW_IN_ALL = 200
_MAX_ROWS = 20  # of a table; longer ones are files (--out)


def verdict_section(lines: Sequence[Series], levels: Sequence[Series], metric: str | None) -> Section:
    """Show who is better, by how much, and what these seeds could tell at all."""
    section = Section("summary", "Who is better")
    if metric is None:
        return section
    judge = judge_of(lines, metric)
    warning = few_objects([run for s in lines for run in s.runs])
    section.text = " ".join(t for t in (what_can_be_seen(judge.resolution), warning) if t)
    rows = _differences(judge, lines)
    if rows:
        caption = (
            "Small dots are seeds, the large one their mean. The bar leaves out zero exactly if the difference is "
            "clear: it is the 95 % "
            f"interval, widened for {len(rows)} comparisons. {judge.error_note}"
        )
        figure = differences(rows, f"{judge.name} minus {_references(judge)}, points of {metric_label(metric)}")
        section.pictures.append(Picture("differences", figure, "difference of each line from random", caption))
    tables = [
        summary_table(lines, levels, metric, judge),
        power_table(judge.resolution),
        pairs_table(judge),
        wins_table(judge),
        models_table(judge, lines, metric),
    ]
    for table in tables:
        (section.tables if len(table.rows) <= _MAX_ROWS else section.files).extend([table] if table.rows else [])
    return section


def _differences(judge: Judge, lines: Sequence[Series]) -> list[Difference]:
    strategy = {s.label: s.strategy for s in lines}
    several = len({p.theirs for p in judge.planned}) > 1
    return [
        Difference(
            f"{p.ours} − {p.theirs}" if several else p.ours,
            strategy[p.ours],
            [100 * v for v in p.values.values()],
            100 * p.contrast.difference,
            100 * p.contrast.half,
        )
        for p in judge.planned
        if p.contrast.seeds
    ]


def _references(judge: Judge) -> str:
    names = {p.theirs for p in judge.planned}
    return next(iter(names)) if len(names) == 1 else "random"


def what_can_be_seen(resolution: Resolution | None) -> str:
    """Return how small a difference these seeds could tell, "" where no verdict is possible."""
    if resolution is None or not math.isfinite(resolution.visible()):
        return ""
    return (
        f"With these {resolution.seeds} seeds a true difference from random of {points(resolution.visible())} would "
        f"be called clear "
        "eight times in ten; smaller ones mostly go unseen."
    )


def few_objects(runs: Sequence[Run]) -> str:
    """Warn of a test set so small that single objects decide; "" if it is large enough, or nobody counted."""
    counts = next((c for c in (_test_objects(run) for run in runs) if c), {})
    few = sorted((n, name) for name, n in counts.items() if 0 < n < _FEW_OBJECTS)
    total = sum(counts.values())
    if not few and (total >= _FEW_IN_ALL or not total):
        return ""
    rarest = (
        ""
        if not few
        else f"; {few[0][1]} has {few[0][0]}, so that one of them is worth {100 / few[0][0]:.0f} points of its AP"
    )
    return (
        f"The test set is tiny: {total:,} objects{rarest}. Verdicts are about seeds on these very images; "
        "another test set may order the lines otherwise."
    )


def _test_objects(run: Run) -> dict[str, int]:
    for folder in reversed(run.cycle_dirs.values()):
        rows = run.read_csv(folder / "per_class.csv")
        counts = {str(r.get("class")): r.get("num_gt") or "" for r in rows}
        if counts and all(v.isdigit() for v in counts.values()):
            return {name: int(v) for name, v in counts.items()}
    return {}


def points(value: float, digits: int = 1) -> str:
    """Return a fraction as ``1.2 points``."""
    text = f"{100 * value:.{digits}f}"
    return f"{text} point{'' if text == f'{1:.{digits}f}' else 's'}".replace("-", "−")


def summary_table(lines: Sequence[Series], levels: Sequence[Series], metric: str, judge: Judge | None = None) -> Table:
    """Return one row per strategy: last point, areas, and the verdict against random; levels have a last point only."""
    judge = judge or judge_of(lines, metric)
    units = [] if judge.by_last else spent_columns([run for s in lines for run in s.runs])
    units += (
        ["spent_hours"]
        if units and any(np.nansum(run.column("spent_hours")) > 0 for s in lines for run in s.runs)
        else []
    )
    areas = {unit: shared_areas([s.curves(metric, unit) for s in lines]) for unit in units}
    mine = {s.label: reference(s, lines) for s in lines}
    twins = {s.label: twin for s in lines if (twin := alike(s, lines)) not in (None, mine[s.label])}
    rows: list[list] = []
    for k, series in enumerate(lines):
        row = [series.label, len(last_values(series, metric)), *_percent(last_values(series, metric))]
        for unit in units:
            mean, error = _percent(areas[unit][k])
            row += [mean, error] if unit == units[0] else [mean]
        own = mine[series.label]
        row += (
            ["baseline" if series is own else "", *[math.nan] * 3]
            if own in (None, series)
            else _said(judge.against(series.label, own.label))
        )
        if twins:
            twin = twins.get(series.label)
            row += _said(judge.against(series.label, twin.label)) if twin is not None else ["", *[math.nan] * 3]
        rows.append(row)
    width = max((len(row) for row in rows), default=4)
    rows += [[s.label, len(s.runs), *_percent(last_values(s, metric)), *[math.nan] * (width - 4)] for s in levels]
    randoms = {r.label for r in mine.values() if r is not None}
    random = next(iter(randoms)) if len(randoms) == 1 else "random of the same budget" if randoms else "random"
    columns = ["strategy", "seeds", "last point", "± SE"]
    for unit in units:
        columns += [f"area over {SPENT_LABELS[unit]}", *(["± SE of area"] if unit == units[0] else [])]
    columns += [f"against {random}", f"{judge.short} difference", "± interval", "p"]
    columns += ["against random trained alike", "difference", "± its interval", "its p"] if twins else []
    note = (
        ("" if judge.by_last else "Area under the curve is its mean height over the range that all lines cover. ")
        + f"{judge.note} Clearly better (or worse): Student's t, p below {ALPHA:g} after Holm's correction for all "
        f"comparisons with random "
        f"on this page; the interval is that of the figure. {judge.error_note} SE: standard error of a mean over seeds."
    )
    digits = [4 if c in ("p", "its p") else 2 for c in columns]
    return Table("summary", f"{metric_label(metric)}, in percent", columns, rows, digits=digits, note=note)


def _percent(values: Sequence[float]) -> tuple[float, float]:
    mean, error = mean_and_error(values)
    return 100 * mean, 100 * error


def _said(contrast: Contrast) -> list:
    seeds = f" ({len(contrast.seeds)} seeds)" if len(contrast.seeds) > 1 else ""
    return [contrast.verdict + seeds, 100 * contrast.difference, 100 * contrast.half, contrast.p_holm]


def power_table(resolution: Resolution | None) -> Table:
    """Return what more seeds would show."""
    rows: list[list] = []
    if resolution is not None:
        for n in sorted({*_SEEDS, resolution.seeds}):
            chances = [100 * resolution.chance(d / 100, n) for d in (0.5, 1, 2, 4)]
            here = " (here)" if n == resolution.seeds else ""
            rows.append([f"{n}{here}", 100 * resolution.visible(n), *chances])
    return Table(
        "power",
        "What more seeds would show",
        ["seeds", "visible difference, points", *(f"chance to see {d} points, %" for d in ("0.5", "1", "2", "4"))],
        rows,
        digits=[0, 2, 0, 0, 0, 0],
        note="Visible: called clear eight times in ten, at the spread seen here "
        f"(one seed's difference from random has a standard deviation of {points(resolution.deviation, 2)}), with "
        f"{resolution.family} comparison{'s' if resolution.family > 1 else ''}."
        if resolution
        else "",
    )


def pairs_table(judge: Judge) -> Table:
    """Return every strategy against every other that is not its random line."""
    rows = [
        [
            p.ours,
            p.theirs,
            100 * p.contrast.difference,
            100 * p.contrast.half,
            p.contrast.p_holm,
            len(p.contrast.seeds),
            p.contrast.verdict,
        ]
        for p in judge.explored
        if p.contrast.seeds
    ]
    return Table(
        "pairs",
        f"Explored: other pairs by {judge.name}, in points",
        ["strategy", "against", "difference", "± interval", "p", "paired seeds", "verdict"],
        rows,
        digits=[0, 0, 2, 2, 4, 0, 0],
        note=f"Not planned ({len(rows)} in all), so corrected (Holm) among themselves: take what is clear here as a "
        f"question for new seeds.",
    )


def wins_table(judge: Judge) -> Table:
    """Return in how many of the common seeds the row is above the column."""
    labels = [line.label for line in judge.lines]
    rows: list[list] = []
    for a in labels:
        cells = [judge.difference(a, b) if a != b else {} for b in labels]
        rows.append([a, *(f"{sum(v > 0 for v in c.values())} of {len(c)}" if c else "" for c in cells)])
    return Table(
        "wins",
        f"In how many seeds the row's {judge.name} is above the column's",
        ["row", *labels],
        rows if len(labels) > 2 else [],  # noqa: PLR2004 - two lines: the figure has said it
    )


def models_table(judge: Judge, lines: Sequence[Series], metric: str) -> Table:
    """Return by how much the last models of each pair differ.

    How much of that the choice of test images may make is told, too.
    """
    runs = {s.label: {run.seed: run for run in s.runs} for s in lines}
    rows = []
    for pair in judge.planned:
        for seed in sorted(set(runs[pair.ours]) & set(runs[pair.theirs])):
            found = _of_two_models(runs[pair.ours][seed], runs[pair.theirs][seed], metric)
            rows += [[pair.ours, pair.theirs, seed, *found]] if found is not None else []
    return Table(
        "models",
        "These two models: their last points, over test images drawn again",
        ["model of", "against that of", "seed", "difference, points", "from", "to"],
        rows,
        digits=2,
        note="From and to: 95 % of bootstrap draws of the test images (percentiles). This is about two trained models "
        "and images like these; it says "
        "nothing of the strategies, as another seed makes other models.",
    )


def _of_two_models(ours: Run, theirs: Run, metric: str) -> tuple[float, float, float] | None:
    """Return difference and its interval in points; None if the two were not tested on the same images."""
    if ours.last_cycle is None or theirs.last_cycle is None:
        return None
    a, b = ours.resampled(ours.last_cycle, metric), theirs.resampled(theirs.last_cycle, metric)
    if a is None or b is None or a[0] != b[0] or len(a[1]) != len(b[1]) or not np.isfinite(a[1] - b[1]).any():
        return None
    low, high = np.nanpercentile(100 * (a[1] - b[1]), [2.5, 97.5])
    return 100 * (ours.column(metric)[-1] - theirs.column(metric)[-1]), float(low), float(high)
