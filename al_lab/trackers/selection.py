"""A selection as a tracker receives it: rows of ids, utilities, image paths and bought boxes."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from al_lab.core.errors import DataError
from al_lab.data.formats.images import small_rgb
from al_lab.reporting.figures.theme import CLASS_COLORS

log = logging.getLogger(__name__)

MAX_IMAGES = 50  # of one selection
_IMAGE_PX = 512  # longer side of what is sent

# One bought image: id, utility, image (path), boxes_xyxy (G, 4), labels (G indices), classes (names).
Row = Mapping[str, Any]


def utilities_of(rows: Sequence[Row]) -> np.ndarray:
    """Return the finite utilities, (n,)."""
    values = np.asarray([row["utility"] for row in rows if row.get("utility") is not None], float)
    return values[np.isfinite(values)]


def class_counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of bought objects of each class."""
    return dict(Counter(class_name(row, label) for row in rows for label in row.get("labels", ())))


def class_name(row: Row, label: int) -> str:
    """Return the name of a label, or its number where the names aren't known."""
    names = row.get("classes", ())
    return str(names[label]) if 0 <= int(label) < len(names) else str(label)


def picture_of(row: Row) -> tuple[Image.Image | None, float]:
    """Return the image, small enough to send, and its scale; None (logged) if it can't be opened."""
    path = Path(str(row.get("image")))
    try:
        return small_rgb(path, _IMAGE_PX)
    except DataError as error:
        log.warning("the image of %r is left out of the tracked selection: %s", row.get("id"), error)
        return None, 1.0


def drawn(picture: Image.Image, row: Row, scale: float) -> Image.Image:
    """Return the picture with its bought boxes drawn in."""
    draw = ImageDraw.Draw(picture)
    for box, label in zip(row.get("boxes_xyxy", ()), row.get("labels", ()), strict=False):
        x1, y1, x2, y2 = (float(v) * scale for v in box)
        if x2 >= x1 and y2 >= y1:
            draw.rectangle((x1, y1, x2, y2), outline=CLASS_COLORS[int(label) % len(CLASS_COLORS)], width=2)
    return picture
