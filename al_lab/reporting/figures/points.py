"""The learning curves of a file of points."""

import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from al_lab.reporting.figures.curves import MOST_BARS, Line, learning_curve, panels
from al_lab.reporting.judge.curves import band
from al_lab.reporting.judge.judge import Line as Judged
from al_lab.reporting.judge.points import Points
from al_lab.reporting.read.line_names import FULL_DATA, NO_LABELS
from al_lab.reporting.read.run_folder import METRIC_LABELS


def curves_of_points(points: Points, name: str) -> dict[str, Figure]:
    """Draw a reference and the lines measured against it; many of them get a panel each.

    Returns:
        File name to figure; of several references (budgets) each has its own.
    """
    lines = [line for line in points.judge.lines if not _level(line.label)]
    levels = [line for line in points.judge.lines if _level(line.label)]
    references = list(dict.fromkeys(r for line in lines for r in line.references))
    blocks = {r: [line for line in lines if line.label == r or r in line.references] for r in references}
    if len(blocks) < 2:  # noqa: PLR2004
        return {name: _drawn(points, lines, levels, "")}
    ends = {r: r.rpartition(", ")[2] for r in references}
    slugs = {r: re.sub(r"\W+", "_", end).strip("_") for r, end in ends.items()}
    return {f"{name}_{slugs[r]}": _drawn(points, block, levels, f", {ends[r]}") for r, block in blocks.items()}


def _drawn(points: Points, lines: Sequence[Judged], levels: Sequence[Judged], common: str) -> Figure:
    names = {line.label: line.label.removesuffix(common) for line in lines}
    drawn = [Line(names[s.label], _strategy(s.label), band(list(s.curves.values())), s.curves) for s in lines]
    heights = {_level(s.label): [float(curve.metric[-1]) for curve in s.curves.values()] for s in levels}
    draw = learning_curve if len(drawn) <= MOST_BARS else panels
    return draw(drawn, heights, METRIC_LABELS.get(points.metric, points.metric), f"labeled {points.column}")


def _level(label: str) -> str:
    """Return which training of one point a line is; empty if it is none."""
    if label.startswith(FULL_DATA) or label.endswith(", full"):
        return FULL_DATA
    return NO_LABELS if label.startswith(NO_LABELS) else ""


def _strategy(label: str) -> str:
    """Return the strategy a label begins with: it decides the color."""
    return label.replace(",", " ").split()[0]
