"""Sections about results, for one strategy or several: the curve, labels needed, classes."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import curves as figures
from al_lab.reporting.figures.theme import INK, color_of
from al_lab.reporting.judge import judge
from al_lab.reporting.judge.curves import labels_to_reach, mean_and_error
from al_lab.reporting.judge.protocol import Series, baseline
from al_lab.reporting.read.run_folder import IN_PIXELS, METRIC_LABELS, Run
from al_lab.reporting.sections.bought_pixels import bought_share

SPENT_LABELS = {
    "spent_images": "labeled images",
    "spent_boxes": "labeled boxes",
    "spent_pixels": "labeled pixels",
    "spent_clicks": "clicks",
    "spent_hours": "hours of labeling",
}
_COUNTED = ("spent_images", "spent_boxes", "spent_pixels", "spent_clicks")
NO_METRICS = (
    "No metric has been written yet. A dataset without a test set is trained and queried all the same, but has "
    "no curve: "
    "give it test images with labels to get one."
)


def metric_label(metric: str) -> str:
    """Return the metric's name for people."""
    return METRIC_LABELS.get(metric, metric)


def pick_metric(runs: Sequence[Run], asked: str | None = None) -> str | None:
    """Return the metric a page is about: that asked for, else the preferred one that every run with metrics has.

    None if there is none.

    Raises:
        DataError: if a run with metrics lacks the one asked for, or smaller is better.
    """
    if asked in IN_PIXELS:
        raise DataError(
            explain(
                expected="a metric that is a share: larger is better",
                got=f"{asked}, a distance",
                where="--metric",
                do="choose another; this one stands in the section Every metric",
            )
        )
    names = [run.metric_names for run in runs if run.metric_names]
    if asked is not None:
        without = next((run for run in runs if run.metric_names and asked not in run.metric_names), None)
        if without is None:
            return asked if names else None
        raise DataError(
            explain(
                expected=f"the metric {asked}",
                got=", ".join(without.metric_names),
                where=str(without.path),
                do=f"--metric takes one of these ({did_you_mean(asked, without.metric_names)})",
            )
        )
    return next((n for n in names[0] if all(n in other for other in names)), None) if names else None


def spent_columns(runs: Sequence[Run]) -> list[str]:
    """Return the units in which labels were counted: the budget's own, clicks where they are no pixels, the rest."""
    present = [c for c in _COUNTED if any(np.nansum(run.column(c)) > 0 for run in runs)]
    if "spent_clicks" in present and not all(_has_clicks(run) for run in runs if run.metrics):
        present.remove("spent_clicks")
    unit = (runs[0].config.get("budget") or {}).get("unit", "image") if runs else "image"
    own = {
        "box": "spent_boxes",
        "pixel": "spent_pixels",
        "region": "spent_pixels",
        "segment": "spent_clicks",
    }.get(str(unit), "spent_images")
    return sorted(present, key=lambda c: (c != own, c != "spent_clicks")) or ["spent_images"]


def _has_clicks(run: Run) -> bool:
    """Whether clicks were counted and say something else than pixels."""
    clicks, pixels = (np.asarray(run.column(c)) for c in ("spent_clicks", "spent_pixels"))
    return bool(np.isfinite(clicks).all() and (clicks != pixels).any())


def last_values(series: Series, metric: str) -> list[float]:
    """Return the metric of each seed's last evaluation."""
    return [float(curve.metric[-1]) for curve in series.curves(metric).values()]


def judge_of(lines: Sequence[Series], metric: str) -> judge.Judge:
    """Return who judges the lines of a page: by what the budget counts."""
    return judge.judge_of(lines, metric, spent_columns([run for s in lines for run in s.runs])[0])


def curve_section(lines: Sequence[Series], levels: Sequence[Series], metric: str | None) -> Section:
    """Show the learning curves, by images and by boxes where they were counted."""
    section = Section("curve", "Learning curve")
    if metric is None:
        section.text = NO_METRICS
        return section
    runs = [run for series in lines for run in series.runs]
    section.text = (
        f"{metric_label(metric)} on the test images against the labels bought. Lines are means over seeds, bars and "
        f"bands one standard "
        "error of that mean; whether lines differ is said below, not by whether bars overlap."
    )
    values = {s.label: last_values(s, metric) for s in levels}
    last: list[Picture] = []
    for column in spent_columns(runs)[:2]:
        drawn = [
            figures.Line(s.label, s.strategy, s.band(metric, column), s.curves(metric, column))
            for s in lines
            if s.curves(metric, column)
        ]
        share = (
            bought_share(runs[0], float(np.nanmax([run.column(column)[-1] for run in runs if run.metrics])))
            if column == "spent_pixels"
            else None
        )
        spent_label = SPENT_LABELS[column] + (f"; {100 * share:.2g} % of the pool's at the end" if share else "")
        figure = figures.learning_curve(drawn, values, metric_label(metric), spent_label)
        alt = f"{metric_label(metric)} against {SPENT_LABELS[column]} for {', '.join(s.label for s in lines)}"
        section.pictures.append(Picture(f"learning_curve_{column.removeprefix('spent_')}", figure, alt))
        if column == spent_columns(runs)[0] and len(drawn) > figures.MOST_BARS:
            each = figures.panels(drawn, values, metric_label(metric), spent_label)
            last = [Picture("learning_curve_each", each, f"{alt}, a panel each", is_wide=True)]
    section.pictures += last
    return section


