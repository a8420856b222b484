"""Which place a line has among others, and how sure that is: a bootstrap over seeds and over test images.

Legend: L lines, S seeds, B draws of the test images, D draws of the bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

DRAWS = 4000
_SHARE = (2.5, 97.5)  # percentiles of an interval


@dataclass(frozen=True)
class Rank:
    """A line's place.

    Attributes:
        place: by its mean over seeds; 1 is the best, lines that are level share a mean place.
        low: with `high` the places that 95 % of the draws lie in.
        high: see there.
        best: share of draws in which no line is above it.
    """

    place: float
    low: float
    high: float
    best: float


@dataclass(frozen=True)
class Ranks:
    """Places of all lines, and in every draw.

    Attributes:
        of_line: one a line.
        drawn_LD: places in each draw.
    """

    of_line: tuple[Rank, ...]
    drawn_LD: np.ndarray


def ranks(values_LS: np.ndarray, drawn_LSB: np.ndarray | None = None, draws: int = DRAWS) -> Ranks:
    """Rank lines by their means over seeds; larger values are better.

    Seeds are drawn together for all lines, as they share their initial images. With few of them a bootstrap varies too
    little: by the factor sqrt((S - 1) / S), and as a normal distribution where Student's t is due (Hesterberg, "What
    teachers should know about the bootstrap", 2015, arXiv:1411.5279). Deviations over seeds are widened by both, so
    that places are no surer than verdicts.

    Args:
        values_LS: what each line reached with each seed; two seeds or more.
        drawn_LSB: the same on test images drawn again, the b-th draw the same images for every line; None: test images
            are not drawn.
        draws: of the bootstrap; the answer is a function of all arguments.
    """
    lines, seeds = values_LS.shape
    rng = np.random.default_rng([lines, seeds])
    picked_DS = rng.integers(seeds, size=(draws, seeds))
    mean_L = values_LS.mean(1)
    wider = np.sqrt(seeds / (seeds - 1)) * stdtrit(seeds - 1, _SHARE[1] / 100) / ndtri(_SHARE[1] / 100)
    widened_LD = wider * (values_LS[:, picked_DS].mean(-1) - mean_L[:, None])
    value_LD = mean_L[:, None] + widened_LD
    if drawn_LSB is not None:
        image_D = rng.integers(drawn_LSB.shape[2], size=draws)
        value_LD += (drawn_LSB - values_LS[:, :, None])[:, picked_DS, image_D[:, None]].mean(-1)
    drawn_LD = rankdata(-value_LD, axis=0)
    low_L, high_L = np.percentile(drawn_LD, _SHARE, axis=1, method="nearest")
    best_L = (value_LD >= value_LD.max(0)).mean(1)
    place_L = rankdata(-mean_L)
    found = zip(place_L, low_L, high_L, best_L, strict=True)
    return Ranks(tuple(Rank(*map(float, row)) for row in found), drawn_LD)


def share_beaten(of_contests: Sequence[np.ndarray], lines: Sequence[int]) -> tuple[float, float, float]:
    """Return which share of its rivals a line beats on average over data sets, with its 95 % interval.

    Args:
        of_contests: for each data set, the line's places in the draws, (D,).
        lines: for each data set, how many lines compete.
    """
    beaten = [(count - place) / (count - 1) for place, count in zip(of_contests, lines, strict=True)]
    mean_D = np.mean(
        [values[np.random.default_rng(k).permutation(len(values))] for k, values in enumerate(beaten)], axis=0
    )
    low, high = np.percentile(mean_D, _SHARE)
    return float(mean_D.mean()), float(low), float(high)
