"""By what the lines of a page are compared: their curves, or their last points."""

from collections.abc import Sequence
from dataclasses import dataclass

from al_lab.reporting.judge.protocol import Series
from al_lab.reporting.judge.stats import Curve, Paired, paired_difference, paired_last


@dataclass(frozen=True)
class Judge:
    """The quantity that says which line is better.

    A campaign that trains anew in every cycle is judged by its whole curve. Where all cycles are one training only the
    last model is a finished one: points before are of models a few steps after a purchase, and papers on such campaigns
    report the last.

    Attributes:
        metric: its name in the rows.
        column: of what was spent.
        by_last: last points decide; else areas under the curve.
    """

    metric: str
    column: str
    by_last: bool

    @classmethod
    def of(cls, lines: Sequence[Series], metric: str, column: str) -> "Judge":
        """Return the judge of a page; curves decide as soon as one line has finished models before its last point."""
        return cls(metric, column, all(run.is_one_training for series in lines for run in series.runs))

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
            return "Differences are of last points, since each run is one training and only its last model is a finished one; paired by seed."
        return "Differences are of areas, paired by seed, over the range both cover."

    def pair(self, ours: Series, theirs: Series | None) -> Paired:
        """Return the paired difference, ours minus theirs; of last points only where both runs are complete."""
        if theirs is None:
            return Paired((), float("nan"), float("nan"))
        return (paired_last if self.by_last else paired_difference)(self._curves(ours), self._curves(theirs))

    def _curves(self, series: Series) -> dict[int, Curve]:
        curves = series.curves(self.metric, self.column)
        return {
            run.seed: curves[run.seed]
            for run in series.runs
            if run.seed in curves and (run.is_complete or not self.by_last)
        }