def curve_table(lines: Sequence[Series], metric: str) -> Table:
    """Return every point of every run: the file behind the curve."""
    others = [n for n in _COUNTED if any(np.nansum(run.column(n)) > 0 for s in lines for run in s.runs)]
    rows = []
    for series in lines:
        for run in series.runs:
            for row in run.metrics:
                value = row.get(metric)
                rows.append(
                    [
                        series.label,
                        run.seed,
                        row["cycle"],
                        *(row.get(n) for n in others),
                        100 * value if value is not None else None,
                    ]
                )
    return Table(
        "learning_curve",
        "Every point of the curve",
        ["strategy", "seed", "cycle", *(SPENT_LABELS[n] for n in others), f"{metric_label(metric)}, %"],
        rows,
        digits=2,
    )


def detector_note(lines: Sequence[Series], is_changed: Callable[[str], bool]) -> str:
    """Say which lines change the detector, "" where none does."""
    changed = [s.label for s in lines if is_changed(s.strategy)]
    if not changed:
        return ""
    return (
        f" {', '.join(changed)}: the strategy changes the detector, so what its first models reach is no matter of "
        "choice; only random with the same detector (under the strategy's own protocol) is a fair control."
    )


def levels(
    lines: Sequence[Series], full: Series | None, metric: str, column: str, asked: Sequence[float] = ()
) -> list[tuple[str, float]]:
    """Return the levels worth asking for: those asked, random's last point, shares of the full-data value."""
    chosen = [(f"{100 * level:g} %", level) for level in asked]
    random = baseline(lines)
    bands = {s.label: s.band(metric, column) for s in lines}
    reached = max((float(b.mean.max()) for b in bands.values() if len(b.mean)), default=math.nan)
    if random and len(bands[random.label].mean) and len(lines) > 1:
        chosen.append((f"{random.label}'s last point", float(bands[random.label].mean[-1])))
    whole = mean_and_error(last_values(full, metric))[0] if full else math.nan
    if math.isfinite(whole):
        chosen += [(f"{share} % of full data", whole * share / 100) for share in (80, 90, 95)]
    elif math.isfinite(reached):
        chosen += [(f"{share} % of the best point here", reached * share / 100) for share in (80, 90)]
    return chosen


def levels_section(
    lines: Sequence[Series], full: Series | None, metric: str | None, asked: Sequence[float] = ()
) -> Section:
    """Show how many labels each strategy needs to reach a level, and what that saves against random.

    Nothing where only last points count.
    """
    section = Section("levels", "Labels needed")
    if metric is None or judge_of(lines, metric).by_last:
        return section
    column = spent_columns([run for s in lines for run in s.runs])[0]
    bands = {s.label: s.band(metric, column) for s in lines}
    reference = baseline(lines)
    random = reference.label if reference else "random"
    rows: list[list] = []
    unreached: list[str] = []
    for name, level in levels(lines, full, metric, column, asked):
        needs = {label: labels_to_reach(b.spent, b.mean, level) for label, b in bands.items()}
        if all(need is None for need in needs.values()):
            unreached.append(f"{name} ({100 * level:.1f} %)")
            continue
        fewest = needs.get(random)
        for series in lines:
            need = needs[series.label]
            saved = 100 * (1 - need / fewest) if need is not None and fewest and series.label != random else None
            rows.append(
                [
                    name,
                    100 * level,
                    series.label,
                    need if need is not None else math.nan,
                    saved if saved is not None else math.nan,
                ]
            )
    section.text = (
        "Where the mean curve first reaches a level, interpolated between cycles. A dash: not reached, or "
        "nothing to compare with."
    )
    section.text += f" Nobody reaches {', '.join(unreached)}." if unreached else ""
    if not rows:
        return section if unreached else Section("levels", "Labels needed")
    section.tables.append(
        Table(
            "labels_needed",
            "Labels needed to reach a level",
            ["level", f"{metric_label(metric)}, %", "strategy", SPENT_LABELS[column], f"saved against {random}, %"],
            rows,
            digits=[0, 1, 0, 0, 0],
        )
    )
    return section


