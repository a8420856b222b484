"""Pictures of what was bought: small JPEGs with the bought boxes drawn in."""

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from al_lab.core.errors import LabError
from al_lab.core.files import atomic_path
from al_lab.core.pool import load_mask
from al_lab.data.formats.images import small_rgb
from al_lab.reporting.figures.theme import CLASS_COLORS
from al_lab.reporting.read.run_folder import Choice

log = logging.getLogger(__name__)

THUMBNAIL_PX = 200  # longer side
MAX_PER_CYCLE = 16
_QUALITY = 78


@dataclass(frozen=True)
class Tile:
    """One thumbnail.

    Attributes:
        picture: the drawn image, None if the file can't be opened.
        problem: why not.
        words: what to say below it instead of utility and number of objects.
    """

    choice: Choice
    picture: Image.Image | None
    problem: str = ""
    words: str = ""

    @property
    def caption(self) -> str:
        """Id and what was found in it."""
        return self.choice.sample_id

    @property
    def detail(self) -> str:
        """Utility and number of objects (or "pixels" where some were bought), in words."""
        if self.words:
            return self.words
        utility = "" if self.choice.utility is None else f"utility {self.choice.utility:.3g}"
        count = len(self.choice.labels)
        objects = f"{count} object{'' if count == 1 else 's'}"
        labels = "pixels" if self.choice.mask else "" if self.choice.has_map else objects
        return ", ".join(part for part in (utility, labels) if part)

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address."""
        if self.picture is None:
            return ""
        stream = io.BytesIO()
        self.picture.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Class name -> colour of its boxes."""
    return {name: CLASS_COLORS[k % len(CLASS_COLORS)] for k, name in enumerate(classes)}


def tiles(
    choices: Sequence[Choice], colors: Mapping[str, str], limit: int = MAX_PER_CYCLE, size_px: int = THUMBNAIL_PX
) -> list[Tile]:
    """Draw up to ``limit`` of the choices, evenly spread over their ranks, the first always among them."""
    if len(choices) > limit:
        choices = [choices[i] for i in np.linspace(0, len(choices) - 1, limit).round().astype(int)]
    return [_tile(choice, colors, size_px) for choice in choices]


def _tile(choice: Choice, colors: Mapping[str, str], size_px: int) -> Tile:
    if choice.image is None:
        return Tile(choice, None, "no image that may be shown")
    try:
        picture, scale = small_rgb(choice.image, size_px)
        if choice.mask is not None:
            picture = _tint(picture, load_mask(choice.mask))
    except LabError as error:
        return Tile(choice, None, str(error))
    except Exception as error:  # noqa: BLE001 - a damaged mask raises many kinds; the page goes on without it
        return Tile(choice, None, f"{choice.mask}: {type(error).__name__}: {error}")
    for box, label in zip(choice.boxes_xyxy, choice.labels, strict=False):
        draw_box(picture, np.asarray(box, float) * scale, colors.get(label, CLASS_COLORS[0]))
    return Tile(choice, picture)


def draw_box(picture: Image.Image, box_xyxy: np.ndarray, color: str) -> None:
    """Draw a box in the picture's own pixels; one that is none is left out."""
    x1, y1, x2, y2 = map(float, box_xyxy)
    if not np.isfinite([x1, y1, x2, y2]).all() or x2 < x1 or y2 < y1:
        return
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="#10141a", width=1)
    draw.rectangle((x1, y1, x2, y2), outline=color, width=2)


def _tint(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """Colour the bought pixels; single ones grow to at least one pixel of the thumbnail."""
    rows, columns = np.nonzero(mask)
    small = np.zeros((picture.height, picture.width), bool)
    small[rows * picture.height // mask.shape[0], columns * picture.width // mask.shape[1]] = True
    array = np.asarray(picture).copy()
    array[small] = (238, 51, 119)
    return Image.fromarray(array)


def save_sheet(sheet: Sequence[Tile], folder: Path, name: str, columns: int = 8) -> list[Path]:
    """Write the tiles as one picture, PNG and PDF."""
    pictures = [t.picture for t in sheet if t.picture is not None]
    if not pictures:
        return []
    width, height = (max(THUMBNAIL_PX, *(p.size[axis] for p in pictures)) + 8 for axis in (0, 1))
    columns = max(1, min(len(pictures), columns * (THUMBNAIL_PX + 8) // width))
    page = Image.new("RGB", (width * columns, height * -(-len(pictures) // columns)), "white")
    for k, picture in enumerate(pictures):
        x, y = (k % columns) * width, (k // columns) * height
        page.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in paths:
        with atomic_path(path) as temporary:
            page.save(temporary, format=path.suffix[1:].upper())
    return paths
