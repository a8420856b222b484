"""The class table that people get with images to label: ids, names and colors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from al_lab.core.files import write_text
from al_lab.core.record.csv_file import csv_text
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED
from al_lab.data.formats.masks import Color

_NONE = ("none", "void", "ignore", "unlabeled")  # of the classes; the first one that is no class itself
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def color_of(label: int) -> Color:
    """Return a class's color: PASCAL VOC's color map from its second entry on, so that black stays free.

    Bits 3 k, 3 k + 1 and 3 k + 2 of the entry's number are bit 7 - k of red, green and blue.
    """
    entry = label + 1
    r, g, b = (sum((entry >> (3 * k + channel) & 1) << (7 - k) for k in range(8)) for channel in range(3))
    return r, g, b


def color_table(num_classes: int) -> dict[Color, int]:
    """Return color to label: the classes, white for none of them, black for what nobody labeled."""
    return {color_of(k): k for k in range(num_classes)} | {_WHITE: NO_CLASS, _BLACK: UNANSWERED}


def none_name(classes: Sequence[str]) -> str:
    """Return the name for pixels of none of the classes."""
    return next(name for name in _NONE if name not in classes)


def hex_of(color: Color) -> str:
    """Return a color as web pages and tools write it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def write_class_table(folder: Path, classes: Sequence[str]) -> None:
    """Write ``classes.txt``, a name a line, and ``class_table.csv`` with ids and colors."""
    colors = {label: color for color, label in color_table(len(classes)).items()}
    names = {**dict(enumerate(classes)), NO_CLASS: none_name(classes), UNANSWERED: "(not labeled)"}
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    rows = ([label, names[label], *colors[label], hex_of(colors[label])] for label in names)
    write_text(folder / "class_table.csv", csv_text(["id", "name", "r", "g", "b", "color"], rows))


def named_colors(classes: Sequence[str]) -> dict[str, str]:
    """Return name to color, ``#rrggbb``, of the classes and of none of them."""
    return {name: hex_of(color_of(k)) for k, name in enumerate(classes)} | {none_name(classes): hex_of(_WHITE)}


def cvat_labels(classes: Sequence[str]) -> str:
    """Return what CVAT takes as the labels of a task ("Raw")."""
    rows = [{"name": n, "color": c, "attributes": []} for n, c in named_colors(classes).items()]
    return json.dumps(rows, indent=1) + "\n"
