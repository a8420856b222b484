"""Label Studio's JSON: tasks with annotations (its full export), and tasks with predictions (its import).

Coordinates are percent of the image as it was shown. https://labelstud.io/guide/task_format describes both. A task with
a finished annotation is done, one without is open, one that was skipped (``was_cancelled``) is neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.fields import (
    anything,
    at_least,
    between,
    class_name,
    coordinate,
    flag,
    list_of,
    not_negative,
    number,
    optional,
    text,
)
from al_lab.core.files import write_json, write_text
from al_lab.data.formats.areas import Area, AreaRecord, Point, fill_ellipse, fill_rings, turned_box
from al_lab.data.formats.brush import BrushError, decode_alpha
from al_lab.data.formats.record import Record, losses

KEY = "al_lab_id"  # a data key of our own; it comes back in JSON exports, whatever the server does to file names
_IMAGE_KEYS = ("image", "img", "photo", "picture", "url")
_RECTANGLE, _AROUND = ("rectanglelabels", "rectangle"), ("polygonlabels", "polygon", "ellipselabels", "ellipse")
OPEN = "?"  # the label of a point that waits for its class
_AREA_KINDS = ("brush", "polygon", "rectangle", "ellipse")
_BYTE = between(0, 255)
_DO = "export the project again as JSON"


def is_label_studio(content: Any) -> bool:
    """Say whether a JSON document is a list of Label Studio's tasks."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and isinstance(first.get("data"), dict) and ("annotations" in first or "id" in first)


def read(path: Path, content: Any = None) -> Iterator[Record]:
    """Read all tasks of an export.

    Args:
        path: the JSON file.
        content: what is in it, if somebody has read it already.

    Raises:
        DataError: naming file and task.
    """
    yield from map(read_task, _entries(path, content))


def _entries(path: Path, content: Any = None) -> Iterator[Entry]:
    source = Source(path, "Label Studio's tasks", _DO)
    tasks = list_of(anything)(source.read_json() if content is None else content, str(path), _DO, DataError)
    yield from (Entry(task, source, f"[{n}]") for n, task in enumerate(tasks))


def read_task(task: Entry) -> Record:
    """Read one task: of annotations that were not skipped, one marked as ground truth counts, else the newest.

    Raises:
        DataError: naming the task and the region.
    """
    image, newest, is_skipped, common = _open_task(task)
    if newest is None:
        return Record(image, np.zeros((0, 4)), (), is_done=False, is_skipped=is_skipped, **common)
    boxes, names, size, around = _regions(newest)
    notes = (f"{around} polygons or ellipses were read as the boxes around them",) if around else ()
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return Record(image, array, tuple(names), size_hw=size, is_done=True, notes=notes, **common)


def _open_task(task: Entry) -> tuple[str, Entry | None, bool, dict[str, Any]]:
    """Return a task's image, the annotation that counts, whether it was only skipped, and what every record has."""
    data = task.entry("data")
    image = next((data.read(k, text) for k in _IMAGE_KEYS if k in data), None)
    if image is None:
        raise data.wrong("", f"an image under one of {', '.join(_IMAGE_KEYS)}", "none of these keys")
    # "completions" before version 1.0; a task that nobody has opened may have neither.
    given = list(task.entries("annotations" if "annotations" in task else "completions", required=False))
    finished = [a for a in given if not a.read("was_cancelled", optional(flag), False)]
    key, where = data.read(KEY, optional(text), None), f"{task.source.path}: {task.place}"
    common: dict[str, Any] = {"where": where, "key": key, "seconds": _seconds(finished or given)}
    newest = max(enumerate(finished), key=lambda pair: (*_standing(pair[1]), pair[0]), default=(0, None))
    return file_name_of(image), newest[1], bool(given) and not finished, common


def _standing(annotation: Entry) -> tuple[bool, str]:
    """Return what decides which of several annotations counts: the larger one does."""
    is_reference = annotation.read("ground_truth", optional(flag), False)
    return bool(is_reference), annotation.read("updated_at", optional(text), None) or ""


