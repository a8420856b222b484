"""How much a line varies from seed to seed, told by all lines of a page: two or three seeds of one pair tell little.

The lines measured against one reference are a randomized block design: a line plus a seed, and an error. The errors of
the lines are pooled, that of the reference is not: it is in every difference, so nothing else can make up for it. Where
it is larger than the others (or another line's is), that is what counts; no test decides beforehand. How often this is
wrong, and what it sees: docs/statistics.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from al_lab.core.statistics.verdict import Spread, Values

_FEWEST_LINES = 3  # beside the reference; two differ by one number a seed, which tells nothing of either


@dataclass(frozen=True)
class Block:
    """A reference and the lines measured against it.

    Attributes:
        line_variances: of each line's own error: pooled, or its own where that is larger.
        line_freedoms: their degrees of freedom.
        pooled: variance of the lines' errors, all together.
        freedom: degrees of freedom of ``pooled``.
        reference_variance: of the reference against what all lines have in common; it contains ``shared`` of a line's.
        reference_freedom: degrees of freedom of that.
        shared: see above, a fraction.
    """

    line_variances: tuple[float, ...]
    line_freedoms: tuple[int, ...]
    pooled: float
    freedom: int
    reference_variance: float
    reference_freedom: int
    shared: float

    def planned(self, line: int) -> Spread:
        """Return the spread of a line's difference from the reference.

        Degrees of freedom are Satterthwaite's (1946), but never more than if the reference varied as the lines do:
        where its few seeds lie close together by chance, that is no knowledge.
        """
        ours = self.line_variances[line] - self.shared * self.pooled
        freedom = _satterthwaite(self.reference_variance, self.reference_freedom, ours, self.freedom)
        usual = usual_freedom(len(self.line_variances), self.reference_freedom, self.shared, self.freedom)
        return Spread(float(np.sqrt(self.reference_variance + ours)), min(freedom, usual))

    def explored(self, line: int, other: int) -> Spread:
        """Return the spread of the difference of two lines."""
        (ours, known), (theirs, also) = ((self.line_variances[k], self.line_freedoms[k]) for k in (line, other))
        return Spread(float(np.sqrt(ours + theirs)), _satterthwaite(ours, known, theirs, also))


def block_of(lines: Sequence[Values]) -> Block | None:
    """Estimate the errors of a block.

    Args:
        lines: for each line, seed -> its value minus the reference's.

    Returns:
        None if there are fewer than three lines of two seeds, or lines without common seeds, which tell no more than
        the seeds of one pair.
    """
    if sum(len(line) > 1 for line in lines) < _FEWEST_LINES:
        return None
    seeds = sorted({seed for line in lines for seed in line})
    fit = _fit(tuple((k, seeds.index(seed)) for k, line in enumerate(lines) for seed in sorted(line)))
    if fit is None:
        return None
    values = np.asarray([line[seed] for line in lines for seed in sorted(line)], float)
    values = values - values.mean()
    squares = (fit.residual_maker @ values) ** 2
    pooled = float(squares.sum() / fit.freedom)
    if pooled <= 0:
        return None
    own = np.bincount(fit.line, squares) / np.maximum(np.bincount(fit.line, fit.residual_maker.diagonal()), 1e-9)
    # What a seed does to all differences is the reference's own error, and the lines' share in the estimate.
    effect = fit.seed_maker @ values
    variance = float(effect.var(ddof=1))
    return Block(
        tuple(float(max(v, pooled)) for v in own),
        tuple(fit.freedom if v <= pooled else len(line) - 1 for v, line in zip(own, lines, strict=True)),
        pooled, fit.freedom, variance, len(seeds) - 1, fit.shared,
    )  # fmt: skip


def usual_freedom(lines: int, reference_freedom: int, shared: float | None = None, freedom: int | None = None) -> float:
    """Return the degrees of freedom of a planned difference if the reference varies as the lines do.

    Args:
        lines: beside the reference.
        reference_freedom: common seeds minus one.
        shared: see `Block`; None: every line has every seed.
        freedom: of the lines' pooled error; None likewise.
    """
    share = 1 / lines if shared is None else shared
    pooled = (lines - 1) * reference_freedom if freedom is None else freedom
    return _satterthwaite(1 + share, reference_freedom, 1 - share, pooled)


def _satterthwaite(first: float, first_freedom: int, second: float, second_freedom: int) -> float:
    """Return the degrees of freedom of the sum of two variances."""
    return (first + second) ** 2 / (first**2 / first_freedom + second**2 / second_freedom)


@dataclass(frozen=True)
class _Fit:
    """The linear model of line + seed for given cells.

    Attributes:
        line: (N,) each cell's.
        residual_maker: (N, N) leaves the residuals.
        seed_maker: (S, N) makes the effects of seeds, up to a constant.
        freedom: degrees of freedom of the residuals.
        shared: variance of an effect of a seed over seeds, in variances of one cell.
    """

    line: np.ndarray
    residual_maker: np.ndarray
    seed_maker: np.ndarray
    freedom: int
    shared: float


@lru_cache(maxsize=64)
def _fit(cells: tuple[tuple[int, int], ...]) -> _Fit | None:
    lines, seeds = (1 + max(c[k] for c in cells) for k in (0, 1))
    design = np.zeros((len(cells), lines + seeds))
    for row, (line, seed) in enumerate(cells):
        design[row, line] = design[row, lines + seed] = 1
    rank = int(np.linalg.matrix_rank(design))
    if rank < lines + seeds - 1 or rank == len(cells) or seeds < 2:  # noqa: PLR2004 - parts that no seed links, or no error
        return None
    inverse = np.linalg.pinv(design)
    seed_maker = inverse[lines:] - inverse[lines:].mean(0)
    return _Fit(
        np.asarray([c[0] for c in cells]), np.eye(len(cells)) - design @ inverse, seed_maker, len(cells) - rank,
        float((seed_maker**2).sum() / (seeds - 1)),
    )  # fmt: skip
