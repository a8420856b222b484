"""Differences from random, and who wins how often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from al_lab.reporting.figures.theme import INK, MUTED, color_of, look


@dataclass(frozen=True)
class Difference:
    """One row of the figure, in points: each seed's difference, their mean, half of its interval (NaN: none)."""

    label: str
    strategy: str
    seeds: Sequence[float]
    mean: float
    half: float


def differences(rows: Sequence[Difference], unit: str) -> Figure:
    """Draw one row per line: small dots are seeds, the large one is their mean, the bar its interval.

    The broken line stands for no difference.
    """
    labels = [row.label for row in rows]
    with look():
        figure = Figure(figsize=(6.4, 1.1 + 0.42 * len(rows)))
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
        for y, row in enumerate(rows):
            color = color_of(row.strategy, row.label, labels)
            axes.plot(row.seeds, [y + 0.2] * len(row.seeds), "o", color=MUTED, markersize=3.5, alpha=0.8)
            if np.isfinite(row.half):
                axes.errorbar([row.mean], [y], xerr=[row.half], color=color, capsize=4, elinewidth=2)
            axes.plot([row.mean], [y], "o", color=color, markersize=8)
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(unit)
    return figure
