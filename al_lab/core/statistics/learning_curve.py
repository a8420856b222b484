"""A learning curve with its uncertainty: what the next labels are expected to gain, from very few points.

Legend: N points, S seeds, G shapes on the grid, D draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr, ndtri

DRAWS = 4000
LEAST_LEVELS = 2  # different numbers of labels; the bend of a curve through two of them is the prior's
# Shapes: exponent c (0 is the logarithm) and offset d, in units of the most labels seen (0 is the plain power law).
# With a large d the largest exponents are nearly exponential: curves that level off.
_EXPONENTS: Final = np.asarray([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0])
_OFFSETS: Final = np.asarray([0.0, 0.03, 0.1, 0.3, 1.0])
_HEIGHT = 0.3  # prior standard deviation of the first point's height and of the gain seen, fractions
_NOISE = 0.015  # prior guess of one evaluation's standard deviation: a point and a half …
_NOISE_FREEDOM = 3.0  # … worth as many observations
_LIKE_NOISE = 1.0  # variance between seeds against that of one evaluation


@dataclass(frozen=True)
class FittedCurve:
    """Draws of what the learning curve may be.

        f(n) = a - b (n + d)^-c,   b >= 0;   y = f(n) + u_seed + e,   u ~ N(0, σ²),   e ~ N(0, σ²)

    A power law with four parameters: an end, a rise, an exponent, and an offset in labels (forms of learning curves:
    Viering and Loog, "The shape of learning curves: a review", arXiv:2103.10948). Few points can't choose c and d: both
    are averaged over a grid, each shape weighted by how well it explains the points. Given the shape the rest is a
    linear model with conjugate priors, so all of it is in closed form but the last step, which draws.

    | symbol | name | default | where |
    |---|---|---|---|
    | c | _EXPONENTS | 0 … 8 | UNSPECIFIED |
    | d | _OFFSETS | 0 … 1 of the most labels seen | UNSPECIFIED |
    | σ | _NOISE | 0.015, worth three observations | UNSPECIFIED: the seeds of docs/results |

    How often its intervals hold what comes: docs/results/advisor.md.

    Attributes:
        first: fewest labels seen.
        last: most labels seen.
        exponent: (D,) c.
        offset: (D,) d, labels.
        start: (D,) f(first).
        rise: (D,) f(last) - f(first), >= 0.
        noise: (D,) σ.
        seeds: seed -> (D,) u.
    """

    first: float
    last: float
    exponent: np.ndarray
    offset: np.ndarray
    start: np.ndarray
    rise: np.ndarray
    noise: np.ndarray
    seeds: dict[int, np.ndarray]

    def height(self, spent: float) -> np.ndarray:
        """Return (D,) f(spent)."""
        return (
            self.start + self.rise * _shape(np.asarray([spent]), self.exponent, self.offset, self.first, self.last)[0]
        )

    def gain(self, now: float, later: float) -> np.ndarray:
        """Return (D,) f(later) - f(now): what the labels between are worth, without the luck of single trainings."""
        return self.height(later) - self.height(now)

    def observed(self, spent: float, seed: int | None = None, draw: int = 0) -> np.ndarray:
        """Return (D,) what an evaluation at ``spent`` may show.

        Args:
            spent: labels.
            seed: of a run that was seen; None: a new one.
            draw: another number draws the evaluation's luck anew.
        """
        rng = np.random.default_rng([7, draw])
        own, luck = rng.normal(size=(2, len(self.noise)))
        return self.height(spent) + self.seeds.get(seed, own * self.noise) + luck * self.noise  # type: ignore[arg-type]


def interval(draws_D: np.ndarray, share: float = 0.95) -> tuple[float, float]:
    """Return the shortest interval that holds this share of the draws: it may begin at a bound, as a gain's at zero."""
    values = np.sort(draws_D)
    count = max(1, int(np.ceil(share * len(values))))
    at = int(np.argmin(values[count - 1 :] - values[: len(values) - count + 1]))
    return float(values[at]), float(values[at + count - 1])