def file_name_of(address: str) -> str:
    """Return the file's name in what Label Studio calls an image: a path, an upload, a local file, a URL."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return PurePosixPath(unquote(local[0] if local else parts.path or address).replace("\\", "/")).name


def _seconds(annotations: Sequence[Entry]) -> float | None:
    times = [a.read("lead_time", optional(not_negative), None) for a in annotations]
    known = [t for t in times if t is not None]
    return sum(known) if known else None


def _regions(annotation: Entry) -> tuple[list[list[float]], list[str], tuple[int, int] | None, int]:
    boxes, names, size, around = [], [], None, 0
    for region in annotation.entries("result"):
        kind = region.read("type", text, "")
        if kind not in _RECTANGLE + _AROUND:
            continue  # choices, text, brushes: not boxes
        size = (region.read("original_height", at_least(1)), region.read("original_width", at_least(1)))
        value = region.entry("value")
        key = next((k for k in (kind, f"{kind}labels", "labels") if k in value), "labels")
        names.append(value.read(key, list_of(class_name, length=1))[0])
        boxes.append(_box(value, kind, size))
        around += kind in _AROUND or bool(value.read("rotation", number, 0))
    return boxes, names, size, around


def _box(value: Entry, kind: str, size_hw: tuple[int, int]) -> list[float]:
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    if kind.startswith("polygon"):
        corners = np.array(value.read("points", list_of(list_of(number, length=2), least=1))) * scale
        return [*corners.min(0), *corners.max(0)]
    start = np.array([value.read("x", number), value.read("y", number)]) * scale
    if kind.startswith("ellipse"):
        radius = np.array([value.read("radiusX", number), value.read("radiusY", number)]) * scale
        return [*(start - radius), *(start + radius)]
    w, h = np.array([value.read("width", number), value.read("height", number)]) * scale
    angle = math.radians(value.read("rotation", number, 0))
    # Turned about the upper left corner, clockwise.
    across, down = np.array([math.cos(angle), math.sin(angle)]) * w, np.array([-math.sin(angle), math.cos(angle)]) * h
    corners = start + np.array([(0, 0), across, down, across + down])
    return [*corners.min(0), *corners.max(0)]


def read_areas(path: Path) -> Iterator[AreaRecord]:
    """Read all tasks of an export as the pixels that are covered, and the points that were named.

    Raises:
        DataError: naming file, task and region.
    """
    yield from map(read_area_task, _entries(path))


def read_area_task(task: Entry) -> AreaRecord:
    """Read one task's brush strokes, polygons, rectangles, ellipses and key points, as they were drawn.

    Raises:
        DataError: naming the task and the region.
    """
    image, newest, _, common = _open_task(task)
    if newest is None:
        return AreaRecord(image, (), (), is_done=False, **common)
    areas: list[Area] = []
    points: list[Point] = []
    size: tuple[int, int] | None = None
    others = 0
    for region in newest.entries("result"):
        kind = region.read("type", text, "").removesuffix("labels")
        if kind not in (*_AREA_KINDS, "keypoint"):
            others += "original_width" in region  # drawn; else it is a choice, or text
            continue
        size = (region.read("original_height", at_least(1)), region.read("original_width", at_least(1)))
        if region.read("image_rotation", optional(number), None):
            raise region.wrong("image_rotation", "regions on the image as it is", "a rotated one", "turn it back")
        value, where = region.entry("value"), f"{task.source.path}: {region.place}"
        key = next((k for k in (f"{kind}labels", "labels") if k in value), None)
        if key is None:
            others += 1  # nobody said what it is
            continue
        name = value.read(key, list_of(class_name, length=1))[0]
        if kind == "keypoint":
            x, y = (value.read(k, coordinate) * side / 100 for k, side in (("x", size[1]), ("y", size[0])))
            points.append(Point(name, x, y, where))
        else:
            areas.append(Area(name, partial(_fill, value, kind), where))
    notes = (f"{others} regions without a label, or of a kind that is not read, are left out",) if others else ()
    return AreaRecord(image, tuple(areas), tuple(points), size_hw=size, is_done=True, notes=notes, **common)


def _fill(value: Entry, kind: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a region's value; all but strokes are in percent of the image."""
    if kind == "brush":
        try:
            packed: list[int] = value.read("rle", list_of(_BYTE, least=1))
            return decode_alpha(packed, size_hw)
        except BrushError as error:
            raise value.wrong("rle", f"a stroke of {error}", "a damaged one") from error
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    if kind == "polygon":
        points = value.read("points", list_of(list_of(coordinate, length=2), least=1))
        return fill_rings([np.array(points, np.float64) * scale], size_hw)
    turn = value.read("rotation", number, 0.0)
    x, y = np.array([value.read("x", coordinate), value.read("y", coordinate)]) * scale
    if kind == "ellipse":
        rx, ry = np.array([value.read("radiusX", coordinate), value.read("radiusY", coordinate)]) * scale
        return fill_ellipse((x, y), (rx, ry), turn, size_hw)
    w, h = np.array([value.read("width", coordinate), value.read("height", coordinate)]) * scale
    return fill_rings([turned_box((x, y, x + w, y + h), (x, y), turn)], size_hw)


