"""Where a method helps: the gain of each class against random, and in how many classes one method beats another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.methods import gain_bars, win_matrix
from al_lab.reporting.figures.theme import color_of
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.judge.protocol import Series, baseline
from al_lab.reporting.sections.results import metric_label

_MAX_CLASSES = 30  # beyond, the figure shows the best and the worst
_EXTREMES = 8  # classes on either side
_MAX_ROWS = 24
_LEAST = 0.01  # of AP: percents of less than one point mean nothing

# (seed, cycle) -> class -> value
_Values = dict[tuple[int, int], dict[str, float]]


@dataclass(frozen=True)
class _Gain:
    """One class of one line at one cycle: fractions, over the seeds that both have."""

    random: float
    value: float
    error: float  # of the difference
    seeds: int

    @property
    def relative(self) -> float:
        """Percent of random's value; NaN where that is too small to divide by."""
        return 100 * (self.value / self.random - 1) if self.random >= _LEAST else math.nan


def gain_section(lines: Sequence[Series], metric: str | None) -> Section:
    """Show gains per class at the first and the last cycle after a query, and the matrix of wins over all pairs."""
    section = Section("gain", "Gain per class")
    values = {s.label: _values(s, metric) for s in lines} if metric else {}
    random = baseline(lines)
    if metric is None or len(lines) < 2 or not any(values.values()):
        return section
    if random is not None:
        _add_gains(section, lines, random, values, metric)
    _add_wins(section, [s for s in lines if values[s.label]], values, metric)
    return section


def _values(series: Series, metric: str) -> _Values:
    """Read the classes of every cycle after a query: before the first, every line has the same labels."""
    read = {(run.seed, c): run.per_class(c, metric) for run in series.runs for c in run.cycle_dirs if c > 0}
    return {key: row for key, row in read.items() if any(map(math.isfinite, row.values()))}


def _add_gains(
    section: Section, lines: Sequence[Series], random: Series, values: dict[str, _Values], metric: str
) -> None:
    others = [s for s in lines if s is not random and set(values[s.label]) & set(values[random.label])]
    if not others:
        return
    cycles = sorted(
        set.intersection(*({c for _, c in set(values[s.label]) & set(values[random.label])} for s in others))
    )
    if not cycles:
        return
    shown = list(dict.fromkeys((cycles[0], cycles[-1])))
    gains = {(c, s.label): _gains(values[s.label], values[random.label], c) for c in shown for s in others}
    level = {name: gain.random for s in others for name, gain in gains[shown[-1], s.label].items()}
    names = sorted(level, key=lambda name: (-level[name], name))
    small = [n for n in names if all(math.isnan(g[n].relative) for g in gains.values() if n in g)]
    drawn = [n for n in names if n not in small]
    if len(drawn) > _MAX_CLASSES:
        drawn = drawn[:_EXTREMES] + drawn[-_EXTREMES:]
    labels = [s.label for s in lines]
    section.text = (
        f"Relative gain in {metric_label(metric)} of each class: 100 · (line − {random.label}) / {random.label}, in "
        f"percent of what "
        f"{random.label} reaches, not in points; at the first and the last cycle after a query that all lines have."
    )
    if drawn:
        panels = {
            f"cycle {c}": {s.label: [_relative(gains[c, s.label], n) for n in drawn] for s in others} for c in shown
        }
        figure = gain_bars(
            drawn,
            panels,
            {s.label: color_of(s.strategy, s.label, labels) for s in others},
            f"gain over {random.label}, %",
        )
        alt = f"relative gain of each class over {random.label}"
        section.pictures.append(Picture("class_gain", figure, alt, _caption(drawn, names, small, random), is_wide=True))
    table = _gain_table(random.label, shown, names, [s.label for s in others], gains, metric)
    if len(table.rows) <= _MAX_ROWS:
        section.tables.append(table)
    else:
        section.files.append(table)
        section.text += " Points and standard errors are in tables/class_gain.csv (--out)."