def classes_section(lines: Sequence[Series], metric: str | None) -> Section:
    """Show the metric per class at the last evaluation (for one run also at the first), and by cycle."""
    section = Section("classes", "Per class")
    if metric is None:
        return section
    single = len(lines) == 1 and len(lines[0].runs) == 1
    groups: dict[str, dict[str, float]] = {}
    if single:
        run = lines[0].runs[0]
        done = [c for c in run.cycle_dirs if run.per_class(c, metric)]
        for cycle in dict.fromkeys([done[0], done[-1]] if done else []):
            groups[f"cycle {cycle}"] = run.per_class(cycle, metric)
        colors = ["#a3abb7", color_of(lines[0].strategy)] if len(groups) > 1 else [color_of(lines[0].strategy)]
    else:
        groups = {s.label: _mean_of_dicts([_last_per_class(run, metric) for run in s.runs]) for s in lines}
        groups = {label: values for label, values in groups.items() if values}
        labels = [s.label for s in lines]
        colors = [color_of(s.strategy, s.label, labels) for s in lines if s.label in groups]
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    if not names:
        section.text = "No per-class values were written."
        return section
    when = "first and the last cycle" if single else "last cycle of each run, mean over seeds"
    section.text = f"{metric_label(metric)} of each class at the {when}."
    columns = {label: [values.get(name, math.nan) for name in names] for label, values in groups.items()}
    figure = figures.grouped_bars(names, columns, colors, f"{metric_label(metric)}, %")
    section.pictures.append(Picture("per_class", figure, f"{metric_label(metric)} of each class"))
    if single and len(done) > 1:
        section.pictures.append(_class_by_cycle(run, done, names, metric))
    # Where there are many, the figure shows them: eighty rows would bury the rest.
    (section.tables if len(names) <= 30 else section.files).append(
        Table(
            "per_class",
            f"{metric_label(metric)} per class, %",
            ["class", *columns],
            [[n, *(100 * v[k] for v in columns.values())] for k, n in enumerate(names)],
        )
    )
    return section


def _class_by_cycle(run: Run, cycles: Sequence[int], names: Sequence[str], metric: str) -> Picture:
    values_CT = np.asarray([[run.per_class(c, metric).get(n, math.nan) for c in cycles] for n in names])
    column = spent_columns([run])[0]
    spent = {row["cycle"]: row.get(column, row["cycle"]) for row in run.metrics}
    figure = figures.class_by_cycle(
        names, [spent.get(c, c) for c in cycles], values_CT, metric_label(metric), SPENT_LABELS[column]
    )
    return Picture("per_class_by_cycle", figure, f"{metric_label(metric)} of each class by cycle")


def _last_per_class(run: Run, metric: str) -> dict[str, float]:
    return next((values for values in (run.per_class(c, metric) for c in reversed(run.cycle_dirs)) if values), {})


def _mean_of_dicts(items: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for item in items for name in item)
    return {name: mean_and_error([item[name] for item in items if name in item])[0] for name in names}


def distribution_section(lines: Sequence[Series]) -> Section:
    """Show the classes of what was bought against the classes of the pool."""
    section = Section("bought", "What was bought")
    groups: dict[str, np.ndarray] = {}
    names: tuple[str, ...] = ()
    pool = None
    for series in lines:
        counts = [c for c in (run.class_counts() for run in series.runs) if c is not None]
        names = names or (counts[0].classes if counts else ())
        shares = [c.bought / c.bought.sum() for c in counts if c.bought.sum() > 0 and c.classes == names]
        if shares:
            groups[series.label] = np.mean(shares, axis=0)
        pool = pool if pool is not None else next((c.pool for c in counts if c.pool is not None), None)
    if not groups:
        section.text = "No class counts were written (the oracle writes oracle_stats.json with each purchase)."
        return section
    labels = [s.label for s in lines]
    colors = [color_of(s.strategy, s.label, labels) for s in lines if s.label in groups]
    columns = {f"bought by {label}": share.tolist() for label, share in groups.items()}
    if pool is not None and pool.sum() > 0:
        columns = {"pool": (pool / pool.sum()).tolist(), **columns}
        colors = [INK, *colors]
    what = "pixels" if any(run.config.get("segmenter") for series in lines for run in series.runs) else "objects"
    section.text = f"Share of each class among the {what} bought" + (
        ", against the whole pool. The pool's own shares are hidden from the strategy; the oracle counted them "
        "for this page."
        if "pool" in columns
        else ". Nobody knows the pool's own shares: its labels are not there."
    )
    figure = figures.grouped_bars(names, columns, colors, f"share of {what}, %")
    section.pictures.append(
        Picture("class_distribution", figure, "share of each class among what was bought and in the pool")
    )
    return section
