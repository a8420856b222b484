"""Figures of what was reached and what it cost. Each function draws one figure from plain numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from al_lab.reporting.figures.theme import GRID, INK, MUTED, color_of, look, marker_of
from al_lab.reporting.judge.curves import Band, Curve

MOST_BARS = 3  # lines with error bars in one panel; more of them get a panel each
_TITLE_LENGTH = 30  # characters above a panel
_DODGE = 0.012  # of the axis, between the error bars of two lines
_FAR = 10  # as many labels more than the shortest line
_STAGE_COLORS = (
    "#0077bb",
    "#33bbee",
    "#ee7733",
    "#009988",
    "#aa4499",
    "#997700",
    "#ee3377",
    "#868f9b",
    "#44aa99",
    "#bb5566",
)


@dataclass(frozen=True)
class Line:
    """One strategy in a learning curve: its mean over seeds, and the seeds themselves."""

    label: str
    strategy: str
    band: Band
    curves: Mapping[int, Curve]


def learning_curve(
    lines: Sequence[Line], levels: Mapping[str, Sequence[float]], metric_label: str, spent_label: str
) -> Figure:
    """Draw metric against labels bought.

    Args:
        lines: one per strategy; up to `MOST_BARS` of them have bars of one standard error, side by side.
        levels: name of a training on all labels, or on none -> the metric of each of its runs: a broken line at their
            mean.
        metric_label: name of the metric; values are fractions and shown in percent.
        spent_label: what was bought, with its unit.
    """
    labels = [line.label for line in lines]
    # names of variants, or of many lines, would cover the lines
    is_long = len(lines) > MOST_BARS or any(line.label != line.strategy for line in lines)
    with look():
        figure = Figure(figsize=(5.5, 3.6 + (0.2 * len(lines) if is_long else 0)))
        axes = figure.add_subplot()
        for k, (name, values) in enumerate(levels.items()):
            _level_line(axes, name, values, ((5, 3), (1.2, 2.2))[k % 2])
        width = max((float(np.ptp(line.band.spent)) for line in lines if len(line.band.spent)), default=0.0)
        ordered = sorted(lines, key=lambda item: item.strategy != "random")  # random below the others
        for k, line in enumerate(ordered):
            shift = (k - (len(lines) - 1) / 2) * _DODGE * width if len(lines) <= MOST_BARS else None
            _draw_line(axes, line, labels, shift)
        axes.set_xlabel(spent_label)
        axes.set_ylabel(f"{metric_label}, %")
        _labels_axis(axes, lines)
        axes.margins(y=0.08)
        handles, names = axes.get_legend_handles_labels()
        if names:
            order = sorted(
                range(len(names)),
                key=lambda i: (names[i].startswith(tuple(levels) or ("full data",)), names[i].startswith("random")),
            )
            where = figure if is_long else axes
            where.legend(
                [handles[i] for i in order],
                [names[i] for i in order],
                loc="outside upper center" if is_long else "lower right",
                ncols=1 if not is_long or max(map(len, names)) > _TITLE_LENGTH else 2,
            )
    return figure


def _draw_line(axes: Axes, line: Line, labels: Sequence[str], shift: float | None) -> None:
    """Draw a mean with bars at its points, moved by ``shift`` so that bars of two lines lie side by side.

    None: no bars.
    """
    color, marker = color_of(line.strategy, line.label, labels), marker_of(line.strategy, line.label, labels)
    seeds = f" ({line.band.num_seeds} seeds)" if line.band.num_seeds > 1 else ""
    x, mean = line.band.spent, 100 * line.band.mean
    # In boxes each seed has its own x: markers sit on the seeds' points, the line is their mean.
    own = len(line.curves) > 1 and any(len(c) != len(x) or not np.allclose(c.spent, x) for c in line.curves.values())
    axes.plot(x, mean, color=color, marker=None if own else marker, label=line.label + seeds, zorder=3)
    if own:
        for curve in line.curves.values():
            axes.plot(
                curve.spent,
                100 * curve.metric,
                color=color,
                marker=marker,
                markersize=3.5,
                linestyle="none",
                alpha=0.55,
            )
    elif line.band.num_seeds > 1 and shift is not None:
        error = 100 * line.band.standard_error
        axes.errorbar(x + shift, mean, error, fmt="none", color=color, capsize=2.5, elinewidth=1.2, zorder=2)


def panels(lines: Sequence[Line], levels: Mapping[str, Sequence[float]], metric_label: str, spent_label: str) -> Figure:
    """Draw one panel per line, each beside random in gray, with bands of one standard error.

    It is for more lines than one panel can hold.
    """
    labels = [line.label for line in lines]
    random = next((line for line in lines if line.strategy == "random"), None)
    others = [line for line in lines if line is not random]
    columns = min(3, len(others))
    rows = -(-len(others) // columns)
    with look():
        figure = Figure(figsize=(3.0 * columns, 2.35 * rows + 0.3))
        first: Axes | None = None
        for k, line in enumerate(others):
            axes = figure.add_subplot(rows, columns, k + 1, sharex=first, sharey=first)
            first = first or axes
            for j, values in enumerate(levels.values()):
                axes.axhline(
                    100 * float(np.nanmean(values)), color=INK, linestyle=(0, ((5, 3), (1.2, 2.2))[j % 2]), linewidth=1
                )
            for drawn in [random, line] if random is not None else [line]:
                color = color_of(drawn.strategy, drawn.label, labels)
                x, mean, error = drawn.band.spent, 100 * drawn.band.mean, 100 * np.nan_to_num(drawn.band.standard_error)
                axes.fill_between(x, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
                axes.plot(x, mean, color=color, marker=marker_of(drawn.strategy, drawn.label, labels), markersize=4)
            axes.set_title(fill(line.label, _TITLE_LENGTH), fontsize=10)
            _labels_axis(axes, lines)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
            axes.label_outer()
        figure.supxlabel(spent_label, fontsize=10)
        figure.supylabel(f"{metric_label}, %", fontsize=10)
    return figure


def _labels_axis(axes: Axes, lines: Sequence[Line]) -> None:
    """Spread the axis of labels by powers of ten if one line buys ten times what another does."""
    last = [line.band.spent[-1] for line in lines if len(line.band.spent) > 1]
    if last and max(last) > _FAR * min(last):
        axes.set_xscale("symlog", linthresh=min(x for line in lines for x in line.band.spent if x > 0))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _level_line(axes: Axes, name: str, of_runs: Sequence[float], dashes: tuple[float, float]) -> None:
    values = 100 * np.asarray([v for v in of_runs if np.isfinite(v)], float)
    if len(values) == 0:
        return
    seeds = f" ({len(values)} seeds)" if len(values) > 1 else ""
    axes.axhline(values.mean(), color=INK, linestyle=(0, dashes), linewidth=1.4, label=name + seeds)


_MOST_BARS_WITH_TEXT = 4  # of a name; numbers beside thinner bars would overlap


def grouped_bars(
    names: Sequence[str], groups: Mapping[str, Sequence[float]], colors: Sequence[str], value_label: str
) -> Figure:
    """Draw horizontal bars: one row per name, one bar per group in it; values are fractions shown in percent."""
    n, g = len(names), max(1, len(groups))
    step = min(0.9, 0.26 * g + 0.14) if n <= 30 else max(0.2, 0.11 * g + 0.06)
    with look():
        figure = Figure(figsize=(6.4, max(1.8, 0.9 + n * step)))
        axes = figure.add_subplot()
        height = 0.78 / g
        for k, ((label, values), color) in enumerate(zip(groups.items(), colors, strict=False)):
            widths = 100 * np.asarray(values, float)
            y = np.arange(n) - 0.39 + height * (k + 0.5)
            axes.barh(y, np.nan_to_num(widths), height * 0.92, color=color, label=label)
            for yy, width in zip(y, widths, strict=True) if g <= _MOST_BARS_WITH_TEXT and n * g <= 60 else ():
                text = f"{width:.1f}" if np.isfinite(width) else "none"
                axes.annotate(
                    text,
                    (np.nan_to_num(width), yy),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=MUTED,
                )
        axes.set_yticks(range(n), names, fontsize=9.5 if n <= 30 else 7)
        axes.set_ylim(n - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.1)
        axes.set_xlabel(value_label)
        if g > 1:
            columns = max(1, min(g, int(60 / (5 + max(map(len, groups))))))  # what fits the width
            figure.legend(loc="outside upper center", ncols=columns)
    return figure


def bars_per_purchase(names: Sequence[str], panels: Mapping[str, Sequence[float]], color: str) -> Figure:
    """Draw one panel per unit (images, boxes, hours): what each purchase cost, and the sum so far as a line."""
    with look():
        figure = Figure(figsize=(3.1 * max(1, len(panels)), 2.9))
        for k, (label, given) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), k + 1)
            values = np.nan_to_num(np.asarray(given, float))
            axes.bar(range(len(values)), values, color=color, width=0.62, label="this purchase")
            axes.plot(
                range(len(values)),
                values.cumsum(),
                color=INK,
                marker="o",
                markersize=4,
                linewidth=1.4,
                label="sum so far",
            )
            axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 6 else 60, fontsize=8.5)
            axes.set_title(label)
            axes.set_ylim(bottom=0)
            if k == 0:
                axes.legend(loc="upper left", fontsize=8.5)
    return figure


def stage_times(cycles: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Draw stacked bars: one row per cycle, one colour per stage, in the order they ran."""
    total = sum(np.nansum(v) for v in seconds.values())
    unit, divisor = ("hours", 3600) if total > 3 * 3600 else ("minutes", 60) if total > 180 else ("seconds", 1)
    with look():
        figure = Figure(figsize=(6.4, max(1.9, 1.3 + 0.36 * len(cycles))))
        axes = figure.add_subplot()
        left = np.zeros(len(cycles))
        for k, (stage, values) in enumerate(seconds.items()):
            width = np.nan_to_num(np.asarray(values, float)) / divisor
            axes.barh(
                range(len(cycles)), width, 0.66, left=left, color=_STAGE_COLORS[k % len(_STAGE_COLORS)], label=stage
            )
            left += width
        axes.set_yticks(range(len(cycles)), cycles)
        axes.set_ylim(len(cycles) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(unit)
        figure.legend(loc="outside upper center", ncols=min(6, len(seconds)), fontsize=9)
    return figure


def class_by_cycle(
    classes: Sequence[str], spent: Sequence[float], values_CT: np.ndarray, metric_label: str, spent_label: str
) -> Figure:
    """Draw a heat map: classes down, cycles across, the metric in percent as colour (and as text where it fits)."""
    with look():
        figure = Figure(
            figsize=(
                min(9.0, 2.6 + 0.62 * len(spent)),
                max(1.9, 1.2 + (0.3 if len(classes) <= 30 else 0.16) * len(classes)),
            )
        )
        axes = figure.add_subplot()
        top = max(1.0, float(np.nan_to_num(100 * values_CT).max()))
        image = axes.imshow(100 * values_CT, aspect="auto", cmap="cividis", vmin=0, vmax=top)
        axes.set_xticks(range(len(spent)), [f"{v:g}" for v in spent], fontsize=8.5)
        axes.set_yticks(range(len(classes)), classes, fontsize=9.5 if len(classes) <= 30 else 7)
        axes.grid(visible=False)
        axes.set_xlabel(spent_label)
        for (row, column), value in np.ndenumerate(100 * values_CT) if len(classes) <= 30 else ():
            if np.isfinite(value):
                axes.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="#ffffff" if value < 0.55 * top else "#000000",
                )
        bar = figure.colorbar(image, ax=axes, shrink=0.9)
        bar.set_label(f"{metric_label}, %")
        bar.outline.set_edgecolor(GRID)
    return figure
