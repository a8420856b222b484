"""The lines that compete on one data set: what they reached by every count of labels, and what that saves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from al_lab.reporting.judge.curves import (
    Band,
    Curve,
    area_under_curve,
    band,
    labels_to_reach,
    shared_areas,
    shared_range,
)
from al_lab.reporting.judge.judge import Judge, Line
from al_lab.reporting.judge.ranks import Ranks, ranks

_SAVED_DRAWS = 400


@dataclass(frozen=True)
class Entry:
    """One line on one data set.

    Attributes:
        label: its name.
        strategy: decides its color.
        curves: unit (``images``) -> seed -> learning curve.
        references: labels of the lines it is measured against.
        drawn: seed -> (T, B) its metric on test images drawn again, one row a point of the curve; empty: not kept.
        minutes: of acquisition in a run, on average; NaN: nobody wrote it down.
        is_changed: whether its detector is another one than that of the other lines.
    """

    label: str
    strategy: str
    curves: Mapping[str, Mapping[int, Curve]]
    references: tuple[str, ...] = ()
    drawn: Mapping[int, np.ndarray] = field(default_factory=dict)
    minutes: float = math.nan
    is_changed: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, ascending."""
        return tuple(sorted(next(iter(self.curves.values()))))


@dataclass(frozen=True)
class Saving:
    """Labels needed to reach a level, and the share of the reference's that this saves with its 95 % interval.

    NaN where the level is not reached (a bound: not in so many draws).
    """

    needed: float
    saved: float
    low: float
    high: float


@dataclass(frozen=True)
class Contest:
    """All lines on one data set, with the same seeds and budgets (`al_lab.reporting.judge.entries` sees to it).

    Attributes:
        name: of the data set, or the file.
        metric: by which it is decided.
        units: what was counted, the one that decides first.
        entries: the lines.
        by_last: last points decide, see `Judge`.
        level: that labels are counted up to, a fraction; None: the reference's last point.
    """

    name: str
    metric: str
    units: tuple[str, ...]
    entries: tuple[Entry, ...]
    by_last: bool = False
    level: float | None = None

    @cached_property
    def judge(self) -> Judge:
        """Who judges its pairs."""
        lines = tuple(Line(e.label, e.curves[self.units[0]], e.references) for e in self.entries)
        return Judge(lines, self.by_last)

    def values(self, unit: str) -> np.ndarray:
        """Return (L, S) areas under the curve over the range all lines cover, or last points."""
        curves = [e.curves[unit] for e in self.entries]
        if self.by_last:
            return np.asarray([[c[s].metric[-1] for s in sorted(c)] for c in curves])
        return np.asarray(shared_areas([dict(sorted(c.items())) for c in curves]))

    @property
    def has_drawn_images(self) -> bool:
        """Whether every line kept its metric on test images drawn again."""
        return all(set(e.drawn) >= set(e.seeds) for e in self.entries)

    def ranks(self, unit: str) -> Ranks:
        """Rank its lines."""
        return self._ranks[unit]

    @cached_property
    def _ranks(self) -> dict[str, Ranks]:
        return {u: ranks(self.values(u), self._drawn(u) if self.has_drawn_images else None) for u in self.units}

    def _drawn(self, unit: str) -> np.ndarray:
        """Return (L, S, B) the values on test images drawn again: an area is linear in the curve's heights."""
        found = shared_range([e.curves[unit] for e in self.entries])
        rows = []
        for entry in self.entries:
            own = []
            for seed in entry.seeds:
                spent = entry.curves[unit][seed].spent
                units_T = np.eye(len(spent))
                weight_T = [area_under_curve(Curve(spent, row), *(found or ())) for row in units_T]
                own.append(entry.drawn[seed][-1] if self.by_last else np.asarray(weight_T) @ entry.drawn[seed])
            rows.append(own)
        return np.asarray(rows)

    @cached_property
    def reference(self) -> Entry | None:
        """The line that most others are measured against."""
        named = [r for e in self.entries for r in e.references]
        best = max(dict.fromkeys(named), key=named.count, default=None)
        return next((e for e in self.entries if e.label == best), None)

    @cached_property
    def goal(self) -> float | None:
        """The level that labels are counted up to; None without one."""
        if self.level is not None or self.reference is None or self.by_last:
            return None if self.by_last else self.level
        return float(_band(self.reference, self.units[0], self.reference.seeds).mean[-1])

    def saving(self, entry: Entry) -> Saving | None:
        """Return what a line needs to reach `goal`, and saves against the reference; None without a goal."""
        if self.goal is None or self.reference is None:
            return None
        unit = self.units[0]
        needed, saved = self._saved(entry, unit, entry.seeds)
        rng = np.random.default_rng(len(entry.seeds))
        picks = rng.choice(entry.seeds, size=(_SAVED_DRAWS, len(entry.seeds)))
        drawn = [self._saved(entry, unit, tuple(row.tolist()))[1] for row in picks]
        bounds = np.percentile(np.nan_to_num(drawn, nan=-np.inf), [2.5, 97.5], method="nearest")
        low, high = (float(v) if np.isfinite(v) else math.nan for v in bounds)
        if entry is self.reference:
            saved = low = high = math.nan
        return Saving(needed, saved, low, high)

    def _saved(self, entry: Entry, unit: str, seeds: Sequence[int]) -> tuple[float, float]:
        assert self.reference is not None and self.goal is not None
        ours, theirs = (_band(e, unit, seeds) for e in (entry, self.reference))
        # In a draw the reference's own last point is another: it is what labels are counted up to.
        goal = self.goal if self.level is not None else float(theirs.mean[-1])
        need, fewest = (labels_to_reach(b.spent, b.mean, goal) for b in (ours, theirs))
        if need is None:
            return math.nan, math.nan
        return need, 1 - need / fewest if fewest else math.nan


def _band(entry: Entry, unit: str, seeds: Sequence[int]) -> Band:
    return band([entry.curves[unit][seed] for seed in seeds])
