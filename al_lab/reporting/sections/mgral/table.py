"""Do the rows of the look-up table differ by more than noise, and do they predict each other?"""

import math
from collections.abc import Sequence

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import lut as lut_figures
from al_lab.reporting.figures.lut import RowsPanel
from al_lab.reporting.read.lut import LutCycle
from al_lab.reporting.sections.mgral.words import sentence
from al_lab.reporting.sections.results import metric_label
from al_lab.reporting.sections.run import MAX_PANELS, spread

_SIGNIFICANCE = 0.05  # the stage's own threshold: a spread that noise makes more often than this proves nothing
_WHAT_A_ROW_IS = (
    "A row is one training: the labeled images plus one random batch without labels, from the pool. Its reward "
    "is what that "
    "training reaches, in points of {metric}, measured on {where}."
)
_SPLITS = {
    "holdout": "{n} labeled images held out of it",
    "kfold": "the labeled images, one fold of them a row",
    "val": "{n} labeled images outside the pool, which the budget does not count (split: val)",
    "test": "THE TEST SET ({n} images; split: test): the choice of images depends on test labels, so the curve above "
    "is not a fair one",
}
_ROWS_NOTE = (
    "Errors and spreads in points. Seed noise: the same row with other seeds, and the part of it that a seed does not "
    "do to all rows "
    "alike, by which the spread is divided. p: how often noise alone makes so large a ratio (F test). The error of "
    "the mean is what "
    "predicting every row by the mean of the others gives; none can be expected below that part of the noise. Ridge: "
    "a regression on "
    "batch features that learned from the same rows. Leaving out a good row lowers the others' mean, so a useless "
    "estimator has a rank "
    "correlation below 0, and the mean itself one of −1. Distance: rank correlation of the distance of two rows with "
    "their difference."
)
_ROWS_COLUMNS = (
    "cycle",
    "rows",
    "spread",
    "seed noise",
    "not alike for all",
    "spread / noise",
    "p, %",
    "error of the table",
    "of the mean of all rows",
    "of ridge",
    "rank corr. of the table",
    "of ridge",
    "distance corr.",
    "rows without neighbors",
)


def _p_value(cycle: LutCycle) -> float:
    """How often noise alone makes so large a spread; older runs call it luck."""
    found = cycle.number("signal", "p_value")
    return found if math.isfinite(found) else cycle.number("signal", "luck")


def table_section(cycles: Sequence[LutCycle]) -> Section:
    """Say whether rows differ by more than noise, and whether they predict each other."""
    section = Section("lut", "Look-up table")
    last = cycles[-1]
    judged = [c for c in cycles if math.isfinite(_p_value(c))]
    where = _SPLITS.get(str(last.table.get("split")), "images nobody named").format(
        n=last.table.get("num_measured", "?")
    )
    section.text = _WHAT_A_ROW_IS.format(metric=metric_label(str(last.table.get("metric"))), where=where)
    section.text += (
        f" {sentence(f'in cycle {last.cycle}, ' + last.sentence('signal'))}" if last.sentence("signal") else ""
    )
    for facts in (last.table.get("early"), cycles[0].table.get("shared_start")):
        told = str(facts.get("sentence") or "") if isinstance(facts, dict) else ""
        section.text += f" {sentence(told)}" if told else ""
    section.text += f" {sentence(last.sentence('kept'))}" if last.sentence("kept") else ""
    if len(judged) > 1:
        above = sum(_p_value(c) <= _SIGNIFICANCE for c in judged)
        section.text += f" In {above} of {len(judged)} cycles the rows differ by more than noise explains."
    section.text += f" {sentence(last.sentence('leave_one_out'))}" if last.sentence("leave_one_out") else ""
    if "predictor" in last.facts and not len(last.estimates_M):
        section.text += " Fewer than three different rows can't be judged by leaving one out."
    shown = {c.cycle: c for c in cycles}
    panels = [
        RowsPanel(f"cycle {k}", shown[k].rewards_M, shown[k].repeats, shown[k].reference, shown[k].estimates_M)
        for k in spread(list(shown), MAX_PANELS)
    ]
    section.pictures.append(
        Picture(
            "mgral_rows",
            lut_figures.rows_and_noise(panels),
            "rewards of the rows, and of the same rows with other seeds",
            "What a seed does to all rows alike is harmless, as all rows share one; that rings lie higher or lower by "
            "different amounts is noise, and rows that differ by no more than that teach noise.",
            is_wide=len(panels) > 1,
        )
    )
    judged_panels = [p for p in panels if len(p.estimates_M)]
    if judged_panels:
        section.pictures.append(
            Picture(
                "mgral_leave_one_out",
                lut_figures.leave_one_out(judged_panels),
                "what the other rows predict of each row against what it got",
                "Each row, predicted from the others as a batch is.",
                is_wide=len(panels) > 1,
            )
        )
    section.tables.append(
        Table(
            "mgral_table",
            "The table, judged by itself",
            _ROWS_COLUMNS,
            [_row(c) for c in cycles],
            digits=[0, 0, 2, 2, 2, 1, 0, 2, 2, 2, 2, 2, 2, 0],
            note=_ROWS_NOTE,
        )
    )
    return section


def _row(c: LutCycle) -> list:
    alone = c.number("leave_one_out", "num_without_neighbors")
    return [
        c.cycle,
        len(c.rewards_M),
        c.number("signal", "row_spread"),
        c.number("signal", "seed_noise"),
        c.number("signal", "own_noise"),
        c.signal_to_noise,
        100 * _p_value(c),
        c.number("leave_one_out", "rmse"),
        c.number("leave_one_out", "rmse_of_mean"),
        c.number("regressor", "rmse"),
        c.number("leave_one_out", "rank_correlation"),
        c.number("regressor", "rank_correlation"),
        c.number("leave_one_out", "distance_correlation"),
        int(alone) if math.isfinite(alone) else None,
    ]
