"""labelme: one JSON file an image, shapes with points.

Rectangles are read as boxes, other shapes as the boxes around them; for label maps all shapes as the pixels they cover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from al_lab.core.documents import Entry, Source
from al_lab.core.fields import anything, at_least, class_name, coordinate, list_of, optional, text
from al_lab.core.files import write_json
from al_lab.data.formats.areas import Area, AreaRecord, Point, fill_ellipse, fill_rings
from al_lab.data.formats.record import Record, losses


def is_labelme(content: Any) -> bool:
    """Say whether a JSON document is one of labelme's."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read(path: Path, content: Any = None) -> Record:
    """Read one file.

    Args:
        path: the JSON file.
        content: what is in it, if somebody has read it already.

    Raises:
        DataError: naming file and shape.
    """
    document = _document(path, content)
    shapes = list(document.entries("shapes"))
    found = [_box(shape) for shape in shapes]
    around = sum(not is_box for _, is_box in found)
    return Record(
        _image_name(document),
        np.array([box for box, _ in found], np.float64).reshape(-1, 4),
        tuple(shape.read("label", class_name).strip() for shape in shapes),
        str(path),
        _size_hw(document),
        difficult=np.array([_is_difficult(shape) for shape in shapes], bool),
        notes=(f"{around} polygons, circles or other shapes were read as the boxes around them",) if around else (),
    )


def _document(path: Path, content: Any) -> Entry:
    source = Source(path, "a labelme file", "export it again, or correct the shape")
    return Entry(source.read_json() if content is None else content, source)


def _image_name(document: Entry) -> str:
    return PurePosixPath(document.read("imagePath", text).replace("\\", "/")).name


def _size_hw(document: Entry) -> tuple[int, int] | None:
    height, width = (document.read(key, optional(at_least(0)), None) for key in ("imageHeight", "imageWidth"))
    return (height, width) if height and width else None


def read_areas(path: Path) -> AreaRecord:
    """Read one file as the pixels that its shapes cover, and its points.

    Raises:
        DataError: naming file and shape.
    """
    document = _document(path, None)
    areas, points, others = [], [], 0
    for shape in document.entries("shapes"):
        name, kind = shape.read("label", class_name).strip(), shape.read("shape_type", text, "polygon")
        where, xy = f"{path}: {shape.place}", _corners(shape)
        if kind in ("point", "points"):
            points += [Point(name, x, y, where) for x, y in xy.tolist()]
        elif kind == "mask":
            raise shape.wrong("shape_type", "polygons, rectangles, circles or points", "a mask", "draw it as a polygon")
        elif kind in ("polygon", "rectangle", "circle"):
            areas.append(Area(name, partial(_fill, xy, kind), where))
        else:
            others += 1
    notes = (f"{others} lines cover no pixels and are left out",) if others else ()
    where, size = str(path), _size_hw(document)
    return AreaRecord(_image_name(document), tuple(areas), tuple(points), where, size, notes=notes)


def _corners(shape: Entry) -> np.ndarray:
    return np.array(shape.read("points", list_of(list_of(coordinate, length=2), least=1)), np.float64)


def _fill(xy: np.ndarray, kind: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a shape; a circle has its center and a point on the rim."""
    if kind == "circle" and len(xy) == 2:  # noqa: PLR2004
        radius = float(np.linalg.norm(xy[1] - xy[0]))
        return fill_ellipse((xy[0, 0], xy[0, 1]), (radius, radius), 0.0, size_hw)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = xy.min(0), xy.max(0)
        xy = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    return fill_rings([xy], size_hw)


def _is_difficult(shape: Entry) -> bool:
    flags = shape.read("flags", anything, None)
    return isinstance(flags, Mapping) and flags.get("difficult") is True


def _box(shape: Entry) -> tuple[list[float], bool]:
    xy = _corners(shape)
    kind = shape.read("shape_type", text, "polygon")
    if kind == "circle" and len(xy) == 2:  # noqa: PLR2004 - center and a point on the rim
        radius = float(np.linalg.norm(xy[1] - xy[0]))
        return [*(xy[0] - radius), *(xy[0] + radius)], False
    return [*xy.min(0), *xy.max(0)], kind == "rectangle"


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``<name>.json`` for each image; ``imagePath`` is its bare name, as labelme has it beside the image.

    Returns:
        What the format can't hold of these records.
    """
    del classes  # labelme files name their classes themselves
    for record in records:
        assert record.size_hw is not None
        difficult = record.difficult if record.difficult is not None else np.zeros(len(record.names), bool)
        shapes = [
            {
                "label": name,
                "points": [[x1, y1], [x2, y2]],
                "group_id": None,
                "shape_type": "rectangle",
                "flags": {"difficult": True} if hard else {},
            }
            for name, (x1, y1, x2, y2), hard in zip(
                record.names, record.boxes_xyxy.tolist(), difficult.tolist(), strict=True
            )
        ]
        document: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(record.file_name).name,
            "imageData": None,
            "imageHeight": record.size_hw[0],
            "imageWidth": record.size_hw[1],
        }
        write_json(folder / PurePosixPath(record.file_name).with_suffix(".json"), document)
    return losses(records, difficult=True, crowd=False)
