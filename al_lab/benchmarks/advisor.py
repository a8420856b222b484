"""How good the forecasts of learning curves are: on drawn curves, and on the next points of published ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_lab.core.statistics.learning_curve import LEAST_LEVELS, fit, interval
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.points import read_points

CURVES = 300  # drawn a row
_SHARES = (0.95, 0.8)
_FIRST = 100.0  # labels of a drawn curve's first point
_DRAWS = 2000  # of a forecast

Height = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Forecast:
    """One point that was foretold.

    Attributes:
        levels: different numbers of labels seen before it.
        seeds: whose points were seen.
        real: what came.
        median: what was expected.
        before: the point before it, of the same seed.
        intervals: for each of the shares, low and high.
    """

    levels: int
    seeds: int
    real: float
    median: float
    before: float
    intervals: tuple[tuple[float, float], ...]

    def holds(self, share: float) -> bool:
        """Whether the interval with this share holds what came."""
        low, high = self.intervals[_SHARES.index(share)]
        return low <= self.real <= high


def _drawn(kind: str, rng: np.random.Generator) -> Height:
    """Draw a true curve: of the model's family, of others, or one on which labels are worth nothing."""
    end, rise = rng.uniform(0.3, 0.9), rng.uniform(0.05, 0.3)
    if kind == "power law":
        c = rng.uniform(0.2, 1.5)
        return lambda n: end - rise * (n / _FIRST) ** -c
    if kind == "exponential":
        k = rng.uniform(0.5, 3)
        return lambda n: end - rise * np.exp(-(n / _FIRST - 1) / k)
    if kind == "logarithm":
        return lambda n: 0.3 + rise / 4 * np.log(n / _FIRST)
    return lambda n: np.full(np.shape(n), end)


KINDS = ("power law", "exponential", "logarithm", "flat")


def coverage(kind: str, seeds: int, levels: int, curves: int = CURVES) -> tuple[float, float, float]:
    """Return how often the 95 % intervals hold the next point, the next purchase's gain, and that of twice the labels.

    Args:
        kind: of the true curves, one of `KINDS`.
        seeds: runs that were seen.
        levels: points of each.
        curves: drawn; an evaluation's deviation is 0.4 to 2 points, that between seeds up to 1.5 times as much.
    """
    rng = np.random.default_rng([seeds, levels, KINDS.index(kind)])
    held = np.zeros((curves, 3), bool)
    for row in held:
        height, noise = _drawn(kind, rng), rng.uniform(0.004, 0.02)
        n = _FIRST + np.arange(levels + 1) * rng.choice([50, 100, 200])
        own = noise * rng.uniform(0, 1.5) * rng.normal(size=(seeds, 1))
        y = height(n) + own + noise * rng.normal(size=(seeds, levels + 1))
        seen = np.tile(n[:levels], seeds), y[:, :levels].ravel(), np.repeat(np.arange(seeds), levels)
        curve = fit(*seen, draws=_DRAWS)
        assert curve is not None
        now, later = float(n[levels - 1]), float(n[levels])
        truth = (y[0, levels], *(float(np.diff(height(np.asarray([now, to])))[0]) for to in (later, 2 * now)))
        draws = curve.observed(later, 0), curve.gain(now, later), curve.gain(now, 2 * now)
        for k, (real, of) in enumerate(zip(truth, draws, strict=True)):
            low, high = interval(of)
            row[k] = low - 1e-4 <= real <= high  # a hundredth of a point: a gain's interval begins just above zero
    return tuple(held.mean(0).tolist())


def forecasts(curves: Mapping[int, Curve], alone: bool = False) -> Iterator[Forecast]:
    """Foretell every point of a line from those before it.

    Args:
        curves: of one line, by seed.
        alone: each seed by its own points; else by those of all seeds.
    """
    for seed, curve in curves.items():
        seen = {seed: curve} if alone else curves
        for k in range(LEAST_LEVELS, len(curve)):
            n, y, of = (np.concatenate(v) for v in zip(*(_first(c, k, s) for s, c in seen.items()), strict=True))
            fitted = fit(n, y, of, draws=_DRAWS)
            if fitted is None:
                continue
            draws = fitted.observed(float(curve.spent[k]), seed)
            found = tuple(interval(draws, share) for share in _SHARES)
            middle = float(np.median(draws))
            yield Forecast(k, len(seen), float(curve.metric[k]), middle, float(curve.metric[k - 1]), found)


def _first(curve: Curve, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = slice(None, count)
    return curve.spent[points], curve.metric[points], np.full(len(curve.spent[points]), seed)


def drawn_table(curves: int = CURVES) -> list[str]:
    """Return the coverage on drawn curves in markdown."""
    rows = [
        "| true curve | seeds | points seen | next point | next gain | gain of twice the labels |",
        "|---" * 6 + "|",
    ]
    for kind in KINDS:
        for seeds, levels in ((1, 2), (1, 3), (1, 5), (3, 2), (3, 3), (3, 5)):
            found = " | ".join(f"{100 * share:.0f} %" for share in coverage(kind, seeds, levels, curves))
            rows.append(f"| {kind} | {seeds} | {levels} | {found} |")
    return rows


def published_table(paths: Sequence[Path]) -> list[str]:
    """Return forecasts beside what came in markdown, one row for each file and number of points seen."""
    rows = [
        "| experiment | points seen | seeds seen | forecasts | in the 95 % interval | in the 80 % one | its width, "
        "points | error | error of “as the last point” |",
        "|---" * 9 + "|",
    ]
    everything: dict[bool, list[Forecast]] = {False: [], True: []}
    for path in paths:
        points = read_points(path)
        if points.judge.by_last:
            continue  # one training: points before the last are of no finished model
        for alone in (False, True):
            made = [f for line in points.judge.lines for f in forecasts(line.curves, alone)]
            everything[alone] += made
            for levels in sorted({f.levels for f in made}):
                rows.append(_row(path.stem, str(levels), alone, [f for f in made if f.levels == levels]))
    rows += [_row("all", "any", alone, made) for alone, made in everything.items() if made]
    return rows


def _row(name: str, levels: str, alone: bool, made: Sequence[Forecast]) -> str:
    held = " | ".join(
        f"{sum(f.holds(s) for f in made)} ({100 * np.mean([f.holds(s) for f in made]):.0f} %)" for s in _SHARES
    )
    width = 100 * np.mean([high - low for f in made for low, high in f.intervals[-1:]])
    error = 100 * np.mean([abs(f.real - f.median) for f in made])
    naive = 100 * np.mean([abs(f.real - f.before) for f in made])
    seeds = "its own" if alone else "all"
    return f"| {name} | {levels} | {seeds} | {len(made)} | {held} | {width:.1f} | {error:.2f} | {naive:.2f} |"
