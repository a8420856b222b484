"""YOLO text labels: one file an image, one line an object, fractions of the image; `data.yaml` names the classes.

Read: "class cx cy w h" (boxes), "class cx cy w h confidence" is refused (predictions are no labels), "class x1 y1 x2 y2
…" with six or more coordinates (segments; their bounding boxes are taken, and said), eight coordinates (oriented boxes
or a segment of four corners; likewise). https://docs.ultralytics.com/datasets/detect/ describes the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.fields import WrongValueError, anything, class_name, list_of, number, optional, shown, text, written
from al_lab.core.files import write_text
from al_lab.data.formats.record import Record, losses

_LARGEST_FRACTION = 2  # of the image; a box may leave it by rounding, not by this
_NUMBER = written(number)
_MAX_BYTES = 50_000_000


def read_labels(path: Path, file_name: str, classes: Sequence[str], size_hw: tuple[int, int]) -> Record:
    """Read the label file of one image.

    Args:
        path: the text file; empty means that the image shows no object.
        file_name: of the image.
        classes: names; a line's first number is a position in them.
        size_hw: of the upright image: YOLO writes fractions.

    Raises:
        DataError: naming file and line.
    """
    source = Source(path, "a YOLO label file", "export the labels again as YOLO, or correct the line")
    boxes, names, polygons = [], [], 0
    height, width = size_hw
    for n, line in source.read_lines():
        label, *values = _numbers(line, source, f"line {n}")
        if not label.is_integer() or not 0 <= label < len(classes):
            do = "correct the line, or the names in data.yaml or classes.txt"
            raise source.wrong(f"a class number from 0 to {len(classes) - 1}", f"{label:g}", f"line {n}", do)
        box, is_polygon = _box(values, source, f"line {n}")
        polygons += is_polygon
        boxes.append(np.array(box) * (width, height, width, height))
        names.append(classes[int(label)])
    notes = (f"{polygons} segments or turned boxes were read as the boxes around them",) if polygons else ()
    return Record(file_name, np.array(boxes, np.float64).reshape(-1, 4), tuple(names), str(path), size_hw, notes=notes)


def _numbers(line: str, source: Source, place: str) -> list[float]:
    try:
        return [_NUMBER.read(word) for word in line.split()]
    except WrongValueError:
        raise source.wrong("numbers: class cx cy w h", shown(line), place) from None


def _box(values: Sequence[float], source: Source, place: str) -> tuple[tuple[float, float, float, float], bool]:
    """Return a line's box as fractions, and whether it was a polygon."""
    if len(values) == 4:  # noqa: PLR2004
        cx, cy, w, h = values
        box, is_polygon = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), False
    elif len(values) >= 6 and len(values) % 2 == 0:  # noqa: PLR2004
        x, y = values[0::2], values[1::2]
        box, is_polygon = (min(x), min(y), max(x), max(y)), True
    else:
        what = "five, as predictions with confidence have them" if len(values) == 5 else str(len(values))  # noqa: PLR2004
        do = "give labels, not predictions; export them again as YOLO"
        raise source.wrong("four numbers after the class, or the corners of a polygon", what, place, do)
    if max(map(abs, values)) > _LARGEST_FRACTION:
        got = " ".join(f"{v:g}" for v in values[:4])
        do = "these look like pixels: divide by the image's width and height"
        raise source.wrong("fractions of the image, 0 to 1", got, place, do)
    return box, is_polygon


def read_data_yaml(path: Path) -> dict[str, Any]:
    """Read `data.yaml`: class names in label order and the splits' folders or lists.

    Returns:
        ``{"names": (…), "train": [paths], "val": […], "test": […]}``; splits that are absent are left out. Paths are
        as written, relative to ``path`` (the file's own key) or to the file.

    Raises:
        DataError: if it is no mapping, or has no names.
    """
    source = Source(path, "YOLO's data.yaml", "write the names of the classes in the order of their numbers")
    try:
        content = Entry(yaml.safe_load(source.read_bytes(_MAX_BYTES)), source)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise source.wrong("YAML", str(error).splitlines()[0], do="correct the file") from error
    names = content.read("names", anything)
    if isinstance(names, Mapping) and list(names) == list(range(len(names))):
        names = list(names.values())
    if isinstance(names, list):
        names = [str(n) if type(n) is int else n for n in names]
    names = list_of(class_name, least=1)(names, f"{path}: names", source.do, DataError)
    found: dict[str, Any] = {"names": tuple(n.strip() for n in names)}
    if "path" in content:
        found["path"] = content.read("path", optional(text)) or "."
    for split in ("train", "val", "valid", "test"):
        value = content.read(split, anything, None)
        if value is not None:
            places = [value] if isinstance(value, str) else value
            found["val" if split == "valid" else split] = list_of(text)(
                places, f"{path}: {split}", "give a folder or a list", DataError
            )
    return found


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``labels/<name>.txt`` for each image, and ``classes.txt``.

    Returns:
        What the format can't hold of these records.
    """
    number = {name: n for n, name in enumerate(classes)}
    for record in records:
        height, width = _size(record)
        lines = []
        for (x1, y1, x2, y2), name in zip(record.boxes_xyxy.tolist(), record.names, strict=True):
            values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(f"{number[name]} " + " ".join(f"{v:.8g}" for v in values) + "\n")
        write_text(folder / "labels" / Path(record.file_name).with_suffix(".txt"), "".join(lines))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    return losses(records, difficult=False, crowd=False)


def write_data_yaml(folder: Path, classes: Sequence[str], splits: Mapping[str, str]) -> None:
    """Write ``data.yaml``, from which trainers start: class names by number, and where each split's images lie."""
    content = {"path": ".", **splits, "names": dict(enumerate(classes))}
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _size(record: Record) -> tuple[int, int]:
    assert record.size_hw is not None, "writers get records that know their image's size"
    return record.size_hw
