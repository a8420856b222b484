"""Who is clearly better than whom."""

import math
from collections.abc import Sequence

from al_lab.reporting.document.page import Picture, Section
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures.ranks import wins
from al_lab.reporting.judge.board import Board, Decided

_MOST_IN_MATRIX = 14  # lines; a larger one is a table in a file


def wins_section(board: Board) -> Section:
    """Show who is clearly better than whom, and all pairs."""
    section = Section("wins", "Pairwise wins")
    clear = [d for d in (*board.planned, *board.explored) if d.pair.contrast.is_clear]
    judged = sum(math.isfinite(d.pair.contrast.p) for d in (*board.planned, *board.explored))
    section.text = (
        f"{len(clear)} of {judged} pairs differ clearly. In a cell: on how many data sets the line of the row is "
        "clearly better : clearly worse than that of the column; a dash above the number of data sets: neither. "
        "Differences from random were planned and are one family for Holm's correction, all other pairs another."
    )
    labels = board.labels
    matrix = [[board.score(a, b) if a != b else (0, 0, 0) for b in labels] for a in labels]
    if len(labels) <= _MOST_IN_MATRIX:
        section.pictures.append(Picture("wins", wins(labels, matrix), "clear wins of each line against each other"))
    cells = [
        [a, *("" if not both else f"{better}:{worse} of {both}" for better, worse, both in row)]
        for a, row in zip(labels, matrix, strict=True)
    ]
    section.files.append(
        Table("wins", "Clearly better : clearly worse, of data sets with both", ["row", *labels], cells)
    )
    section.tables += [t for t in (overall_table(board), pairs_table("Clear pairs", clear)) if t.rows]
    section.files.append(pairs_table("All pairs", (*board.planned, *board.explored), "pairs"))
    return section


def overall_table(board: Board) -> Table:
    """Return the lines that are on two data sets or more."""
    rows = [
        [o.label, o.contests, 100 * o.beaten, f"{100 * o.low:.0f} to {100 * o.high:.0f}", o.wins, o.losses, o.pairs]
        for o in board.overall
        if o.contests > 1
    ]
    return Table(
        "over_data_sets",
        "Over data sets",
        ["strategy", "data sets", "rivals beaten, %", "95 % of draws", "clear wins", "clear losses", "pairs"],
        rows,
        digits=0,
        note="Rivals beaten: the share of the other lines that a line is above, averaged over the data sets it is on. "
        "Rivals differ from data set to data set, so only lines on the same ones compare.",
    )


def pairs_table(caption: str, decided: Sequence[Decided], name: str = "clear_pairs") -> Table:
    """Return pairs with their differences."""
    rows = [
        [
            d.contest,
            d.pair.ours,
            d.pair.theirs,
            100 * c.difference,
            100 * c.half,
            c.p,
            c.p_holm,
            len(c.seeds),
            c.verdict,
        ]
        for d in decided
        for c in [d.pair.contrast]
        if c.seeds
    ]
    columns = [
        "data set",
        "strategy",
        "against",
        "difference, points",
        "± interval",
        "p alone",
        "p",
        "seeds",
        "verdict",
    ]
    return Table(name, caption, columns, rows, digits=[0, 0, 0, 2, 2, 4, 4, 0, 0])
