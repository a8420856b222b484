"""Places of the lines on every data set."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from al_lab.reporting.figures.theme import INK, MUTED, color_of, look
from al_lab.reporting.judge.contest import Contest
from al_lab.reporting.judge.ranks import Rank

_COLUMNS = 2


def places(contests: Sequence[Contest], labels: Sequence[str]) -> Figure:
    """Draw a panel for each data set: each line's place and the places that 95 % of the draws lie in, the best on top.

    Args:
        contests: the data sets.
        labels: of all lines, for their colors.
    """
    columns = min(_COLUMNS, len(contests))
    rows = math.ceil(len(contests) / columns)
    most = max(len(c.entries) for c in contests)
    with look():
        figure = Figure(figsize=(4.7 * columns, rows * (0.95 + 0.33 * most)))
        for k, contest in enumerate(contests):
            _panel(figure.add_subplot(rows, columns, k + 1), contest, labels)
        figure.supxlabel("place", fontsize=10)
    return figure


def _panel(axes: Axes, contest: Contest, labels: Sequence[str]) -> None:
    found = sorted(zip(contest.entries, contest.ranks(contest.units[0]).of_line, strict=True), key=lambda f: f[1].place)
    for y, (entry, rank) in enumerate(found):
        color = color_of(entry.strategy, entry.label, labels)
        axes.plot([rank.low, rank.high], [y, y], color=color, linewidth=4, alpha=0.35, solid_capstyle="round")
        axes.plot([rank.place], [y], "o", color=color, markersize=8)
        axes.annotate(f"{100 * rank.best:.0f} %", (1.01, y), xycoords=("axes fraction", "data"), va="center",
                      fontsize=8.5, color=MUTED, annotation_clip=False)  # fmt: skip
    axes.set_yticks(range(len(found)), [entry.label + (" *" if entry.is_changed else "") for entry, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0.6, len(found) + 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    axes.tick_params(axis="y", length=0)
    axes.set_title(contest.name, fontsize=10)
    axes.annotate("best in", (1.01, 1.03), xycoords="axes fraction", fontsize=8, color=MUTED, annotation_clip=False)


def wins(labels: Sequence[str], clear: Sequence[Sequence[tuple[int, int, int]]]) -> Figure:
    """Draw a matrix: on how many data sets the row is clearly better than the column, less those where it is worse.

    Args:
        labels: the lines.
        clear: [row][column] -> clearly better, clearly worse, data sets with both.
    """
    balance = np.asarray([[better - worse if both else np.nan for better, worse, both in row] for row in clear], float)
    most = max(1.0, float(np.nanmax(np.abs(balance), initial=0.0)))
    side = 1.9 + 0.55 * len(labels)
    with look():
        figure = Figure(figsize=(side + 1.1, side * 0.8))
        axes = figure.add_subplot()
        axes.imshow(balance, cmap="RdBu", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        for (row, column), value in np.ndenumerate(balance):
            better, worse, both = clear[row][column]
            if np.isfinite(value):
                text = f"{better}:{worse}" if better or worse else f"–\n{both}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color="#000000")
        axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right", rotation_mode="anchor", fontsize=8.5)
        axes.set_yticks(range(len(labels)), labels, fontsize=8.5)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_ylabel("this line …", color=INK, fontsize=9)
        axes.set_xlabel("… against this one", color=INK, fontsize=9)
    return figure


def describe(rank: Rank) -> str:
    """Return ``1 to 3``, the places of 95 % of the draws."""
    low, high = (f"{value:g}" for value in (rank.low, rank.high))
    return low if low == high else f"{low} to {high}"
