"""Figures of MGRAL: its look-up table, its agent's training, its controls.

Each function draws one figure from plain numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from al_lab.reporting.figures.theme import INK, MUTED, color_of, look

_RANDOM, _SHUFFLED = color_of("random"), "#ee7733"
_CYCLE_COLORS = (color_of("mgral"), "#0077bb", "#009988", "#aa4499")
MAX_LINES = len(_CYCLE_COLORS)
_MAX_POINTS = 120  # of one curve; more iterations are averaged in bins
# title, column of the curves, a second column drawn dashed
_CURVES = (
    ("reward, points", "reward", "reference"),
    ("advantage, points", "advantage", None),
    ("entropy, nats a pick", "entropy", None),
    ("top-B overlap", "overlap", None),
    ("neighbors", "neighbors", None),
    ("distance to the records", "distance_min", "distance_mean"),
)


@dataclass(frozen=True)
class RowsPanel:
    """One table: rewards in points, the same rows' with other seeds, the base's metric.

    What leaving each row out predicts may be empty.
    """

    title: str
    rewards_M: np.ndarray
    repeats: Mapping[int, Sequence[float]]
    reference: float
    estimates_M: np.ndarray


@dataclass(frozen=True)
class Training:
    """One agent's curves, column -> (I,)."""

    label: str
    curves: Mapping[str, np.ndarray]
    is_shuffled: bool = False


def rows_and_noise(panels: Sequence[RowsPanel]) -> Figure:
    """Draw each table's rows in the order of their rewards; rings are the same row with another seed."""
    with look():
        figure, grid = _grid(len(panels), 3.5, 2.7)
        for axes, panel in zip(grid, panels, strict=True):
            order = np.argsort(panel.rewards_M, kind="stable")
            place = {int(row): k for k, row in enumerate(order)}
            axes.axhline(panel.rewards_M.mean(), color=MUTED, linewidth=1)
            axes.axhline(panel.reference, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            for row, values in panel.repeats.items():
                if row in place:
                    both = [panel.rewards_M[row], *values]
                    axes.plot([place[row]] * 2, [min(both), max(both)], color=_SHUFFLED, linewidth=1)
                    axes.plot(
                        [place[row]] * len(values), values, "o", color=_SHUFFLED, markerfacecolor="none", markersize=5
                    )
            axes.plot(range(len(order)), panel.rewards_M[order], "o", color=color_of("mgral"), markersize=4)
            axes.set_title(panel.title)
            axes.set_ylabel("reward, points")
            axes.set_xlabel("rows, worst first")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.margins(x=0.05, y=0.12)
        figure.legend(
            handles=[
                Line2D([], [], marker="o", linestyle="none", color=color_of("mgral"), markersize=4, label="row"),
                Line2D(
                    [],
                    [],
                    marker="o",
                    linestyle="none",
                    color=_SHUFFLED,
                    markerfacecolor="none",
                    markersize=5,
                    label="same row, other seed",
                ),
                Line2D([], [], color=MUTED, linewidth=1, label="mean of all rows"),
                Line2D([], [], color=INK, linewidth=1, linestyle=(0, (1, 2)), label="no unlabeled image"),
            ],
            loc="outside upper center",
            ncols=4 if len(panels) > 1 else 2,
        )
    return figure


def leave_one_out(panels: Sequence[RowsPanel]) -> Figure:
    """Draw what the other rows predict of each row against what it got; a useless table gives a flat cloud."""
    with look():
        figure, grid = _grid(len(panels), 3.1, 3.1)
        for axes, panel in zip(grid, panels, strict=True):
            both = np.concatenate([panel.rewards_M, panel.estimates_M])
            pad = 0.08 * float(np.ptp(both)) or 1.0
            low, high = float(both.min()) - pad, float(both.max()) + pad
            axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.axhline(panel.rewards_M.mean(), color=MUTED, linewidth=1)
            axes.plot(panel.rewards_M, panel.estimates_M, "o", color=color_of("mgral"), markersize=4)
            axes.set(xlim=(low, high), ylim=(low, high), box_aspect=1)
            axes.grid(axis="x", visible=True)
            axes.set_title(panel.title)
            axes.set_xlabel("trained, points")
            axes.set_ylabel("predicted from the others")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(nbins=5))
        figure.legend(
            handles=[
                Line2D([], [], color=INK, linewidth=1, linestyle=(0, (1, 2)), label="right"),
                Line2D([], [], color=MUTED, linewidth=1, label="mean of all rows"),
            ],
            loc="outside upper center",
            ncols=2,
        )
    return figure


