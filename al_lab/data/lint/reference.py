"""Random selections of the same size: what a number means without a training.

Shapes: N images of the pool, k of a selection, R random selections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

DRAWS = 200
_MIDDLE = (5.0, 95.0)  # percent


@dataclass(frozen=True)
class Measure:
    """One number of a selection beside the same of random ones.

    Attributes:
        key: of it, in files.
        words: what it is.
        value: of the selection.
        random_R: of random selections.
        better: which direction is closer to what is compared with; None: neither.
        unit: behind the number.
    """

    key: str
    words: str
    value: float
    random_R: np.ndarray
    better: Literal["low", "high"] | None = None
    unit: str = ""

    @property
    def mean(self) -> float:
        """Of the random selections."""
        return float(np.mean(self.random_R))

    @property
    def middle(self) -> tuple[float, float]:
        """Between which nine of ten random selections lie."""
        low, high = np.percentile(self.random_R, _MIDDLE)
        return float(low), float(high)

    @property
    def percentile(self) -> float:
        """Share of the random selections (in percent) that are smaller, ties by half.

        Where less is better, those that are larger: 97 means better than 97 of 100 random selections.
        """
        below = float((self.random_R < self.value).mean() + 0.5 * (self.random_R == self.value).mean())
        return 100 * (1 - below if self.better == "low" else below)

    @property
    def is_unusual(self) -> bool:
        """Whether the selection lies outside of nine of ten random ones."""
        low, high = self.middle
        return not low <= self.value <= high


def random_sets(num: int, size: int, seed: int, sample: np.ndarray | None = None, draws: int = DRAWS) -> csr_array:
    """Return R random selections as rows of a sparse (R, N) table of how often each image is drawn.

    Args:
        num: N.
        size: k.
        seed: of the draws.
        sample: rows that stand for the whole pool, drawn with replacement; None: each of the N at most once.
        draws: R.
    """
    rng = np.random.default_rng(seed)
    among = np.arange(num) if sample is None else sample
    picked = [among[rng.choice(len(among), size, replace=sample is not None, shuffle=False)] for _ in range(draws)]
    where = (np.repeat(np.arange(draws), size), np.concatenate(picked))
    found = csr_array((np.ones(draws * size), where), shape=(draws, num))
    found.sum_duplicates()
    return found


def one_set(num: int, rows: np.ndarray) -> csr_array:
    """Return the selection as such a row, (1, N)."""
    return csr_array((np.ones(len(rows)), (np.zeros(len(rows), np.int64), rows)), shape=(1, num))
