"""What an annotation file draws over the pixels of one image: polygons, brush strokes, masks; and single points.

A pixel (x, y) covers [x, x + 1) x [y, y + 1), and belongs to an outline if its center lies inside by the even-odd rule;
so outlines that share an edge share no pixel. Where areas overlap, the one that was drawn later lies on top: the later
one in the file, and in CVAT first the one of the higher ``z_order``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.record.pixel_labels import NO_CLASS, PixelLabels

#: Names of classes that mean no class, unless a class is called so.
NO_CLASS_NAMES = frozenset({"none", "void", "ignore", "ignored", "unlabeled", "unlabelled"})
Fill = Callable[[tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Area:
    """One thing that was drawn.

    Attributes:
        name: of its class.
        fill: takes the image's size and returns the (H, W) bool mask; it may raise `DataError`.
        where: file and entry, for messages.
    """

    name: str
    fill: Fill
    where: str


@dataclass(frozen=True)
class Point:
    """One pixel that was named.

    Attributes:
        name: of its class.
        x: continuous, 0-based.
        y: the same.
        where: file and entry, for messages.
    """

    name: str
    x: float
    y: float
    where: str


@dataclass(frozen=True)
class AreaRecord:
    """One image, and what a file draws over it; the counterpart of `al_lab.data.formats.record.Record` for pixels.

    Attributes:
        file_name: of the image as the file names it.
        areas: the lowest first.
        points: in the file's order.
        where: file and entry, for messages.
        size_hw: of the image as the file says; None where it says nothing.
        is_done: whether the tool says that somebody finished the image; None where its format can't say.
        key: our own id, where the tool carried it along.
        seconds: a person spent on it, where the tool knows.
        notes: a sentence for each thing that was worked around.
    """

    file_name: str
    areas: tuple[Area, ...]
    points: tuple[Point, ...]
    where: str
    size_hw: tuple[int, int] | None = None
    is_done: bool | None = None
    key: str | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = field(default=())

    def labels(self, classes: Sequence[str], size_hw: tuple[int, int]) -> PixelLabels:
        """Draw the areas in their order; pixels outside all of them are not answered.

        Raises:
            DataError: for an unknown class, and for areas that make no sense.
        """
        found = PixelLabels.none(size_hw)
        for area in self.areas:
            found.map_HW[area.fill(size_hw)] = label_of(area.name, classes, area.where)
        return found


def label_of(name: str, classes: Sequence[str], where: str, do: str = "") -> int:
    """Return the label of a class by its name.

    Args:
        name: as somebody wrote it.
        classes: names in label order.
        where: file and entry.
        do: a remedy besides the nearest name.

    Raises:
        DataError: if no class is called so.
    """
    if name in classes:
        return classes.index(name)
    if name.lower() in NO_CLASS_NAMES:
        return NO_CLASS
    raise DataError(
        explain(
            expected=f"one of {len(classes)} known classes, or 'none'",
            got=repr(name),
            where=where,
            do="; ".join(filter(None, (did_you_mean(name, classes), do))),
        )
    )


def fill_rings(rings: Sequence[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels whose center lies inside outlines.

    Args:
        rings: (N, 2) float64 corners x, y each; the last is joined to the first.
        size_hw: of the image; what lies outside is cut off.

    Returns:
        (H, W) bool.
    """
    height, width = size_hw
    # Along a row each crossed edge switches between outside and inside.
    switches = np.zeros((height, width + 1), bool)
    for ring in rings:
        following = np.roll(ring, -1, axis=0)
        # Always from the top down, so that two outlines round the crossings of a shared edge alike.
        is_down = ring[:, 1] <= following[:, 1]
        x0, y0 = np.where(is_down, ring.T, following.T)
        x1, y1 = np.where(is_down, following.T, ring.T)
        first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (y0, y1))
        counts = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(ring)), counts)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        x = x0[edge] + (rows + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
        np.logical_xor.at(switches, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), True)
    return np.logical_xor.accumulate(switches, axis=1)[:, :width]


def fill_ellipse(
    center_xy: tuple[float, float], radius_xy: tuple[float, float], degrees: float, size_hw: tuple[int, int]
) -> np.ndarray:
    """Return the pixels whose center lies in an ellipse that is turned clockwise, (H, W) bool."""
    if min(radius_xy) <= 0:
        return np.zeros(size_hw, bool)
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    dx, dy = x + 0.5 - center_xy[0], y + 0.5 - center_xy[1]
    angle = np.deg2rad(degrees)
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside: np.ndarray = (along / radius_xy[0]) ** 2 + (across / radius_xy[1]) ** 2 <= 1
    return inside


def fill_runs(runs: np.ndarray, box_xywh: tuple[int, int, int, int], size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a mask that is given by runs inside a box, row by row, the first run outside.

    Args:
        runs: (n,) int64 lengths, alternating between outside and inside; they sum to the box's area.
        box_xywh: left, top, width, height in pixels.
        size_hw: of the image; what lies outside is cut off.

    Returns:
        (H, W) bool.
    """
    left, top, width, height = box_xywh
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size_hw, bool)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, size_hw[0]), min(left + width, size_hw[1])
    if y1 > y0 and x1 > x0:
        mask[y0:y1, x0:x1] = inside[y0 - top : y1 - top, x0 - left : x1 - left]
    return mask


def turned_box(box_xyxy: Sequence[float], pivot_xy: tuple[float, float], degrees: float) -> np.ndarray:
    """Return the corners of a box that is turned clockwise about a point, (4, 2) float64."""
    x1, y1, x2, y2 = box_xyxy
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (corners - pivot_xy) @ turn.T + pivot_xy