def region(box_xyxy: Sequence[float], name: str, size_hw: tuple[int, int], region_id: str) -> dict[str, Any]:
    """Return a rectangle as annotations and predictions hold it.

    Args:
        box_xyxy: in pixels.
        name: of the class.
        size_hw: of the image.
        region_id: unique within the task.
    """
    height, width = size_hw
    x1, y1, x2, y2 = box_xyxy
    value = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
        "rectanglelabels": [name],
    }
    return {
        "id": region_id,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def labeling_config(classes: Sequence[str]) -> str:
    """Return the interface of a project of boxes, in Label Studio's XML."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="label" toName="image">\n{labels}  </RectangleLabels>\n</View>\n'
    )


def map_config(colors: Mapping[str, str], is_points: bool) -> str:
    """Return the interface of a project of label maps: brush and polygons, or points that wait for their class.

    Args:
        colors: of each name, ``#rrggbb``.
        is_points: classes of single points are asked for.
    """
    lines = [f"    <Label value={quoteattr(n)} background={quoteattr(c)}/>\n" for n, c in colors.items()]
    parts = [("KeyPointLabels", "point")] if is_points else [("BrushLabels", "brush"), ("PolygonLabels", "polygon")]
    body = ""
    for tag, name in parts:
        first = [f'    <Label value="{OPEN}" background="#ff00ff"/>\n'] if is_points else []
        body += f'  <{tag} name="{name}" toName="image">\n{"".join(first + lines)}  </{tag}>\n'
    return f'<View>\n  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n{body}</View>\n'


def map_task(
    file_name: str, key: str, size_hw: tuple[int, int], points: Sequence[tuple[int, int, int]] = ()
) -> dict[str, Any]:
    """Return a task to import, of an image that lies in the folder which the server serves.

    Args:
        file_name: relative to the served folder's ``images/``.
        key: our id.
        size_hw: of the image.
        points: number, x and y of pixels whose class is asked for; they come as predictions of the label `OPEN`.
    """
    data = {"image": f"/data/local-files/?d=images/{quote(file_name)}", KEY: key}
    if not points:
        return {"data": data}
    height, width = size_hw
    regions = [
        {
            "id": f"p{number}",
            "type": "keypointlabels",
            "from_name": "point",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "meta": {"text": [str(number)]},
            "value": {
                "x": 100 * (x + 0.5) / width,
                "y": 100 * (y + 0.5) / height,
                "width": 0.5,
                "keypointlabels": [OPEN],
            },
        }
        for number, x, y in points
    ]
    return {"data": data, "predictions": [{"model_version": "al_lab", "result": regions}]}


def tasks(
    records: Sequence[Record], classes: Sequence[str], confidence: Sequence[Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """Return tasks to import: images that lie in the folder which the server serves, with predictions to start from.

    Args:
        records: with sizes; ``file_name`` is relative to the served folder's ``images/``.
        classes: names (the interface is `labeling_config`).
        confidence: of each box of each record; None: tasks without predictions.
    """
    del classes
    found = []
    for n, record in enumerate(records):
        assert record.size_hw is not None
        data = {"image": f"/data/local-files/?d=images/{quote(record.file_name)}"}
        task: dict[str, Any] = {"data": data | ({KEY: record.key} if record.key else {})}
        if confidence is not None:
            regions = [
                region(box, name, record.size_hw, f"p{k}") | {"score": round(float(score), 4)}
                for k, (box, name, score) in enumerate(
                    zip(record.boxes_xyxy.tolist(), record.names, confidence[n], strict=True)
                )
            ]
            score = float(np.mean(confidence[n])) if len(confidence[n]) else 0.0
            task["predictions"] = [{"model_version": "al_lab", "score": round(score, 4), "result": regions}]
        found.append(task)
    return found


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``tasks.json`` with finished annotations, and ``config.xml``, the project's interface.

    Returns:
        What the format can't hold of these records.
    """
    done = []
    for n, record in enumerate(records, 1):
        assert record.size_hw is not None
        regions = [
            region(box, name, record.size_hw, f"r{k}")
            for k, (box, name) in enumerate(zip(record.boxes_xyxy.tolist(), record.names, strict=True))
        ]
        data = {"image": record.file_name} | ({KEY: record.key} if record.key else {})
        done.append({"id": n, "data": data, "annotations": [{"id": n, "was_cancelled": False, "result": regions}]})
    write_json(folder / "tasks.json", done)
    write_text(folder / "config.xml", labeling_config(classes))
    return losses(records, difficult=False, crowd=False)
