"""Learning curves and the few numbers taken from them.

Area under the curve, its paired difference, labels needed to reach a level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One run's learning curve.

    Attributes:
        spent: (T,) labels bought, ascending.
        metric: (T,) what was reached with them, a fraction in [0, 1].
    """

    spent: np.ndarray
    metric: np.ndarray

    @classmethod
    def make(cls, spent: Sequence[float], metric: Sequence[float]) -> "Curve":
        """Sort by what was spent and drop points that are not finite."""
        x, y = np.asarray(spent, float), np.asarray(metric, float)
        keep = np.isfinite(x) & np.isfinite(y)
        order = np.argsort(x[keep], kind="stable")
        return cls(x[keep][order], y[keep][order])

    def __len__(self) -> int:
        return len(self.spent)


@dataclass(frozen=True)
class Band:
    """Mean over seeds with its standard error (NaN where fewer than two seeds exist)."""

    spent: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray
    num_seeds: int


def area_under_curve(curve: Curve, low: float | None = None, high: float | None = None) -> float:
    """Mean height of the curve between ``low`` and ``high`` labels, by the trapezoid rule.

    Dividing by the range gives it the metric's own unit. One point is its own area.

    Raises:
        ValueError: if the curve is empty.
    """
    if len(curve) == 0:
        raise ValueError("area_under_curve: expected at least one point, got none")
    low = curve.spent[0] if low is None else max(low, curve.spent[0])
    high = curve.spent[-1] if high is None else min(high, curve.spent[-1])
    if high <= low:
        return float(np.interp(low, curve.spent, curve.metric))
    inside = (curve.spent > low) & (curve.spent < high)
    x = np.concatenate([[low], curve.spent[inside], [high]])
    y = np.interp(x, curve.spent, curve.metric)
    return float(np.trapezoid(y, x) / (high - low))


def shared_range(groups: Sequence[Mapping[int, Curve]]) -> tuple[float, float] | None:
    """Return the range of labels that all curves of more than one point cover; None if there is none."""
    long = [c for group in groups for c in group.values() if len(c) > 1]
    low, high = max((c.spent[0] for c in long), default=0.0), min((c.spent[-1] for c in long), default=0.0)
    return (float(low), float(high)) if long and high > low else None


def shared_areas(groups: Sequence[Mapping[int, Curve]]) -> list[list[float]]:
    """Areas under the curves of each group over the range of labels that all curves cover, so that they can be ranked.

    A curve of one point (a run that has only just begun) narrows no range and has no area, unless all are like it.
    Where no range is shared, each curve has the area of its own.
    """
    found = shared_range(groups)
    if found is None:
        return [[area_under_curve(c) for c in group.values() if len(c)] for group in groups]
    return [[area_under_curve(c, *found) for c in group.values() if len(c) > 1] for group in groups]


def band(curves: Sequence[Curve]) -> Band:
    """Mean and standard error over seeds, on the union of their x values within the range all of them cover."""
    curves = [c for c in curves if len(c)]
    if not curves:
        return Band(np.zeros(0), np.zeros(0), np.zeros(0), 0)
    low, high = max(c.spent[0] for c in curves), min(c.spent[-1] for c in curves)
    x = np.unique(np.concatenate([c.spent for c in curves] + [np.asarray([low, high])]))
    x = x[(x >= low) & (x <= high)]
    if len(x) == 0:  # disjoint ranges (runs that have only just begun) have no mean
        return Band(np.zeros(0), np.zeros(0), np.zeros(0), len(curves))
    y = np.stack([np.interp(x, c.spent, c.metric) for c in curves])
    n = len(curves)
    error = y.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(x), np.nan)
    return Band(x, y.mean(axis=0), error, n)


def labels_to_reach(spent: np.ndarray, metric: np.ndarray, level: float) -> float | None:
    """Fewest labels at which the (linearly interpolated) curve first reaches ``level``; None if it never does."""
    above = np.flatnonzero(metric >= level - 1e-12)
    if len(above) == 0:
        return None
    first = int(above[0])
    if first == 0:
        return float(spent[0])
    x0, x1, y0, y1 = spent[first - 1], spent[first], metric[first - 1], metric[first]
    return float(x0 + (level - y0) / (y1 - y0) * (x1 - x0))


def paired_areas(ours: Mapping[int, Curve], theirs: Mapping[int, Curve]) -> dict[int, float]:
    """Return seed -> difference of areas, ours minus theirs, over the range both curves of the seed cover."""
    differences = {}
    for seed in sorted(set(ours) & set(theirs)):
        a, b = ours[seed], theirs[seed]
        if not (len(a) and len(b)):
            continue
        low, high = max(a.spent[0], b.spent[0]), min(a.spent[-1], b.spent[-1])
        if high >= low:
            differences[seed] = area_under_curve(a, low, high) - area_under_curve(b, low, high)
    return differences


def paired_last(ours: Mapping[int, Curve], theirs: Mapping[int, Curve]) -> dict[int, float]:
    """Return seed -> difference of last points, ours minus theirs, however many labels each bought."""
    return {
        seed: float(ours[seed].metric[-1] - theirs[seed].metric[-1])
        for seed in sorted(set(ours) & set(theirs))
        if len(ours[seed]) and len(theirs[seed])
    }


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error; the error of fewer than two values is NaN."""
    array = np.asarray([v for v in values if np.isfinite(v)], float)
    if len(array) == 0:
        return float("nan"), float("nan")
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array))) if len(array) > 1 else float("nan")
