"""labelme: one JSON file an image, shapes with points.

Rectangles are read as boxes, other shapes as the boxes around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from al_lab.core.documents import Entry, Source
from al_lab.core.fields import anything, at_least, class_name, list_of, number, optional, text
from al_lab.core.files import write_json
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
    source = Source(path, "a labelme file", "export it again, or correct the shape")
    document = Entry(source.read_json() if content is None else content, source)
    shapes = list(document.entries("shapes"))
    found = [_box(shape) for shape in shapes]
    around = sum(not is_box for _, is_box in found)
    said = [document.read(key, optional(at_least(0)), None) for key in ("imageHeight", "imageWidth")]
    return Record(
        PurePosixPath(document.read("imagePath", text).replace("\\", "/")).name,
        np.array([box for box, _ in found], np.float64).reshape(-1, 4),
        tuple(shape.read("label", class_name).strip() for shape in shapes),
        str(path),
        (said[0], said[1]) if said[0] and said[1] else None,
        difficult=np.array([_is_difficult(shape) for shape in shapes], bool),
        notes=(f"{around} polygons, circles or other shapes were read as the boxes around them",) if around else (),
    )


def _is_difficult(shape: Entry) -> bool:
    flags = shape.read("flags", anything, None)
    return isinstance(flags, Mapping) and flags.get("difficult") is True


def _box(shape: Entry) -> tuple[list[float], bool]:
    xy = np.array(shape.read("points", list_of(list_of(number, length=2), least=1)), np.float64)
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