def with_labels(rewards_M: np.ndarray, truths_M: np.ndarray, title: str, metric: str) -> Figure:
    """Draw what batches give with their labels against their rewards, which were measured without."""
    with look():
        figure = Figure(figsize=(4.6, 3.6))
        axes = figure.add_subplot()
        axes.axhline(truths_M.mean(), color=MUTED, linewidth=1)
        axes.axvline(rewards_M.mean(), color=MUTED, linewidth=1)
        axes.plot(rewards_M, truths_M, "o", color=color_of("mgral"), markersize=5)
        axes.set_title(title)
        axes.set_xlabel("reward, without labels, points")
        axes.set_ylabel(f"with labels, points of {metric}")
        axes.grid(axis="x", visible=True)
        axes.margins(0.12)
    return figure


def learning_curves(trainings: Sequence[Training]) -> Figure:
    """Draw the agents' training over iterations, one line a cycle, at most `MAX_LINES`.

    An agent with shuffled rewards is gray.
    """
    real = [t for t in trainings if not t.is_shuffled]
    colors = {t.label: color for t, color in zip(real, _CYCLE_COLORS, strict=False)}
    panels = [panel for panel in _CURVES if any(np.isfinite(t.curves.get(panel[1], np.nan)).any() for t in trainings)]
    with look():
        figure, grid = _grid(len(panels), 3.6, 2.2, columns=2)
        for axes, (title, name, dashed) in zip(grid, panels, strict=True):
            for training in sorted(trainings, key=lambda t: not t.is_shuffled):
                color = colors.get(training.label, _RANDOM)
                _curve(axes, training.curves, name, color, "-")
                if dashed:
                    _curve(axes, training.curves, dashed, color, (0, (4, 2)))
            if name == "advantage":
                axes.axhline(0, color=INK, linewidth=0.8)
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.yaxis.set_major_locator(MaxNLocator(integer=name == "neighbors", nbins=5))
        for axes in grid[-2:]:
            axes.set_xlabel("iteration")
        figure.legend(
            handles=[Line2D([], [], color=colors.get(t.label, _RANDOM), label=t.label) for t in trainings],
            loc="outside upper center",
            ncols=min(4, len(trainings)),
        )
    return figure


def _curve(axes: Axes, curves: Mapping[str, np.ndarray], name: str, color: object, style: object) -> None:
    values = curves.get(name, np.zeros(0))
    size = max(1, -(-len(values) // _MAX_POINTS))
    x = np.arange(len(values))
    parts = [slice(k, k + size) for k in range(0, len(values), size)]
    axes.plot(
        [x[p].mean() for p in parts], [values[p].mean() for p in parts], color=color, linestyle=style, linewidth=1.3
    )


def controls(
    rows_M: np.ndarray, random: np.ndarray, shuffled: float, agent: float, reference: float, noise: float, half: float
) -> Figure:
    """Draw what batches gave that were measured by a training, from the table's rows to the agent's.

    Args:
        rows_M: of the table.
        random: at least one random batch, trained with the agent's seed.
        shuffled: the batch of an agent that learned from shuffled rewards.
        agent: its own batch.
        reference: without any unlabeled image.
        noise: standard deviation over seeds, without what a seed does to all batches; NaN if unknown.
        half: how far a random batch falls from the mean of the random ones by chance.
    """
    lines = (
        ("table's rows", rows_M, _RANDOM, "o"),
        (f"random ({len(random)})", random, _RANDOM, "o"),
        ("shuffled rewards", np.asarray([shuffled]), _SHUFFLED, "D"),
        ("agent", np.asarray([agent]), color_of("mgral"), "P"),
    )
    with look():
        figure = Figure(figsize=(6.4, 2.6))
        axes = figure.add_subplot()
        axes.axvspan(random.mean() - half, random.mean() + half, color=MUTED, alpha=0.14, linewidth=0)
        axes.axvline(random.mean(), color=MUTED, linewidth=1)
        axes.axvline(reference, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        for y, (_, values, color, marker) in enumerate(lines):
            if len(values) == 1 and np.isfinite(noise):
                axes.errorbar(values, [y], xerr=noise, color=color, capsize=3, elinewidth=1.2)
            axes.plot(
                values,
                [y] * len(values),
                marker,
                color=color,
                markersize=8 if y > 1 else 4.5,
                alpha=1 if y > 1 else 0.75,
            )
        axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
        axes.set_ylim(-0.6, len(lines) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("reward of one training, points")
    return figure


def _grid(count: int, width: float, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(width * columns, 4.6), height * rows + 0.5))
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]
