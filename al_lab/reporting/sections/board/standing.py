"""Where every line stands on every data set, and on all of them."""

import math
from collections.abc import Sequence

from al_lab.core.statistics.verdict import ALPHA
from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Cell, Table
from al_lab.reporting.figures.ranks import describe, places
from al_lab.reporting.judge.board import Board
from al_lab.reporting.judge.contest import Contest, Entry
from al_lab.reporting.judge.curves import mean_and_error
from al_lab.reporting.sections.results import metric_label

_CHANGED = "changes the detector"


def standing_section(board: Board, notes: Sequence[str] = ()) -> Section:
    """Show places with intervals, and the table of everything; ``notes`` say what was left out."""
    images = [c.name for c in board.contests if c.has_drawn_images]
    drawn = "seeds and test images" if len(images) == len(board.contests) else "seeds"
    if images and len(images) < len(board.contests):
        drawn = f"seeds (and test images of {', '.join(images)})"
    section = Section(
        "standing",
        "Standing",
        f"The place of every line by its {board.contests[0].judge.name}, and the places in which 95 % of the draws lie "
        f"when {drawn} are drawn again; at the right the share of draws in which a line is the best.",
    )
    if any(e.is_changed for c in board.contests for e in c.entries):
        section.text += f" A star: the strategy {_CHANGED}; its random line is random with that detector."
    labels = board.labels
    section.pictures.append(
        Picture("places", places(board.contests, labels), "place of each line on each data set", is_wide=True)
    )
    section.missing = [(note, "") for note in notes]
    everything = standing_table(board)
    section.tables, section.files = [_narrow(everything)], [everything]
    return section


def _narrow(table: Table) -> Table:
    """Return the columns that fit a page: no errors, no places by other counts, none that is empty; marks as stars."""
    columns, name, mark = list(table.columns), table.columns.index("strategy"), table.columns.index(_CHANGED)
    is_empty = [
        all(cell == "" or isinstance(cell, float) and math.isnan(cell) for cell in cells)
        for cells in zip(*table.rows, strict=True)
    ]
    keep = [
        k
        for k, column in enumerate(columns)
        if not (column.startswith(("± SE", "place over")) or column == _CHANGED or is_empty[k])
    ]
    digits = table.digits if isinstance(table.digits, int) else [table.digits[k] for k in keep]
    marked = [[f"{c} *" if k == name and row[mark] else c for k, c in enumerate(row)] for row in table.rows]
    rows = [[row[k] for k in keep] for row in marked]
    return Table("standing", table.caption, [columns[k] for k in keep], rows, digits, table.note)


def standing_table(board: Board) -> Table:
    """Return one row for each data set and line."""
    units = list(dict.fromkeys(u for c in board.contests for u in c.units))
    said = {(d.contest, d.pair.ours): d.pair for d in board.planned}
    rows = []
    for contest in board.contests:
        values = {u: contest.values(u) for u in contest.units}
        found = {u: contest.ranks(u).of_line for u in contest.units}
        first = found[contest.units[0]]
        for k in sorted(range(len(first)), key=lambda k: first[k].place):
            entry, pair = contest.entries[k], said.get((contest.name, contest.entries[k].label))
            row: list[Cell] = [contest.name, entry.label, "yes" if entry.is_changed else "", len(entry.seeds)]
            row += [f"{first[k].place:g}", describe(first[k]), 100 * first[k].best]
            for unit in units:
                mean, error = mean_and_error(values[unit][k]) if unit in values else (math.nan, math.nan)
                row += [100 * mean, 100 * error, f"{found[unit][k].place:g}" if unit in found else ""]
            row += [100 * _last(entry, contest), entry.minutes]
            if pair is None:
                row += ["reference" if entry is contest.reference else "", math.nan, math.nan, math.nan]
            else:
                row += [
                    pair.contrast.verdict,
                    100 * pair.contrast.difference,
                    100 * pair.contrast.half,
                    pair.contrast.p_holm,
                ]
            rows.append(row)
    what = "last point" if board.contests[0].by_last else "area"
    columns = ["data set", "strategy", _CHANGED, "seeds", "place", "95 % of draws", "best in, %"]
    for unit in units:
        columns += [f"{what} over {unit}, %", f"± SE, {unit}", f"place over {unit}"]
    columns += ["last point, %", "acquisition, min", "against its random", "difference, points", "± interval", "p"]
    digits = [1 if c.endswith("min") else 0 if c == "best in, %" else 4 if c == "p" else 2 for c in columns]
    return Table(
        "leaderboard",
        f"{metric_label(board.contests[0].metric)} on every data set",
        columns,
        rows,
        digits=digits,
        note="Area: the mean height of the learning curve over the range all lines of a data set cover. Clearly better "
        f"or worse: Student's t over paired seeds, p below {ALPHA:g} after Holm's correction for all comparisons with "
        f"random on this page ({sum(math.isfinite(d.pair.contrast.p) for d in board.planned)}). Draws: "
        "deviations over seeds are widened as Student's t is, so that three seeds claim no more than three seeds know.",
    )


def _last(entry: Entry, contest: Contest) -> float:
    return mean_and_error([float(c.metric[-1]) for c in entry.curves[contest.units[0]].values()])[0]
