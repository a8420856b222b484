"""By what the lines of a page are compared (their curves, or their last points).

It also tells what may be said of each difference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from al_lab.core.statistics.power import POWER, chance_to_see, seeds_to_see, smallest_visible
from al_lab.core.statistics.spread import Block, block_of
from al_lab.core.statistics.verdict import Contrast, Spread, Values, contrasts
from al_lab.reporting.judge.curves import Curve, paired_areas, paired_last
from al_lab.reporting.judge.protocol import Series, reference

# Share of Satterthwaite's degrees of freedom that counts for what could be seen: they are estimates themselves. With it
# the difference that is said is the one that simulated pages need.
_HELP = 0.75


@dataclass(frozen=True)
class Line:
    """What a verdict needs to know of a line.

    Attributes:
        curves: seed -> learning curve; where last points decide, of finished runs only.
        references: the lines it is measured against on purpose: the random line, and that trained alike if it is
            another.
    """

    label: str
    curves: Mapping[int, Curve]
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two lines and their difference, first minus second, in the metric's own unit (a fraction)."""

    ours: str
    theirs: str
    contrast: Contrast
    values: Values = field(default_factory=dict)  # seed -> difference


@dataclass(frozen=True)
class Judge:
    """All verdicts of a page.

    A campaign that trains anew in every cycle is judged by its whole curve. Where all cycles are one training only the
    last model is a finished one: points before are of models a few steps after a purchase, and papers on such campaigns
    report the last.

    Differences from random were planned before anybody looked, so they are one family (Holm). All other pairs are
    explored: another family, and a larger one.

    Attributes:
        by_last: last points decide; else areas under the curve.
    """

    lines: tuple[Line, ...]
    by_last: bool = False

    @property
    def name(self) -> str:
        """What is compared, in a sentence."""
        return "last point" if self.by_last else "area under the curve"

    @property
    def short(self) -> str:
        """The same in the head of a table."""
        return "last point" if self.by_last else "area"

    @property
    def note(self) -> str:
        """How differences are taken."""
        if self.by_last:
            return (
                "Differences are of last points, since each run is one training and only its last model is a "
                "finished one; paired by seed."
            )
        return "Differences are of areas, paired by seed, over the range both cover."

    @cached_property
    def planned(self) -> tuple[Pair, ...]:
        """Every line against its references."""
        wanted = [(line.label, other) for line in self.lines for other in line.references]
        return self._judged(wanted)

    @cached_property
    def explored(self) -> tuple[Pair, ...]:
        """All pairs that were not planned."""
        planned = {frozenset((p.ours, p.theirs)) for p in self.planned}
        labels = [line.label for line in self.lines]
        wanted = [(a, b) for k, a in enumerate(labels) for b in labels[k + 1 :] if frozenset((a, b)) not in planned]
        return self._judged(wanted)

    def against(self, ours: str, theirs: str | None) -> Contrast:
        """Return a planned contrast; an empty one where there is none."""
        found = (p.contrast for p in self.planned if (p.ours, p.theirs) == (ours, theirs))
        return next(found, Contrast((), math.nan))

    def difference(self, ours: str, theirs: str) -> Values:
        """Return seed -> difference."""
        curves = {line.label: line.curves for line in self.lines}
        if ours not in curves or theirs not in curves:
            return {}
        return (paired_last if self.by_last else paired_areas)(curves[ours], curves[theirs])

    def _judged(self, wanted: Sequence[tuple[str, str]]) -> tuple[Pair, ...]:
        values = [self.difference(a, b) for a, b in wanted]
        judged = contrasts(values, [self.spread_of(a, b) for a, b in wanted])
        return tuple(Pair(a, b, c, v) for (a, b), c, v in zip(wanted, judged, values, strict=True))

    def spread_of(self, ours: str, theirs: str) -> Spread | None:
        """Return the spread that the block of both lines tells; None: their own seeds."""
        for random, block in self._blocks.items():
            names = self._block(random)
            if block is None or not {ours, theirs} <= {random, *names}:
                continue
            if random in (ours, theirs):
                return block.planned(names.index(theirs if ours == random else ours))
            return block.explored(names.index(ours), names.index(theirs))
        return None

    def _block(self, random: str) -> list[str]:
        return [line.label for line in self.lines if random in line.references]

    @cached_property
    def _blocks(self) -> dict[str, Block | None]:
        """Reference -> errors of it and the lines measured against it."""
        references = dict.fromkeys(r for line in self.lines for r in line.references)
        return {r: block_of([self.difference(a, r) for a in self._block(r)]) for r in references}

    @cached_property
    def error_note(self) -> str:
        """Where the error of the planned contrasts comes from."""
        pooled = {r: block for r, block in self._blocks.items() if block is not None}
        if not pooled:
            return "Each difference is judged by its own seeds."
        random, block = next(iter(pooled.items()))
        count = sum(len(self.difference(a, random)) > 1 for a in self._block(random))
        own = max(block.reference_variance - block.shared * block.pooled, 0)
        return (
            f"The error of a difference is that of {random} itself, from its {block.reference_freedom + 1} seeds, and "
            f"that of the lines, {count} of them together (a line that varies more counts by itself). Here {random} "
            f"varies {math.sqrt(own / block.pooled):.1f} times as much as they do."
        )

    @cached_property
    def resolution(self) -> "Resolution | None":
        """What could be seen here; None with one seed, or nothing to compare."""
        judged = [p for p in self.planned if np.isfinite(p.contrast.standard_error) and p.contrast.standard_error > 0]
        if not judged:
            return None
        squares = [p.contrast.standard_error**2 * len(p.contrast.seeds) for p in judged]
        seeds = min(len(p.contrast.seeds) for p in judged)
        freedoms = [_freedom_of_a_seed(p.contrast) for p in judged]
        return Resolution(math.sqrt(float(np.mean(squares))), seeds, len(judged), float(np.mean(freedoms)))


