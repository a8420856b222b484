"""Figures of bought pixels.

Grids of pictures, classes on a log scale, calibration of densities, features on a plane.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from al_lab.data.formats.images import open_image
from al_lab.reporting.figures.theme import CLASS_COLORS, GRID, INK, MUTED, look

PICTURE_PX = 420  # longer side of a picture in a grid
_VOID = (0, 0, 0)
_CHARS = 12.5  # of a picture's title, an inch
_FEW = 1500  # so many bought pixels of an image are drawn larger than they are
# Cityscapes' own colors, by the names that datasets here use.
_NAMED = {
    "road": "#804080",
    "sidewalk": "#f423e8",
    "building": "#464646",
    "wall": "#66669c",
    "fence": "#be9999",
    "pole": "#999999",
    "light": "#faaa1e",
    "traffic light": "#faaa1e",
    "sign": "#dcdc00",
    "traffic sign": "#dcdc00",
    "vegetation": "#6b8e23",
    "terrain": "#98fb98",
    "sky": "#4682b4",
    "person": "#dc143c",
    "rider": "#ff0000",
    "car": "#00008e",
    "truck": "#000046",
    "bus": "#003c64",
    "train": "#005064",
    "motorcycle": "#0000e6",
    "bicycle": "#770b20",
}

Panel = tuple[str, np.ndarray | None]


def palette(names: Sequence[str]) -> dict[str, str]:
    """Class name -> color: Cityscapes' where all have one, so that pictures look as in papers."""
    if all(name in _NAMED for name in names):
        return {name: _NAMED[name] for name in names}
    if len(names) <= len(CLASS_COLORS):
        return dict(zip(names, CLASS_COLORS, strict=False))
    return dict(
        zip(names, map(mpl.colors.to_hex, mpl.colormaps["turbo"](np.linspace(0.02, 0.98, len(names)))), strict=True)
    )


def round_colors(count: int) -> list[str]:
    """Return one color a purchase, the earliest darkest."""
    return [mpl.colors.to_hex(c) for c in mpl.colormaps["plasma"](np.linspace(0.3, 0.97, max(count, 1)))]


def open_picture(path: Path) -> np.ndarray:
    """Return an image, (H, W, 3) uint8, its longer side `PICTURE_PX`.

    Small ones are enlarged, so that single pixels can be seen.
    """
    with open_image(path) as image:
        scale = PICTURE_PX / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return np.asarray(
            image.convert("RGB").resize(size, Image.Resampling.BILINEAR if scale < 1 else Image.Resampling.NEAREST)
        )


def overlay(picture: np.ndarray, masks: Sequence[np.ndarray], colors: Sequence[str]) -> np.ndarray:
    """Return the picture in pale gray with the pixels of each purchase in its color.

    Args:
        picture: (h, w, 3) uint8.
        masks: (H, W) bool at the image's own size, one a purchase.
        colors: of the purchases.
    """
    gray = picture.mean(2, keepdims=True) * 0.55 + 30
    out = np.repeat(gray, 3, 2).astype(np.uint8)
    height, width = out.shape[:2]
    reach = 1 if sum(int(m.sum()) for m in masks) < _FEW else 0
    for mask, color in zip(masks, colors, strict=True):
        rows, columns = np.nonzero(mask)
        y, x = (
            (at + 0.5) * small / full
            for at, small, full in ((rows, height, mask.shape[0]), (columns, width, mask.shape[1]))
        )
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                out[np.clip(y.astype(int) + dy, 0, height - 1), np.clip(x.astype(int) + dx, 0, width - 1)] = [
                    round(255 * v) for v in to_rgb(color)
                ]
    return out


def color_labels(label_HW: np.ndarray, colors: Sequence[str]) -> np.ndarray:
    """Return a label map in colors, (H, W, 3) uint8; what is no class is black."""
    table = np.full((256, 3), _VOID, np.uint8)
    table[: len(colors)] = [[round(255 * v) for v in to_rgb(c)] for c in colors]
    return table[label_HW]


