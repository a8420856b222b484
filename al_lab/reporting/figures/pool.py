"""Figures of the pool: how utilities and readings are spread, and where the bought images lie among the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from al_lab.reporting.figures.theme import INK, MUTED, look

POOL, BOUGHT_BEFORE, BOUGHT_NOW = "#a3abb7", "#0077bb", "#ee7733"
_MAX_POINTS = 20_000
_TITLE_LENGTH = 27  # characters above a panel; a variant's name goes on below


@dataclass(frozen=True)
class UtilityPanel:
    """Utilities of one cycle: of every candidate (none where only the bought have one), and of those bought."""

    title: str
    candidates: np.ndarray
    bought: np.ndarray

    @property
    def is_telling(self) -> bool:
        """Whether the utilities differ at all."""
        values = np.concatenate([self.candidates, self.bought])
        return len(values) > 0 and float(np.ptp(values)) > 0


@dataclass(frozen=True)
class EmbeddingPanel:
    """A flat picture of one cycle: (N, 2) points, 0 = pool, 1 = labeled before, 2 = bought now."""

    title: str
    points: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class FlipPanel:
    """Two readings of every candidate image of one query, those left out in which no box counted."""

    title: str
    entropy: np.ndarray
    inconsistency: np.ndarray
    is_bought: np.ndarray


@dataclass(frozen=True)
class ChoicePanel:
    """How unsure a detector is of every candidate image of one query: mean and sum over its boxes, nats."""

    mean: np.ndarray
    total: np.ndarray
    is_bought: np.ndarray


def _wrapped(title: str) -> str:
    return fill(title.replace("cycle ", "cycle\u00a0"), _TITLE_LENGTH, break_long_words=False)


def utility_histograms(panels: Sequence[UtilityPanel]) -> Figure:
    """Draw one histogram per cycle.

    Counts are on a logarithmic axis, a few bought images must not vanish in a big pool.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with look():
        figure = Figure(figsize=(max(4.4, 3.15 * columns + 0.2), 2.3 * rows + 0.3))
        for k, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, k + 1)
            # what select() assigned may lie outside what propose() did
            values = np.concatenate([panel.candidates, panel.bought])
            bins = np.histogram_bin_edges(values, bins=40 if len(panel.candidates) else 15).tolist()
            if len(panel.candidates):
                axes.hist(panel.candidates, bins=bins, color=POOL, label="all candidates")
            if len(panel.bought):
                axes.hist(panel.bought, bins=bins, color=BOUGHT_NOW, label="bought")
            if len(panel.candidates):
                axes.set_yscale("log")
                axes.minorticks_off()
                axes.set_ylim(bottom=0.7)
                axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            else:
                axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.set_title(_wrapped(panel.title))
            if k % columns == 0:
                axes.set_ylabel("number, log scale" if len(panel.candidates) else "number")
            if k >= len(panels) - columns:
                axes.set_xlabel("utility (higher is bought first)")
        names = (
            [(BOUGHT_NOW, "bought")]
            if not any(len(p.candidates) for p in panels)
            else [(POOL, "all candidates"), (BOUGHT_NOW, "bought")]
        )
        handles = [Line2D([], [], marker="s", linestyle="none", color=c, label=t) for c, t in names]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def embedding(panels: Sequence[EmbeddingPanel]) -> Figure:
    """Draw one scatter per cycle; points are rasterized, so thousands of them don't weigh on the page."""
    with look():
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(max(4.4, 3.3 * columns + 0.2), 3.1 * rows + 0.5))
        for k, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, k + 1)
            for kind, color, size, alpha in (
                (0, POOL, 8, 0.75),
                (1, BOUGHT_BEFORE, 12, 0.85),
                (2, BOUGHT_NOW, 22, 0.95),
            ):
                points = panel.points[panel.kind == kind]
                points = points[:: max(1, -(-len(points) // _MAX_POINTS))]
                edge = {"edgecolors": INK, "linewidths": 0.4} if kind == 2 else {"linewidths": 0}
                axes.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=size,
                    color=color,
                    alpha=alpha,
                    rasterized=True,
                    zorder=2 + kind,
                    **edge,
                )
            axes.set_title(_wrapped(panel.title))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            for side in ("left", "bottom", "top", "right"):
                axes.spines[side].set_visible(True)
                axes.spines[side].set_color(MUTED)
                axes.spines[side].set_alpha(0.4)
        names = ((POOL, "pool"), (BOUGHT_BEFORE, "labeled before"), (BOUGHT_NOW, "bought now"))
        present = {int(v) for p in panels for v in np.unique(p.kind)}
        handles = [
            Line2D([], [], marker="o", linestyle="none", color=c, label=t)
            for k, (c, t) in enumerate(names)
            if k in present
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def _scatter(axes: Axes, x_N: np.ndarray, y_N: np.ndarray, is_bought_N: np.ndarray) -> None:
    """Draw images as points, those bought on top; of very many only some, rasterized, to keep the page small."""
    for wanted, color, size in ((False, POOL, 9), (True, BOUGHT_NOW, 20)):
        index = np.flatnonzero(is_bought_N == wanted)
        index = index[:: max(1, -(-len(index) // _MAX_POINTS))]
        edge = {"edgecolors": INK, "linewidths": 0.4} if wanted else {"linewidths": 0}
        axes.scatter(
            x_N[index],
            y_N[index],
            s=size,
            color=color,
            alpha=0.85,
            rasterized=True,
            label="bought" if wanted else "not bought",
            zorder=2 + wanted,
            **edge,
        )


def flip_scatter(panels: Sequence[FlipPanel]) -> Figure:
    """Draw entropy against inconsistency, one panel per query, all on the same axes.

    Points are rasterized to keep the page small.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    right, top = (
        max((float(getattr(p, name).max()) for p in panels if len(p.entropy)), default=1.0)
        for name in ("entropy", "inconsistency")
    )
    with look():
        figure = Figure(figsize=(max(4.4, 3.2 * columns + 0.2), 2.8 * rows + 0.4))
        for k, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, k + 1)
            _scatter(axes, panel.entropy, panel.inconsistency, panel.is_bought)
            axes.set_title(_wrapped(panel.title))
            axes.set_xlim(-0.03 * right, 1.05 * right)
            axes.set_ylim(-0.03 * top, 1.06 * top)
            axes.grid(axis="x", visible=True)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
            if k % columns == 0:
                axes.set_ylabel("inconsistency, nats")
            if k >= len(panels) - columns:
                axes.set_xlabel("entropy, 0 to 1")
        handles = [
            Line2D([], [], marker="o", linestyle="none", color=c, label=t)
            for c, t in ((POOL, "not bought"), (BOUGHT_NOW, "bought"))
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def principal_axes(points: np.ndarray, max_rows: int = 4000) -> np.ndarray:
    """Project (N, E) rows onto their first two principal axes, signs fixed so that a redraw looks the same.

    The axes are fitted on at most ``max_rows`` evenly spaced rows: a picture doesn't need more.
    """
    points = np.nan_to_num(np.asarray(points, np.float32))
    sample = points[:: max(1, -(-len(points) // max_rows))]
    mean = sample.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(sample - mean, rowvar=False).reshape(points.shape[1], points.shape[1]))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    flat = (points - mean) @ axes
    return flat if flat.shape[1] == 2 else np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def choice_scatter(panel: ChoicePanel) -> Figure:
    """Draw mean against sum of entropies, those bought on top."""
    with look():
        figure = Figure(figsize=(4.8, 3.2))
        axes = figure.add_subplot()
        _scatter(axes, panel.mean, panel.total, panel.is_bought)
        axes.set_xlabel("mean entropy of an image's boxes, nats")
        axes.set_ylabel("sum, nats")
        axes.grid(axis="x", visible=True)
        figure.legend(loc="outside upper right", ncols=2)
    return figure
