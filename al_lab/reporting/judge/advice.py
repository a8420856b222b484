"""Is it worth going on? What the next labels are expected to gain, and how many seeds more would tell lines apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.statistics.learning_curve import FittedCurve, fit, interval
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.judge import Pair, seeds_to_tell

WORTH = 0.01  # a gain worth speaking of: one point of the metric
_LIKELY, _UNLIKELY = 0.8, 0.2
_NAMED = 3  # pairs in a sentence


@dataclass(frozen=True)
class Expected:
    """A mean with the shortest interval that holds 95 %, fractions."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, draws_D: np.ndarray) -> "Expected":
        """Sum up draws."""
        return cls(float(draws_D.mean()), *interval(draws_D))

    @property
    def span(self) -> str:
        """``0.1 to 2.4``, in points."""
        return f"{_percent(self.low)} to {_percent(self.high)}"

    @property
    def text(self) -> str:
        """``1.2 points (95 %: 0.1 to 2.4)``."""
        return f"{_percent(self.mean)} points (95 %: {self.span})"


@dataclass(frozen=True)
class Advice:
    """What a line's learning curve lets expect.

    Attributes:
        fitted: the curve.
        now: labels bought.
        later: labels after the next purchase.
        twice: twice the labels, or the whole pool.
        gain: of the next purchase, by the curve.
        gain_twice: up to ``twice``.
        next_point: what the next evaluation of a seed will show, its luck included.
        chance: that the next purchase gains `WORTH` or more.
    """

    fitted: FittedCurve
    now: float
    later: float
    twice: float
    gain: Expected
    gain_twice: Expected
    next_point: Expected
    chance: float

    @property
    def word(self) -> str:
        """Whether a point or more is to be expected."""
        return "likely" if self.chance >= _LIKELY else "unlikely" if self.chance <= _UNLIKELY else "open"

    def sentence(self, name: str, unit: str) -> str:
        """Return the advice for people.

        Args:
            name: of the line.
            unit: what was counted, ``images``.
        """
        ends = self.later >= self.twice
        most = "" if ends else f", twice the labels {self.gain_twice.text}"
        return (
            f"Is it worth going on with {name}? The next {self.later - self.now:,.0f} {unit} are expected to gain "
            f"{self.gain.text}{most}: a point or more from the next purchase is {self.word} "
            f"({100 * self.chance:.0f} %)."
        )


def advice_of(curves: Mapping[int, Curve], most: float = math.inf, seed: int | None = None) -> Advice | None:
    """Forecast a line from the points of its seeds.

    Args:
        curves: seed -> learning curve, a fraction against labels bought.
        most: labels there are (the pool's).
        seed: whose next evaluation is foretold; None: a new seed's.

    Returns:
        None where there are fewer than two points of a curve, nothing is left to buy, or the metric is no fraction.
    """
    some = [c for c in curves.values() if len(c) > 1] if seed is None else [c for c in [curves[seed]] if len(c) > 1]
    n, y, of = (np.concatenate(v) for v in zip(*_points(curves), strict=True)) if curves else (np.zeros(0),) * 3
    if not some or not ((y >= 0) & (y <= 1)).all():
        return None
    now = float(np.median([c.spent[-1] for c in some]))
    later = min(now + float(np.median([c.spent[-1] - c.spent[-2] for c in some])), most)
    fitted = fit(n, y, of.astype(int)) if later > now else None
    if fitted is None:
        return None
    twice = max(min(2 * now, most), later)
    gain = fitted.gain(now, later)
    return Advice(
        fitted,
        now,
        later,
        twice,
        Expected.of(gain),
        Expected.of(fitted.gain(now, twice)),
        Expected.of(fitted.observed(later, seed)),
        float((gain >= WORTH).mean()),
    )


def _points(curves: Mapping[int, Curve]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [(c.spent, c.metric, np.full(len(c), seed)) for seed, c in curves.items()]


def undecided(pairs: Sequence[Pair]) -> list[tuple[Pair, int | None]]:
    """Return the pairs that these seeds can't tell apart, with how many seeds more would; None: not a hundred.

    Args:
        pairs: one family.
    """
    family = max(1, sum(math.isfinite(p.contrast.p) for p in pairs))
    open_ = [p for p in pairs if math.isfinite(p.contrast.p) and not p.contrast.is_clear]
    needed = [(p, seeds_to_tell(p.contrast, family)) for p in open_]
    return [(p, None if n is None else max(1, n - len(p.contrast.seeds))) for p, n in needed]


def undecided_sentence(pairs: Sequence[Pair]) -> str:
    """Say what can't be told apart and how many seeds more would, the cheapest answers first; "" if all is clear."""
    found = sorted(undecided(pairs), key=lambda item: math.inf if item[1] is None else item[1])
    if not found:
        return ""
    said = "; ".join(f"{p.ours} from {p.theirs} ({_difference(p)}): {_more(n)}" for p, n in found[:_NAMED])
    rest = f"; and {len(found) - _NAMED} more pairs" if len(found) > _NAMED else ""
    return (
        f"With what you have seen you can't tell apart {said}{rest}. Seeds are counted as if the difference seen were "
        "the true one, to be called clear eight times in ten."
    )


def _difference(pair: Pair) -> str:
    return f"{100 * pair.contrast.difference:+.1f} ± {100 * pair.contrast.half:.1f} points".replace("-", "−")


def _more(seeds: int | None) -> str:
    return "not even a hundred seeds would" if seeds is None else f"{seeds} more seed{'s' if seeds > 1 else ''} would"


def _percent(value: float) -> str:
    text = f"{100 * value:.1f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")
