"""What may be said of a difference over seeds: Student's t and Holm's correction.

Every "clearly better" of a page, a log or a text comes from here. The numbers behind it: docs/statistics.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

ALPHA = 0.05  # false alarms of a whole family of contrasts

# One line: seed -> its value, in any unit.
Values = Mapping[int, float]


@dataclass(frozen=True)
class Contrast:
    """The difference of two lines over the seeds both have.

    Attributes:
        seeds: the common seeds.
        difference: its mean.
        standard_error: of that mean; NaN for one seed.
        freedom: degrees of freedom of the error.
        p: two-sided, of this contrast alone.
        p_holm: corrected for the family it belongs to.
        half: half the width of the interval that leaves out zero exactly if the difference is clear.
        is_pooled: whether the error was pooled over lines.
    """

    seeds: tuple[int, ...]
    difference: float
    standard_error: float = float("nan")
    freedom: float = 0
    p: float = float("nan")
    p_holm: float = float("nan")
    half: float = float("nan")
    is_pooled: bool = False

    @property
    def is_clear(self) -> bool:
        """Whether chance alone would hardly do this."""
        return self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """The plain word for it."""
        if not self.seeds:
            return "no common seed"
        if self.freedom < 1:
            return "one seed: no verdict"
        if not np.isfinite(self.p_holm):
            return "seeds don't differ: no verdict"
        return plain(self.difference, self.p_holm)


@dataclass(frozen=True)
class Spread:
    """How much the difference of two lines varies from seed to seed.

    Attributes:
        deviation: standard deviation of one seed's difference.
        freedom: degrees of freedom of this estimate.
        is_pooled: whether other lines helped to estimate it.
    """

    deviation: float
    freedom: float
    is_pooled: bool = True


def plain(difference: float, p: float) -> str:
    """Return the word for a difference whose (corrected) p is known."""
    if p >= ALPHA:
        return "no clear difference"
    return "clearly better" if difference > 0 else "clearly worse"


def two_sided(difference: float, standard_error: float, freedom: float) -> float:
    """Return Student's two-sided p; NaN without an error, as an error of zero is none to believe in."""
    if not (freedom >= 1 and standard_error > 0):
        return float("nan")
    return float(2 * stdtr(freedom, -abs(difference) / standard_error))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm, 1979); NaN stays NaN and does not count."""
    values = np.asarray(p, float)
    order = [k for k in np.argsort(values, kind="stable") if np.isfinite(values[k])]
    corrected, largest = np.full(len(values), np.nan), 0.0
    for place, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * values[k]))
        corrected[k] = largest
    return [float(v) for v in corrected]


def contrasts(differences: Sequence[Values], spreads: Sequence[Spread | None] = ()) -> list[Contrast]:
    """Judge a family of differences together.

    Args:
        differences: for each contrast, seed -> ours minus theirs.
        spreads: the pooled spread for each contrast; None, or none given: the contrast's own seeds.
    """
    raw = [_raw(d, s) for d, s in zip(differences, spreads or [None] * len(differences), strict=True)]
    corrected = holm([c.p for c in raw])
    half = _half_widths(raw, corrected)
    return [
        Contrast(c.seeds, c.difference, c.standard_error, c.freedom, c.p, p, h, c.is_pooled)
        for c, p, h in zip(raw, corrected, half, strict=True)
    ]


def _raw(differences: Values, spread: Spread | None) -> Contrast:
    seeds, values = tuple(sorted(differences)), np.asarray([differences[s] for s in sorted(differences)], float)
    if len(values) == 0:
        return Contrast((), float("nan"))
    mean = float(values.mean())
    if len(values) < 2:  # noqa: PLR2004 - whatever other lines do, one seed of this one is an anecdote
        return Contrast(seeds, mean)
    own = Spread(float(values.std(ddof=1)), len(values) - 1, is_pooled=False) if spread is None else spread
    deviation = 0.0 if own.deviation < 1e-12 * max(1.0, float(np.abs(values).max())) else own.deviation
    error = deviation / np.sqrt(len(values))
    p = two_sided(mean, error, own.freedom)
    return Contrast(seeds, mean, float(error), own.freedom, p, is_pooled=own.is_pooled)


def _half_widths(raw: Sequence[Contrast], corrected: Sequence[float]) -> list[float]:
    """Return half widths at the level of each contrast's step in Holm's procedure.

    After the step that stops it, at that one's.
    """
    order = sorted((k for k, c in enumerate(raw) if np.isfinite(c.p)), key=lambda k: raw[k].p)
    half, steps, has_stopped = [float("nan")] * len(raw), len(order), False
    for place, k in enumerate(order):
        steps = steps if has_stopped else len(order) - place
        has_stopped = has_stopped or corrected[k] >= ALPHA
        half[k] = float(stdtrit(raw[k].freedom, 1 - ALPHA / (2 * steps)) * raw[k].standard_error)
    return half