def fit(spent: ArrayLike, metric: ArrayLike, seeds: ArrayLike, draws: int = DRAWS) -> FittedCurve | None:
    """Fit a learning curve to the points of one line; a function of its arguments alone.

    Args:
        spent: (N,) labels bought, positive.
        metric: (N,) what was reached, fractions.
        seeds: (N,) of which run each point is.
        draws: of the answer.

    Returns:
        None if all points have the same number of labels.
    """
    n, y, of = np.asarray(spent, float), np.asarray(metric, float), np.asarray(seeds, int)
    good = np.isfinite(n) & np.isfinite(y) & (n > 0)
    n, y, of = n[good], y[good], of[good]
    if len(np.unique(n)) < LEAST_LEVELS:
        return None
    first, last = float(n.min()), float(n.max())
    exponent_G, offset_G = (a.ravel() for a in np.meshgrid(_EXPONENTS, _OFFSETS * last, indexing="ij"))
    names = list(dict.fromkeys(of.tolist()))
    shape_NG = _shape(n, exponent_G, offset_G, first, last)
    dummies = (of[:, None] == np.asarray(names)[None]).astype(float)
    level = float(y.mean())
    found = [_linear(np.column_stack([np.ones(len(n)), h, dummies]), y - level) for h in shape_NG.T]
    log_evidence = np.asarray([m.log_evidence for m in found])
    rng = np.random.default_rng(len(n))
    weight_G = np.exp(log_evidence - log_evidence.max())
    which = rng.choice(len(found), size=4 * draws, p=weight_G / weight_G.sum())
    # σ², then whether the curve rises at all: b >= 0 cuts the normal distribution of the rise.
    freedom = found[0].freedom
    variance = np.asarray([m.scale for m in found])[which] * freedom / rng.chisquare(freedom, len(which))
    mean = np.asarray([m.mean[1] for m in found])[which]
    deviation = np.sqrt(variance * np.asarray([m.covariance[1, 1] for m in found])[which])
    rising = log_ndtr(mean / deviation)
    weight = np.exp(rising - rising.max())
    kept = rng.choice(len(which), size=draws, p=weight / weight.sum())
    which, variance, mean, deviation = which[kept], variance[kept], mean[kept], deviation[kept]
    below = ndtr(-mean / deviation)
    rise = np.maximum(
        mean + deviation * ndtri(np.clip(below + rng.uniform(size=draws) * (1 - below), 1e-12, 1 - 1e-12)), 0
    )
    rest = _given_rise(found, which, variance, rise, rng)
    own = {int(s): rest[:, 1 + k] for k, s in enumerate(names)}
    return FittedCurve(
        first, last, exponent_G[which], offset_G[which], level + rest[:, 0], rise, np.sqrt(variance), own
    )


def _shape(n_N: np.ndarray, c_G: np.ndarray, d_G: np.ndarray, first: float, last: float) -> np.ndarray:
    """Return (N, G) a rising curve of each shape, 0 at ``first`` and 1 at ``last``, so that its rise has a unit."""

    def power(n: np.ndarray) -> np.ndarray:
        x = np.log((n + d_G) / (first + d_G))
        return np.where(c_G > 0, -np.expm1(-c_G * x) / np.where(c_G > 0, c_G, 1.0), x)  # → log as c → 0

    return power(n_N[:, None]) / power(np.asarray([[last]]))


@dataclass(frozen=True)
class _Linear:
    """Posterior of a linear model: coefficients ~ N(mean, σ² covariance), σ² ~ scale · freedom / χ²(freedom)."""

    mean: np.ndarray
    covariance: np.ndarray
    scale: float
    freedom: float
    log_evidence: float


def _linear(design: np.ndarray, y: np.ndarray) -> _Linear:
    """Return the conjugate posterior; of the evidence only what differs between shapes."""
    wide = (_HEIGHT / _NOISE) ** 2
    prior = np.diag([1 / wide, 1 / wide, *([1 / _LIKE_NOISE] * (design.shape[1] - 2))])
    precision = prior + design.T @ design
    covariance = np.linalg.inv(precision)
    mean = covariance @ (design.T @ y)
    freedom = _NOISE_FREEDOM + len(y)
    squares = _NOISE_FREEDOM * _NOISE**2 + float(y @ y - mean @ precision @ mean)
    log_evidence = -0.5 * float(np.linalg.slogdet(precision)[1]) - 0.5 * freedom * float(np.log(squares))
    return _Linear(mean, covariance, squares / freedom, freedom, log_evidence)


def _given_rise(
    found: Sequence[_Linear], which: np.ndarray, variance: np.ndarray, rise: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw the other coefficients, (D, 1 + S), each from its normal distribution given the rise."""
    keep = [0, *range(2, len(found[0].mean))]
    out = np.empty((len(which), len(keep)))
    normal = rng.normal(size=out.shape)
    for k in np.unique(which):
        m, rows = found[k], which == k
        slope = m.covariance[keep, 1] / m.covariance[1, 1]
        left = m.covariance[np.ix_(keep, keep)] - np.outer(slope, m.covariance[1, keep])
        root = np.linalg.cholesky(left + 1e-12 * np.eye(len(keep)))
        out[rows] = m.mean[keep] + np.outer(rise[rows] - m.mean[1], slope)
        out[rows] += np.sqrt(variance[rows])[:, None] * (normal[rows] @ root.T)
    return out
