"""Which lines may share a leaderboard: of the same seeds, budgets and metric; else a sentence says what differs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.reporting.judge.contest import Contest, Entry
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.points import MINUTES, RANDOM, Table, column_of, curves_of
from al_lab.reporting.read.line_names import LEVELS

Note = Callable[[str], None]
_SAME = 0.02  # relative difference of labels bought up to which budgets are the same (regions end in whole squares)
_LEAST_SEEDS = 2
_COMMON = "--common compares what all lines have"


def metric_of(tables: Sequence[Table], asked: str | None) -> str:
    """Return the metric of all files: that asked for, else the first one all have.

    Raises:
        DataError: if there is none, naming two files.
    """
    wanted = tables[0].metrics if asked is None else (asked,)
    found = next((m for m in wanted if all(m in t.metrics for t in tables)), None)
    if found is not None:
        return found
    without = next(t for t in tables if not set(wanted) <= set(t.metrics))
    near = did_you_mean(asked, without.metrics) if asked is not None else "make one leaderboard for each metric"
    raise DataError(
        explain(
            expected=f"the metric {' or '.join(wanted)}, as in {tables[0].path.name}"
            if asked is None
            else f"the metric {asked}",
            got=", ".join(without.metrics),
            where=str(without.path),
            do=f"--metric NAME chooses one that all files have ({near})",
        )
    )


def contests_of_table(
    table: Table,
    metric: str,
    column: str | None,
    level: float | None,
    common: bool,
    is_changed: Callable[[str], bool],
    note: Note,
) -> list[Contest]:
    """Return the contests of a file: one for each combination of its columns between the line's name and ``seed``.

    Args:
        table: the file.
        metric: a column.
        column: the count of labels that decides; None: the first there is.
        level: see `Contest`.
        common: compare what all lines have where they differ in seeds or cycles.
        is_changed: whether a strategy changes the detector.
        note: takes what was left out.

    Raises:
        DataError: if lines may not be compared.
    """
    outside = next((row for row in table.rows if not 0 <= float(row[metric]) <= 1), None)
    if outside is not None:
        raise table.wrong(f"{metric} as a fraction between 0 and 1", outside[metric],
                          "divide percent by 100; a metric of which less is better can't be ranked here")  # fmt: skip
    first = column_of(table, column)
    units = (first, *(u for u in table.spent if u != first))
    groups: dict[tuple[str, ...], dict[str, list[Mapping[str, str]]]] = {}
    for row in table.rows:
        key = tuple(row[k] for k in table.keys)
        if key[0] not in LEVELS:
            groups.setdefault(key[1:], {}).setdefault(key[0], []).append(row)
    contests = []
    for rest, lines in groups.items():
        name = ", ".join((table.path.stem, *rest))
        if len(lines) == 1 and len(groups) > 1:
            note(f"{name}: one line has no rival; it is left out.")
            continue
        entries = tuple(
            _entry(table, label, rows, units, metric, set(lines), is_changed) for label, rows in lines.items()
        )
        contests.append(checked(Contest(name, metric, units, entries, table.by_last, level), table.path, common, note))
    return contests


def _entry(
    table: Table,
    label: str,
    rows: list[Mapping[str, str]],
    units: Sequence[str],
    metric: str,
    labels: set[str],
    is_changed: Callable[[str], bool],
) -> Entry:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        at = (row["seed"], row["cycle"])
        if at in seen:
            raise table.wrong("one row for each line, seed and cycle", f"two of {label}, seed {at[0]}, cycle {at[1]}",
                              "leave one out, or give the lines other names")  # fmt: skip
        seen.add(at)
    other = table.against or RANDOM
    minutes = [float(r[MINUTES]) for r in rows if r.get(MINUTES)]
    return Entry(
        label,
        label.replace(",", " ").split()[0],
        {u: curves_of(rows, u, metric) for u in units},
        (other,) if other in labels - {label} else (),
        minutes=sum(minutes) / len({r["seed"] for r in rows}) if minutes else math.nan,
        is_changed=is_changed(label),
    )


def checked(contest: Contest, where: Path, common: bool, note: Note) -> Contest:
    """Return the contest, cut to what all lines have if asked; refuse what can't be compared.

    Raises:
        DataError: for fewer than two lines, one seed, unequal seeds, different budgets.
    """
    if len(contest.entries) < 2:  # noqa: PLR2004 - a contest has two sides
        raise _wrong(
            "two lines or more", ", ".join(e.label for e in contest.entries) or "none", where, "name more runs"
        )
    single = [e for e in contest.entries if len(e.seeds) < _LEAST_SEEDS]
    if common and single and len(single) < len(contest.entries) - 1:
        note(f"{contest.name}: {', '.join(e.label for e in single)} left out, for one seed has no interval.")
        contest = replace(contest, entries=tuple(e for e in contest.entries if e not in single))
    elif single:
        raise _wrong("two seeds or more of every line", f"one seed ({single[0].seeds[0]}) of {single[0].label}", where,
                     f"run more seeds; {_COMMON} and leaves such lines out")  # fmt: skip
    return _same_budget(_same_seeds(contest, where, common, note), where, common, note)


def _same_seeds(contest: Contest, where: Path, common: bool, note: Note) -> Contest:
    first = contest.entries[0]
    odd = next((e for e in contest.entries if e.seeds != first.seeds), None)
    if odd is None:
        return contest
    shared = sorted(set.intersection(*(set(e.seeds) for e in contest.entries)))
    if not common or len(shared) < _LEAST_SEEDS:
        raise _wrong(
            "the same seeds of every line" if not common else "two seeds or more that all lines share",
            f"{first.label} with {_listed(first.seeds)}, {odd.label} with {_listed(odd.seeds)}",
            where,
            f"run the missing seeds; {_COMMON}" if not common else "run the missing seeds",
        )
    note(f"{contest.name}: seeds {_listed(shared)}, which all lines have; the others are left out.")
    return replace(contest, entries=tuple(_with(e, lambda c: {s: c[s] for s in shared}) for e in contest.entries))


def _same_budget(contest: Contest, where: Path, common: bool, note: Note) -> Contest:
    """Compare what was bought, point by point, in the unit in which it differs least: that of the budget."""
    lengths = {len(c) for e in contest.entries for c in e.curves[contest.units[0]].values()}
    if common and len(lengths) > 1:
        least = min(lengths)
        note(f"{contest.name}: the first {least} points, which all lines have; later ones are left out.")
        contest = replace(contest, entries=tuple(_shortened(e, least) for e in contest.entries))
    odd = [_odd(contest, unit) for unit in contest.units]
    if all(o is not None for o in odd):
        assert odd[0] is not None
        raise _wrong("the same budget of every line", odd[0], where,
                     "make one leaderboard for each budget" + ("" if common else f"; {_COMMON}"))  # fmt: skip
    return contest


def _odd(contest: Contest, unit: str) -> str | None:
    """Return the first two lines that bought different amounts; None if all bought the same."""
    (first, *others) = [(e.label, c) for e in contest.entries for c in e.curves[unit].values()]
    for label, curve in others:
        if len(curve) != len(first[1]) or not np.allclose(curve.spent, first[1].spent, rtol=_SAME, atol=0):
            return f"{first[0]} {_spent(first[1])} and {label} {_spent(curve)} {unit}"
    return None


def _spent(curve: Curve) -> str:
    return "/".join(f"{n:g}" for n in curve.spent)


def _shortened(entry: Entry, points: int) -> Entry:
    cut = _with(entry, lambda c: {s: Curve(v.spent[:points], v.metric[:points]) for s, v in c.items()})
    return replace(cut, drawn={s: values[:points] for s, values in entry.drawn.items()})


def _with(entry: Entry, change: Callable[[Mapping[int, Curve]], Mapping[int, Curve]]) -> Entry:
    return replace(entry, curves={unit: change(curves) for unit, curves in entry.curves.items()})


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _wrong(expected: str, got: str, where: Path, do: str) -> DataError:
    return DataError(explain(expected=expected, got=got, where=str(where), do=do))
