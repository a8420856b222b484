"""Figures of what is inside a method and where it helps: pseudo-labels by cycle, gains and wins by class."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from al_lab.reporting.figures.theme import GRID, INK, MUTED, look


@dataclass(frozen=True)
class CycleLine:
    """One line over cycles, with the standard error of its means (NaN where there is none)."""

    label: str
    color: str
    marker: str
    cycles: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray


def cycle_lines(panels: Mapping[str, Sequence[CycleLine]], zoomed: Container[str] = ()) -> Figure:
    """Draw one panel per quantity, cycles across, a line per method; axes begin at zero but those of ``zoomed``."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    lines = next(iter(panels.values()))
    with look():
        figure = Figure(figsize=(3.6 * columns, 2.3 * rows + (0.35 if len(lines) > 1 else 0)))
        for k, (title, drawn) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, k + 1)
            for line in drawn:
                half = np.nan_to_num(line.standard_error)
                axes.errorbar(
                    line.cycles,
                    line.mean,
                    half if half.any() else None,
                    color=line.color,
                    marker=line.marker,
                    capsize=2.5,
                    elinewidth=1,
                )
            axes.set_title(title)
            axes.margins(x=0.08, y=0.12)
            if title not in zoomed:
                tops = np.concatenate([line.mean + np.nan_to_num(line.standard_error) for line in drawn])
                axes.set_ylim(0, 1.12 * float(np.nanmax(tops)) or 1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
            if k >= len(panels) - columns:
                axes.set_xlabel("used in cycle")
        if len(lines) > 1:
            handles = [Line2D([], [], color=line.color, marker=line.marker, label=line.label) for line in lines]
            figure.legend(
                handles=handles,
                loc="outside upper center",
                ncols=_legend_columns([line.label for line in lines], 3.6 * columns),
            )
    return figure


def gain_by_ratio(lines: Mapping[str, tuple[str, str, np.ndarray]]) -> Figure:
    """Draw the gain from pseudo-labels against their share of all labels; (T, 2) percents in the order of cycles."""
    with look():
        figure = Figure(figsize=(4.6, 3.3))
        axes = figure.add_subplot()
        axes.axhline(0, color=MUTED, linewidth=0.8)
        for label, (color, marker, points) in lines.items():
            axes.plot(points[:, 0], points[:, 1], color=color, marker=marker, linewidth=1, label=label)
        axes.set_xlabel("pseudo-labels among all labels, %")
        axes.set_ylabel("relative gain from them, %")
        axes.margins(0.1)
        axes.legend()
    return figure


def gain_bars(
    names: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    colors: Mapping[str, str],
    value_label: str,
) -> Figure:
    """Draw horizontal bars to both sides of zero: a row per class, a panel per cycle, a bar per method.

    A gap where there is no value.
    """
    g = max(1, len(colors))
    step = min(0.95, 0.15 * g + 0.16)
    with look():
        figure = Figure(figsize=(1.6 + 3.6 * len(panels), max(2.0, 1.2 + len(names) * step)))
        first = None
        for k, (title, groups) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), k + 1, sharey=first)
            height = 0.8 / g
            for i, (label, color) in enumerate(colors.items()):
                widths = np.asarray(groups.get(label, [np.nan] * len(names)), float)
                axes.barh(
                    np.arange(len(names)) - 0.4 + height * (i + 0.5), np.nan_to_num(widths), height * 0.92, color=color
                )
            axes.axvline(0, color=INK, linewidth=0.9)
            axes.set_title(title)
            axes.set_xlabel(value_label)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.grid(axis="x", visible=True)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
            axes.tick_params(axis="y", length=0, labelleft=first is None)
            first = first or axes
        if g > 1:
            handles = [
                Line2D([], [], marker="s", linestyle="none", color=c, label=label) for label, c in colors.items()
            ]
            figure.legend(
                handles=handles,
                loc="outside upper center",
                ncols=_legend_columns(list(colors), 1.6 + 3.6 * len(panels)),
            )
    return figure


def win_matrix(labels: Sequence[str], share_LL: np.ndarray) -> Figure:
    """Draw in how many percent of the classes the row beats the column; the diagonal stays empty."""
    n = len(labels)
    longest = max(map(len, labels))
    with look():
        figure = Figure(figsize=(2.2 + 0.085 * longest + 0.62 * n, 1.0 + 0.07 * longest + 0.5 * n))
        axes = figure.add_subplot()
        image = axes.imshow(100 * share_LL, aspect="auto", cmap="cividis", vmin=0, vmax=100)
        axes.set_xticks(range(n), labels, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n), labels)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for (row, column), value in np.ndenumerate(100 * share_LL):
            if np.isfinite(value):
                axes.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=9.5,
                    color="#ffffff" if value < 55 else "#000000",
                )
        axes.set_ylabel("this one …")
        axes.set_xlabel("… beats that one")
        bar = figure.colorbar(image, ax=axes, shrink=0.9)
        bar.set_label("of the classes, %")
        bar.outline.set_edgecolor(GRID)
    return figure


def _legend_columns(labels: Sequence[str], width: float) -> int:
    return max(1, min(len(labels), int(width * 9.4 / (5 + max(map(len, labels))))))
