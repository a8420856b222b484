"""A learning curve and where it may go."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from al_lab.core.statistics.learning_curve import FittedCurve
from al_lab.reporting.figures.theme import MUTED, look
from al_lab.reporting.judge.curves import Curve

_STEPS = 60


def forecast(
    fitted: FittedCurve,
    curves: Mapping[int, Curve],
    marks: Mapping[str, float],
    color: str,
    axes_labels: tuple[str, str],
) -> Figure:
    """Draw the points of all seeds, the fitted curve, and its 95 % band up to the last mark.

    Args:
        fitted: the curve.
        curves: seed -> the points it was fitted to.
        marks: name -> labels: broken lines.
        color: of the strategy.
        axes_labels: of labels and metric.
    """
    with look():
        figure = Figure(figsize=(5.5, 3.6))
        axes = figure.add_subplot()
        x = np.linspace(fitted.first, max(marks.values()), _STEPS)
        heights = [fitted.height(float(n)) for n in x]
        low, high = 100 * np.percentile(heights, [2.5, 97.5], axis=1)
        axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0, label="95 % of the curve")
        axes.plot(x, [100 * float(np.median(h)) for h in heights], color=color, label="curve, fitted")
        for k, curve in enumerate(curves.values()):
            label = "evaluations" if k == 0 else "_"  # a legend leaves out what begins with it
            axes.plot(curve.spent, 100 * curve.metric, "o", color=color, markersize=4.5, alpha=0.75, label=label)
        for name, n in marks.items():
            axes.axvline(n, color=MUTED, linestyle=(0, (5, 3)), linewidth=1)
            axes.annotate(name, (n, 1), (-4, -4), xycoords=("data", "axes fraction"), textcoords="offset points",
                          rotation=90, ha="right", va="top", fontsize=9, color=MUTED)  # fmt: skip
        axes.set_xlabel(axes_labels[0])
        axes.set_ylabel(axes_labels[1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.legend(loc="lower right")
    return figure