def color_values(values_HW: np.ndarray, name: str) -> np.ndarray:
    """Return a map of numbers in colors, the smallest dark, the largest bright; numbers that are none are dark."""
    low, high = (float(f(values_HW[np.isfinite(values_HW)], initial=0)) for f in (np.min, np.max))
    scaled = np.nan_to_num((values_HW - low) / (high - low)) if high > low else np.zeros_like(values_HW)
    return (mpl.colormaps[name](scaled)[..., :3] * 255).astype(np.uint8)


def image_grid(rows: Sequence[Sequence[Panel]], legend: Mapping[str, str]) -> Figure:
    """Draw pictures side by side, each below its title, which is broken into lines where it is wider than its picture.

    None leaves a gap.
    """
    columns = max(map(len, rows))
    shapes = [p.shape for row in rows for _, p in row if p is not None]
    tall = float(np.median([s[0] / s[1] for s in shapes])) if shapes else 0.5
    width = min(3.1, 9.6 / columns)
    rows = [
        [
            ("\n".join(part for line in title.split("\n") for part in textwrap.wrap(line, int(width * _CHARS))), p)
            for title, p in row
        ]
        for row in rows
    ]
    title_lines = sum(max(title.count("\n") + 1 if title else 0 for title, _ in row) for row in rows)
    per_line = max(1, int(columns * width / 1.15))
    below = 0.24 * -(-len(legend) // per_line) + 0.1 if legend else 0
    with look():
        figure = Figure(
            figsize=(columns * width, len(rows) * (width * tall + 0.05) + 0.1 * len(rows) + 0.16 * title_lines + below)
        )
        for r, row in enumerate(rows):
            for c, (title, picture) in enumerate(row):
                axes = figure.add_subplot(len(rows), columns, r * columns + c + 1)
                axes.set_axis_off()
                axes.set_title(title, fontsize=9)
                if picture is not None:
                    axes.imshow(picture, interpolation="none", aspect="auto")
        if legend:
            handles = [
                Line2D([], [], marker="s", linestyle="none", markersize=8, color=color, label=name)
                for name, color in legend.items()
            ]
            figure.legend(
                handles=handles,
                loc="outside lower center",
                ncols=min(len(legend), per_line),
                fontsize=9,
                handletextpad=0.2,
            )
    return figure


@dataclass(frozen=True)
class Shares:
    """Shares of the classes in one drawing, fractions."""

    label: str
    color: str
    marker: str
    values: np.ndarray


def log_shares(names: Sequence[str], groups: Sequence[Shares]) -> Figure:
    """Draw one row a class and one mark a group, shares on a logarithmic axis.

    A share of zero is a hollow mark at the left edge.
    """
    positive = np.concatenate([g.values[g.values > 0] for g in groups])
    left = 100 * float(positive.min()) / 1.5 if len(positive) else 0.01
    with look():
        figure = Figure(figsize=(6.4, max(2.0, 1.2 + 0.3 * len(names))))
        axes = figure.add_subplot()
        axes.set_xscale("log")
        for y in range(len(names)):
            at = [max(100 * g.values[y], left) for g in groups]
            axes.plot([min(at), max(at)], [y, y], color=GRID, linewidth=3, zorder=1, solid_capstyle="round")
        for g in groups:
            for is_zero in (False, True):
                rows = np.flatnonzero((g.values <= 0) == is_zero)
                x = np.maximum(100 * g.values[rows], left)
                is_tick = g.marker == "|"  # must be seen where another mark has the same place
                size: dict[str, Any] = (
                    {"markersize": 15, "markeredgewidth": 2, "zorder": 4} if is_tick else {"markersize": 7, "zorder": 3}
                )
                axes.plot(
                    x,
                    rows,
                    linestyle="none",
                    marker=g.marker,
                    color=g.color,
                    label=None if is_zero else g.label,
                    markerfacecolor="none" if is_zero else g.color,
                    **size,
                )
        axes.set_xlim(left=left * 0.85)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of pixels with a class, %, log scale")
        longest = max(len(g.label) for g in groups)
        figure.legend(loc="outside upper center", ncols=max(1, min(len(groups), int(6.4 / (0.45 + 0.085 * longest)))))
    return figure


@dataclass(frozen=True)
class CalibrationPanel:
    """Centers of plain k-center: estimated density, average radial distance.

    The fit is the line of the latter on 1/d; None: there is none.
    """

    title: str
    color: str
    density: np.ndarray
    radial: np.ndarray
    fit: tuple[float, float, float] | None  # slope, intercept, R^2


def calibration(panels: Sequence[CalibrationPanel]) -> Figure:
    """Draw average radial distance against density, one panel a strategy, with the fitted a / d + c."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with look():
        figure = Figure(figsize=(max(4.4, 3.3 * columns), 2.9 * rows))
        for k, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, k + 1)
            axes.scatter(panel.density, panel.radial, s=14, color=panel.color, alpha=0.7, linewidths=0, rasterized=True)
            title = panel.title
            if panel.fit is not None:
                slope, intercept, r2 = panel.fit
                d = np.linspace(max(panel.density.min(), 1e-6), panel.density.max(), 200)
                axes.plot(d, slope / d + intercept, color=INK, linewidth=1.4)
                title += f"\nR² = {r2:.2f}, a = {slope:.3g}".replace("-", "−")
            axes.set_title(title)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
            if k % columns == 0:
                axes.set_ylabel("average radial distance")
            if k >= len(panels) - columns:
                axes.set_xlabel("estimated density d")
    return figure


def densities(values_of: Sequence[tuple[str, str, np.ndarray]]) -> Figure:
    """Draw how far estimated densities are spread, on a logarithmic axis.

    Args:
        values_of: title, color and (E,) densities > 0 of each strategy.
    """
    with look():
        figure = Figure(figsize=(4.8, 2.7))
        axes = figure.add_subplot()
        low, high = (float(np.log10(f([f(values) for _, _, values in values_of]))) for f in (np.min, np.max))
        bins = np.logspace(low - 0.02, high + 0.02, 41)
        for title, color, values in values_of:
            share, edges = np.histogram(values, bins=bins, weights=np.full(len(values), 100 / len(values)))
            axes.stairs(share, edges, color=color, linewidth=1.6, label=title)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_xlabel("estimated density d, log scale")
        axes.set_ylabel("share of locations, %")
        if len(values_of) > 1:
            axes.legend()
    return figure


@dataclass(frozen=True)
class FeaturePanel:
    """Features of pixels on a plane: (P, 2) points, (P,) classes (255: none) and whether each was bought."""

    title: str
    points: np.ndarray
    labels: np.ndarray
    is_bought: np.ndarray


def features(panels: Sequence[FeaturePanel], colors: Mapping[str, str]) -> Figure:
    """Draw one scatter a strategy: pixels in their class's color, bought ones larger and outlined."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    hexes, names = list(colors.values()), list(colors)
    present = sorted({int(v) for p in panels for v in np.unique(p.labels) if v < len(names)})
    width = max(4.8, 3.3 * columns)
    with look():
        figure = Figure(figsize=(width, 3.2 * rows + 0.24 * math.ceil((len(present) + 1) / (width / 1.15)) + 0.2))
        for k, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, k + 1)
            color_P = np.asarray([hexes[v] if v < len(hexes) else MUTED for v in panel.labels])
            for wanted, size, alpha, edge in (
                (False, 7, 0.55, {"linewidths": 0}),
                (True, 20, 0.95, {"edgecolors": INK, "linewidths": 0.6}),
            ):
                some = panel.is_bought == wanted
                x, y = panel.points[some].T
                axes.scatter(x, y, s=size, c=color_P[some], alpha=alpha, rasterized=True, zorder=2 + wanted, **edge)
            axes.set_title(panel.title)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        handles = [Line2D([], [], marker="o", linestyle="none", color=hexes[v], label=names[v]) for v in present]
        handles.append(Line2D([], [], marker="o", linestyle="none", color="none", markeredgecolor=INK, label="bought"))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=max(1, int(width / 1.15)), fontsize=9, handletextpad=0.2
        )
    return figure