def _gain_table(
    random: str,
    cycles: Sequence[int],
    names: Sequence[str],
    others: Sequence[str],
    gains: Mapping[tuple[int, str], Mapping[str, _Gain]],
    metric: str,
) -> Table:
    rows = [
        [c, name, label, 100 * g.random, 100 * g.value, 100 * (g.value - g.random), 100 * g.error, g.relative, g.seeds]
        for c in cycles
        for name in names
        for label in others
        for g in [gains[c, label].get(name)]
        if g is not None
    ]
    return Table(
        "class_gain",
        f"{metric_label(metric)} per class against {random}",
        ["cycle", "class", "strategy", f"{random}, %", "strategy, %", "difference, points", "± SE", "relative gain, %",
         "paired seeds"],
        rows,
        note="Means over the seeds both have. A dash: one seed has no standard error (SE); less than one percent is "
        "not divided by.",
    )  # fmt: skip


def _gains(ours: _Values, theirs: _Values, cycle: int) -> dict[str, _Gain]:
    keys = sorted(k for k in set(ours) & set(theirs) if k[1] == cycle)
    gains = {}
    for name in dict.fromkeys(n for k in keys for n in theirs[k]):
        pairs = [(theirs[k][name], ours[k][name]) for k in keys if name in ours[k] and name in theirs[k]]
        pairs = [p for p in pairs if all(map(math.isfinite, p))]
        if pairs:
            random, value = np.mean(pairs, axis=0)
            gains[name] = _Gain(float(random), float(value), mean_and_error([b - a for a, b in pairs])[1], len(pairs))
    return gains


def _relative(gains: dict[str, _Gain], name: str) -> float:
    return gains[name].relative if name in gains else math.nan


def _caption(drawn: Sequence[str], names: Sequence[str], small: Sequence[str], random: Series) -> str:
    text = (
        f"Classes in the order of what {random.label} reaches at the last cycle, best first; means over paired seeds."
    )
    if len(drawn) + len(small) < len(names):
        text += (
            f" The {_EXTREMES} best and the {_EXTREMES} worst of {len(names)} classes; all are in "
            f"tables/class_gain.csv (--out)."
        )
    if small:
        listed = ", ".join(small[:6]) + (f" and {len(small) - 6} more" if len(small) > 6 else "")
        text += f" Left out, as {random.label} stays below one percent there: {listed}."
    return text


def _add_wins(section: Section, lines: Sequence[Series], values: dict[str, _Values], metric: str) -> None:
    n = len(lines)
    share_LL = np.full((n, n), np.nan)
    cycles: set[int] = set()
    for i, k in permutations(range(n), 2):
        by_cycle = _wins(values[lines[i].label], values[lines[k].label])
        cycles |= set(by_cycle)
        if by_cycle:
            share_LL[i, k] = np.mean(list(by_cycle.values()))
    if not cycles:
        return
    labels = [s.label for s in lines]
    span = f"cycle {min(cycles)}" if len(cycles) == 1 else f"cycles {min(cycles)} to {max(cycles)}"
    note = (
        f"In how many percent of the classes the row's {metric_label(metric)} is above the column's. Of each cycle, "
        f"the values are averaged over "
        f"the seeds both have and then compared class by class; the percents are averaged over {span}. A tie "
        f"counts for neither."
    )
    if n > 2:
        figure = win_matrix(labels, share_LL)
        section.pictures.append(
            Picture(
                "class_wins", figure, "in how many percent of the classes one line beats another", note, is_wide=True
            )
        )
    rows = [[label, *(100 * share_LL[i])] for i, label in enumerate(labels)]
    table = Table(
        "class_wins",
        "In how many percent of the classes the row beats the column",
        ["row", *labels],
        [[row[0], *map(float, row[1:])] for row in rows],
        digits=0,
        note=note,
    )
    (section.files if n > 2 else section.tables).append(table)


def _wins(ours: _Values, theirs: _Values) -> dict[int, float]:
    """Return cycle -> share of the classes in which our mean over the common seeds is above theirs."""
    shares = {}
    for cycle in sorted({c for _, c in set(ours) & set(theirs)}):
        gains = _gains(ours, theirs, cycle)
        if gains:
            shares[cycle] = float(np.mean([g.value > g.random for g in gains.values()]))
    return shares
