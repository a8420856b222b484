"""CVAT for images 1.1: one XML file a task, an `<image>` an image.

Boxes are read, other shapes as the boxes around them.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/ describes it. Coordinates are continuous and 0-based, as
ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.fields import between, class_name, coordinate, flag, list_of, written
from al_lab.core.files import write_bytes
from al_lab.data.formats.record import Record, losses
from al_lab.data.formats.voc import read_xml

_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
_CORRECT = "correct the shape in CVAT and export again"
_COORDINATE, _SIZE = written(coordinate), written(between(0, 2**31 - 1))
_POINTS = list_of(list_of(_COORDINATE, length=2), least=1)
_DIFFICULT, _CROWD = "difficult", "iscrowd"


def read(path: Path) -> Iterator[Record]:
    """Read all images of a task's annotations.

    Raises:
        DataError: naming file, image and object.
    """
    root = read_xml(path, "annotations", "CVAT for images")
    for number, image in enumerate(root.iter("image"), 1):
        where = f"{path}: image {number}"
        name = (image.get("name") or "").replace("\\", "/").strip()
        if not name:
            raise DataError(explain(expected="a 'name'", got="none", where=where, do="export the task again"))
        yield _record(image, name, f"{path}: image {name}")


def _record(image: Element, name: str, where: str) -> Record:
    boxes, names, flags, around = [], [], [], 0
    for number, shape in enumerate((s for s in image if s.tag in _SHAPES), 1):
        place = f"{where}: object {number}"
        label = class_name((shape.get("label") or "").strip(), f"{place}: label", "name the class in CVAT", DataError)
        boxes.append(_box(shape, place))
        names.append(label)
        around += shape.tag != "box"
        said = {a.get("name"): (a.text or "").strip().lower() for a in shape.findall("attribute")}
        flags.append([flag(said.get(k, "0"), f"{place}: {k}", _CORRECT, DataError) for k in (_DIFFICULT, _CROWD)])
    size = tuple(
        _SIZE(image.get(k, "0"), f"{where}: {k}", "export the task again", DataError) for k in ("height", "width")
    )
    table = np.array(flags, bool).reshape(-1, 2)
    return Record(
        name,
        np.array(boxes, np.float64).reshape(-1, 4),
        tuple(names),
        where,
        (size[0], size[1]) if min(size) > 0 else None,
        difficult=table[:, 0],
        crowd=table[:, 1],
        notes=(f"{around} polygons or other shapes were read as the boxes around them",) if around else (),
    )


def _box(shape: Element, where: str) -> list[float]:
    if shape.tag == "box":
        if shape.get("rotation") and _number(shape, "rotation", where) % 360:
            return _turned(shape, where)
        return [_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr")]
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        return [cx - rx, cy - ry, cx + rx, cy + ry]
    if shape.tag == "mask":
        left, top, width, height = (_number(shape, key, where) for key in ("left", "top", "width", "height"))
        return [left, top, left + width, top + height]
    said = [point.split(",") for point in (shape.get("points") or "").split(";")]
    points = np.array(_POINTS(said, f"{where}: points", _CORRECT, DataError))
    return [*points.min(0), *points.max(0)]


def _turned(shape: Element, where: str) -> list[float]:
    """Return the box around a turned box; CVAT turns it about its center, clockwise, in degrees."""
    x1, y1, x2, y2 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(shape, "rotation", where))
    half = np.array([x2 - x1, y2 - y1]) / 2
    spread = np.abs([[math.cos(angle), math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ np.abs(half)
    center = np.array([x1 + x2, y1 + y2]) / 2
    return [*(center - spread), *(center + spread)]


def _number(shape: Element, key: str, where: str) -> float:
    return _COORDINATE(shape.get(key), f"{where}: {key}", _CORRECT, DataError)


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``annotations.xml``; the flags difficult and iscrowd become attributes of those names.

    Returns:
        What the format can't hold of these records.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    labels = SubElement(task, "labels")
    for name in classes:
        SubElement(SubElement(labels, "label"), "name").text = name
    for number, record in enumerate(records):
        assert record.size_hw is not None
        height, width = record.size_hw
        image = SubElement(root, "image", id=str(number), name=record.file_name, width=str(width), height=str(height))
        none = np.zeros(len(record.names), bool)
        flags = zip(
            (record.difficult if record.difficult is not None else none).tolist(),
            (record.crowd if record.crowd is not None else none).tolist(),
            strict=True,
        )
        for name, box, marked in zip(record.names, record.boxes_xyxy.tolist(), flags, strict=True):
            corners = {k: f"{v:.10g}" for k, v in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)}
            about = {"label": name, "source": "manual", "occluded": "0", "z_order": "0"}
            item = SubElement(image, "box", about | corners)
            for key, is_set in zip((_DIFFICULT, _CROWD), marked, strict=True):
                if is_set:
                    SubElement(item, "attribute", name=key).text = "true"
    indent(root)
    write_bytes(folder / "annotations.xml", tostring(root, encoding="utf-8", xml_declaration=True))
    return losses(records, difficult=True, crowd=True)
