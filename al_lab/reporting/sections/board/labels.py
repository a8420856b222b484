"""What labels gave: learning curves, what is saved, what more of them are expected to gain."""

import math

from al_lab.reporting.document.page import Picture, Section, slug
from al_lab.reporting.document.tables import Table
from al_lab.reporting.figures import curves as figures
from al_lab.reporting.judge.advice import Advice, advice_of, undecided_sentence
from al_lab.reporting.judge.board import Board
from al_lab.reporting.judge.contest import Saving
from al_lab.reporting.judge.curves import band
from al_lab.reporting.sections.advice import TITLE, forecast_table, seeds_table
from al_lab.reporting.sections.results import metric_label

_MOST_ROWS = 40  # of a table; a longer one is a file


def curves_section(board: Board) -> Section:
    """Show the learning curves of every data set, over every count of labels."""
    section = Section(
        "curves", "Learning curves", "Means over seeds, bars of one standard error where there are few lines."
    )
    for contest in board.contests:
        for unit in contest.units[:2]:
            lines = [
                figures.Line(e.label, e.strategy, band(list(e.curves[unit].values())), e.curves[unit])
                for e in contest.entries
            ]
            figure = figures.learning_curve(lines, {}, metric_label(contest.metric), f"labeled {unit}")
            name = f"curve_{slug(contest.name)}_{unit}"
            alt = f"{contest.metric} against {unit} on {contest.name}"
            section.pictures.append(Picture(name, figure, alt, contest.name))
    return section


def saved_section(board: Board) -> Section:
    """Show labels needed and saved."""
    section = Section("saved", "Labels saved")
    rows = []
    for contest in board.contests:
        for entry in contest.entries:
            saving = contest.saving(entry)
            if saving is None or contest.goal is None or entry is contest.reference:
                continue
            rows.append(
                [contest.name, 100 * contest.goal, entry.label, saving.needed, 100 * saving.saved, _span(saving)]
            )
    if not rows:
        section.text = (
            "Nothing to count: there is no random line, or only last points decide." if board.contests else ""
        )
        return section
    unit = board.contests[0].units[0]
    section.text = (
        "Labels at which a line's mean curve first reaches the level, against those its random line needs. A dash: the "
        "level is not reached."
    )
    section.tables.append(
        Table(
            "labels_saved",
            "Labels saved at a level",
            ["data set", "level, %", "strategy", f"{unit} needed", "saved against random, %", "95 % of draws, %"],
            rows,
            digits=[0, 1, 0, 0, 0, 0],
            note="The interval draws seeds again, random's with them (percentiles: with three seeds it is too narrow). "
            "Up to: at its other end the level is not reached.",
        )
    )
    return section


def _span(saving: Saving) -> str:
    low, high = (f"{100 * v:.0f}".replace("-", "−") for v in (saving.low, saving.high))
    if not math.isfinite(saving.high):
        return "–"
    return f"{low} to {high}" if math.isfinite(saving.low) else f"up to {high}"


def advice_section(board: Board) -> Section:
    """Show what further labels and further seeds are worth."""
    section = Section("advice", TITLE)
    found: dict[str, Advice] = {}
    for contest in board.contests:
        for entry in () if contest.by_last else contest.entries:
            advice = advice_of(entry.curves[contest.units[0]])
            if advice is not None:
                found[f"{entry.label} on {contest.name}"] = advice
    planned, explored = [d.named for d in board.planned], [d.named for d in board.explored]
    section.text = undecided_sentence(planned)
    if found:
        section.tables.append(forecast_table(found, board.contests[0].units[0]))
    table = seeds_table(planned, explored)
    (section.tables if len(table.rows) <= _MOST_ROWS else section.files).extend([table] if table.rows else [])
    return section
