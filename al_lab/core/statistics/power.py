"""How small a true difference some seeds can tell: the power of the tests in `verdict`."""

import numpy as np
from scipy.special import nctdtr, nctdtrinc, stdtrit

from al_lab.core.statistics.verdict import ALPHA

POWER = 0.8  # chance with which a "visible" difference is called clear
MOST_SEEDS = 100  # beyond them nobody asks
_FAR = 8.0  # beyond its bound by so much, t passes for certain (and scipy gives up farther out)


def chance_to_see(difference: float, deviation: float, seeds: int, freedom: float, family: int = 1) -> float:
    """Return the chance that a true difference is called clear.

    Args:
        difference: the true one.
        deviation: standard deviation of one seed's difference.
        seeds: common seeds.
        freedom: degrees of freedom of the error.
        family: contrasts judged together; the smallest p has to pass ALPHA / family.
    """
    if seeds < 2 or freedom < 1 or not deviation > 0:  # noqa: PLR2004
        return float("nan")
    bound = stdtrit(freedom, 1 - ALPHA / (2 * family))
    away = abs(difference) * np.sqrt(seeds) / deviation
    if away > bound + _FAR:
        return 1.0
    return float(1 - nctdtr(freedom, away, bound) + nctdtr(freedom, away, -bound))


def smallest_visible(deviation: float, seeds: int, freedom: float, family: int = 1, power: float = POWER) -> float:
    """Return the true difference that is called clear with a chance of ``power``; NaN where no verdict is possible."""
    if seeds < 2 or freedom < 1 or not deviation > 0:  # noqa: PLR2004
        return float("nan")
    bound = stdtrit(freedom, 1 - ALPHA / (2 * family))
    return float(nctdtrinc(freedom, 1 - power, bound) * deviation / np.sqrt(seeds))


def seeds_to_see(
    difference: float, deviation: float, freedom: float, family: int = 1, power: float = POWER, most: int = MOST_SEEDS
) -> int | None:
    """Return with how few seeds a true difference is called clear with a chance of ``power``; None: not with ``most``.

    Args:
        difference: the true one.
        deviation: standard deviation of one seed's difference.
        freedom: degrees of freedom of the error for each seed beyond the first.
        family: contrasts judged together.
        power: chance asked for.
        most: where to stop.
    """
    counts = range(2, most + 1)
    return next(
        (n for n in counts if chance_to_see(difference, deviation, n, freedom * (n - 1), family) >= power), None
    )