@dataclass(frozen=True)
class Resolution:
    """How small a difference from random a page could tell.

    Attributes:
        deviation: standard deviation of one seed's difference.
        seeds: the fewest that a contrast has.
        family: planned contrasts.
        freedom: degrees of freedom of the error for each seed beyond the first: one, or more where other lines help.
    """

    deviation: float
    seeds: int
    family: int
    freedom: float = 1.0

    def visible(self, seeds: int | None = None) -> float:
        """Return the difference that is called clear eight times in ten."""
        n = seeds or self.seeds
        return smallest_visible(self.deviation, n, self.freedom * (n - 1), self.family, POWER)

    def chance(self, difference: float, seeds: int | None = None) -> float:
        """Return the chance that this difference is called clear."""
        n = seeds or self.seeds
        return chance_to_see(difference, self.deviation, n, self.freedom * (n - 1), self.family)


def seeds_to_tell(contrast: Contrast, family: int) -> int | None:
    """Return with how many seeds a difference, were it the true one, would be called clear eight times in ten.

    None: not with a hundred, or where nothing is known of its error.
    """
    if not contrast.standard_error > 0:
        return None
    deviation = contrast.standard_error * math.sqrt(len(contrast.seeds))
    return seeds_to_see(contrast.difference, deviation, _freedom_of_a_seed(contrast), family)


def _freedom_of_a_seed(contrast: Contrast) -> float:
    """Return the degrees of freedom of the error for each seed beyond the first."""
    return max(1.0, (_HELP if contrast.is_pooled else 1.0) * contrast.freedom / (len(contrast.seeds) - 1))


def judge_of(lines: Sequence[Series], metric: str, column: str) -> Judge:
    """Return the judge of a page's lines; curves decide as soon as one line has finished models before its last point.

    Args:
        lines: of the page.
        metric: its name in the rows.
        column: what was spent.
    """
    by_last = all(run.is_one_training for series in lines for run in series.runs)
    return Judge(tuple(_line(series, lines, metric, column, by_last) for series in lines), by_last)


def alike(series: Series, lines: Sequence[Series]) -> Series | None:
    """Return the random line trained as this one, None if there is no other."""
    return next(
        (s for s in lines if s.strategy == "random" and s is not series and s.training == series.training), None
    )


def _line(series: Series, lines: Sequence[Series], metric: str, column: str, by_last: bool) -> Line:
    curves = series.curves(metric, column)
    kept = {r.seed: curves[r.seed] for r in series.runs if r.seed in curves and (r.is_complete or not by_last)}
    first = reference(series, lines)
    wanted = () if first is series else (first, alike(series, lines))
    return Line(series.label, kept, tuple(dict.fromkeys(s.label for s in wanted if s is not None)))
