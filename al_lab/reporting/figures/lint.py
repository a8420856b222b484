"""One selection among random ones: every number on the scale of what random selections have."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from al_lab.data.lint.reference import Measure
from al_lab.reporting.figures.theme import GRID, INK, MUTED, color_of, look

_FARTHEST = 6.0  # spreads of random selections; beyond, the number stands at the edge


def among_random(measures: Sequence[Measure], strategy: str) -> Figure:
    """Draw where a selection lies among random ones: 0 their mean, 1 the end of nine of ten of them."""
    with look():
        figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(measures)))
        axes = figure.add_subplot()
        axes.axvspan(-1, 1, color=GRID, alpha=0.8, lw=0)
        axes.axvline(0, color=MUTED, lw=1)
        for row, measure in enumerate(measures):
            place, edge = _place(measure), abs(_place(measure)) >= _FARTHEST
            color = color_of(strategy) if measure.is_unusual else INK
            axes.plot([0, place], [row, row], color=color, lw=1.2, alpha=0.6)
            axes.plot(place, row, (">" if place > 0 else "<") if edge else "o", color=color, ms=7)
        axes.set_yticks(range(len(measures)), [m.words for m in measures])
        axes.set(ylim=(len(measures) - 0.4, -0.6), xlim=(-_FARTHEST - 0.4, _FARTHEST + 0.4))
        axes.set_xlabel("less  ←  random selections, nine of ten in the band  →  more")
        axes.set_xticks([-5, -3, -1, 0, 1, 3, 5])
        axes.grid(axis="y", visible=False)
    return figure


def _place(measure: Measure) -> float:
    """Return the distance from random's mean in half widths of its middle nine tenths."""
    low, high = measure.middle
    half = (high - low) / 2
    away = measure.value - measure.mean
    if half <= 0:
        return 0.0 if abs(away) < 1e-12 else float(np.sign(away) * _FARTHEST)
    return float(np.clip(away / half, -_FARTHEST, _FARTHEST))
