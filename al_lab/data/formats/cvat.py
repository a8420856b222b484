"""CVAT for images 1.1: one XML file a task, an `<image>` an image.

Boxes are read, other shapes as the boxes around them; for label maps all shapes as the pixels they cover.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/ describes it. Coordinates are continuous and 0-based, as
ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.fields import between, class_name, coordinate, flag, list_of, written
from al_lab.core.files import write_bytes
from al_lab.data.formats.areas import Area, AreaRecord, Point, fill_ellipse, fill_rings, fill_runs, turned_box
from al_lab.data.formats.record import Record, losses
from al_lab.data.formats.voc import read_xml

_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
_CORRECT = "correct the shape in CVAT and export again"
_AREAS = ("box", "polygon", "ellipse", "mask")
_COORDINATE, _SIZE = written(coordinate), written(between(0, 2**31 - 1))
_PLACE, _RUN = written(between(-(2**31), 2**31 - 1)), written(between(0, 2**31 - 1))
_POINTS = list_of(list_of(_COORDINATE, length=2), least=1)
_DIFFICULT, _CROWD = "difficult", "iscrowd"


def read(path: Path) -> Iterator[Record]:
    """Read all images of a task's annotations.

    Raises:
        DataError: naming file, image and object.
    """
    for image, name, where in _images(path):
        yield _record(image, name, where)


def _images(path: Path) -> Iterator[tuple[Element, str, str]]:
    """Yield each image's element, name and place."""
    root = read_xml(path, "annotations", "CVAT for images")
    for number, image in enumerate(root.iter("image"), 1):
        where = f"{path}: image {number}"
        name = (image.get("name") or "").replace("\\", "/").strip()
        if not name:
            raise DataError(explain(expected="a 'name'", got="none", where=where, do="export the task again"))
        yield image, name, f"{path}: image {name}"


def _size_hw(image: Element, where: str) -> tuple[int, int] | None:
    height, width = (
        _SIZE(image.get(k, "0"), f"{where}: {k}", "export the task again", DataError) for k in ("height", "width")
    )
    return (height, width) if min(height, width) > 0 else None


def _label(shape: Element, place: str) -> str:
    return class_name((shape.get("label") or "").strip(), f"{place}: label", "name the class in CVAT", DataError)


def _record(image: Element, name: str, where: str) -> Record:
    boxes, names, flags, around = [], [], [], 0
    for number, shape in enumerate((s for s in image if s.tag in _SHAPES), 1):
        place = f"{where}: object {number}"
        boxes.append(_box(shape, place))
        names.append(_label(shape, place))
        around += shape.tag != "box"
        said = {a.get("name"): (a.text or "").strip().lower() for a in shape.findall("attribute")}
        flags.append([flag(said.get(k, "0"), f"{place}: {k}", _CORRECT, DataError) for k in (_DIFFICULT, _CROWD)])
    table = np.array(flags, bool).reshape(-1, 2)
    return Record(
        name,
        np.array(boxes, np.float64).reshape(-1, 4),
        tuple(names),
        where,
        _size_hw(image, where),
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
    points = _points(shape, where)
    return [*points.min(0), *points.max(0)]


def _points(shape: Element, where: str) -> np.ndarray:
    said = [point.split(",") for point in (shape.get("points") or "").split(";")]
    return np.array(_POINTS(said, f"{where}: points", _CORRECT, DataError), np.float64)


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


def read_areas(path: Path) -> Iterator[AreaRecord]:
    """Read all images of a task's annotations as the pixels that are covered.

    Raises:
        DataError: naming file, image and object.
    """
    for image, name, where in _images(path):
        areas: list[tuple[float, Area]] = []
        points: list[Point] = []
        others = 0
        for number, shape in enumerate((s for s in image if s.tag in _SHAPES), 1):
            place = f"{where}: object {number}"
            label = _label(shape, place)
            if shape.tag == "points":
                points += [Point(label, x, y, place) for x, y in _points(shape, place).tolist()]
            elif shape.tag in _AREAS:
                order = _number(shape, "z_order", place) if shape.get("z_order") else 0.0
                areas.append((order, Area(label, partial(_fill, shape, place), place)))
            else:
                others += 1
        areas.sort(key=lambda pair: pair[0])  # stable: of one height, as they stand in the file
        notes = (f"{others} lines or other shapes cover no pixels and are left out",) if others else ()
        size = _size_hw(image, where)
        yield AreaRecord(name, tuple(area for _, area in areas), tuple(points), where, size, notes=notes)


def _fill(shape: Element, where: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a box, ellipse, polygon or mask."""
    turn = _number(shape, "rotation", where) if shape.get("rotation") else 0.0
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        return fill_ellipse((cx, cy), (rx, ry), turn, size_hw)
    if shape.tag == "box":
        x1, y1, x2, y2 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        return fill_rings([turned_box((x1, y1, x2, y2), ((x1 + x2) / 2, (y1 + y2) / 2), turn)], size_hw)
    if shape.tag == "polygon":
        return fill_rings([_points(shape, where)], size_hw)
    left, top, width, height = (
        _PLACE(shape.get(key), f"{where}: {key}", _CORRECT, DataError) for key in ("left", "top", "width", "height")
    )
    said = (shape.get("rle") or "").split(",")
    runs = np.array(list_of(_RUN)(said, f"{where}: rle", "export the task again", DataError), np.int64)
    if min(width, height) < 1 or width > size_hw[1] or height > size_hw[0] or int(runs.sum()) != width * height:
        got = f"{width} x {height}, and runs that sum to {int(runs.sum())}"
        raise DataError(
            explain(
                expected=f"a mask inside the image of {size_hw[1]} x {size_hw[0]} whose runs fill its box",
                got=got,
                where=where,
                do="export the task again",
            )
        )
    return fill_runs(runs, (left, top, width, height), size_hw)


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
