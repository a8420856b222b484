"""COCO's annotation file as columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.files import atomic_path
from al_lab.core.types import Annotation
from al_lab.data.formats.boxes import Outside, clean_boxes
from al_lab.data.formats.voc import safe_name

_CACHE_VERSION = 1


@dataclass(frozen=True)
class COCOIndex:
    """One annotation file in columns: the boxes of image n are rows ``start[n]:start[n + 1]``.

    A train2017 file parsed by json takes gigabytes; this takes 25 MB and is never written to.

    Attributes:
        source: the JSON file.
        classes: names by rising category id (ids have gaps; a label is a position in this tuple).
        file_names: (N,) str, relative to the image folder.
        image_ids: (N,) int64, COCO's own numbers.
        sizes_hw: (N, 2) int64 as the file says.
        start: (N + 1,) int64.
        xywh: (A, 4) float64 as the file says.
        labels: (A,) int64.
        crowd: (A,) bool.
    """

    source: Path
    classes: tuple[str, ...]
    file_names: np.ndarray
    image_ids: np.ndarray
    sizes_hw: np.ndarray
    start: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    def annotation(
        self, row: int, size_hw: tuple[int, int], outside: Outside = "error"
    ) -> tuple[Annotation, tuple[str, ...]]:
        """Return the objects of one image and a sentence for each thing that was worked around.

        Raises:
            DataError: for NaN, negative sizes, and boxes outside the image.
        """
        rows = slice(int(self.start[row]), int(self.start[row + 1]))
        xyxy = self.xywh[rows].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        where = f"{self.source}: image {self.file_names[row]}"
        boxes, kept, notes = clean_boxes(xyxy, size_hw, where, outside)
        return Annotation.make(boxes, self.labels[rows][kept], crowd=self.crowd[rows][kept]), notes


def load_coco(path: Path, cache_dir: Path | None = None) -> COCOIndex:
    """Read a COCO "instances" file, through a cache if there is one.

    Args:
        path: the JSON file.
        cache_dir: where the columns are kept; the key is the file's path, size and time of change.

    Raises:
        DataError: naming the file and the entry that makes no sense.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise DataError(
            explain(
                expected="a COCO annotation file",
                got="no such file",
                where=str(path),
                do="run 'python scripts/data.py download coco', or correct dataset.root",
            )
        ) from None
    cached = None
    if cache_dir is not None:
        key = f"{_CACHE_VERSION}:{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        cached = cache_dir / f"coco-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if cached.is_file():
            with np.load(cached, allow_pickle=False) as z:
                return COCOIndex(path, tuple(z["classes"].tolist()), *(z[name] for name in _COLUMNS))
    index = parse_coco(_read_json(path), path)
    if cached is not None:
        with atomic_path(cached) as temporary:
            np.savez(temporary, classes=np.array(index.classes), **{name: getattr(index, name) for name in _COLUMNS})
    return index


_COLUMNS = ("file_names", "image_ids", "sizes_hw", "start", "xywh", "labels", "crowd")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(
            explain(expected="JSON", got=str(error), where=str(path), do="export or download the file again")
        ) from error


def parse_coco(content: Any, source: Path) -> COCOIndex:
    """Turn the content of an instances file into columns; ``content`` is not changed.

    Raises:
        DataError: naming the file and the entry that makes no sense.
    """
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        got = f"keys {sorted(content)}" if isinstance(content, dict) else type(content).__name__
        raise bad_entry(source, "an object with 'images', 'annotations' and 'categories'", got)
    images = [_image(entry, n, source) for n, entry in enumerate(content["images"])]
    images.sort(key=lambda image: image[0])
    row_of_image = {image[1]: row for row, image in enumerate(images)}
    for what, values in (("file name", [i[0] for i in images]), ("image id", [i[1] for i in images])):
        if len(set(values)) != len(values):
            twice = next(v for v in values if values.count(v) > 1)
            raise bad_entry(source, f"every {what} once", f"{twice!r} twice")
    categories = sorted(_category(entry, n, source) for n, entry in enumerate(content["categories"]))
    label_of = {category: label for label, (category, _) in enumerate(categories)}
    if len(label_of) != len(categories):
        raise bad_entry(source, "every category id once", str([category for category, _ in categories]))
    entries = content.get("annotations", [])
    rows = [_object(entry, n, source, row_of_image, label_of) for n, entry in enumerate(entries)]
    table = np.array(rows, np.float64).reshape(-1, 7)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    return COCOIndex(
        source,
        tuple(name for _, name in categories),
        np.array([i[0] for i in images], dtype=np.str_),
        np.array([i[1] for i in images], np.int64),
        np.array([i[2:] for i in images], np.int64).reshape(-1, 2),
        np.searchsorted(table[:, 0], np.arange(len(images) + 1)),
        table[:, 3:],
        table[:, 1].astype(np.int64),
        table[:, 2].astype(bool),
    )


def _image(entry: Any, n: int, source: Path) -> tuple[str, int, int, int]:
    try:
        size = (int(entry.get("height", 0)), int(entry.get("width", 0)))
        return (safe_name(str(entry["file_name"]), f"{source}: images[{n}]"), int(entry["id"]), *size)
    except (KeyError, TypeError, AttributeError) as error:
        raise bad_entry(source, f"'id' and 'file_name' in images[{n}]", f"{error!r}") from None


def _category(entry: Any, n: int, source: Path) -> tuple[int, str]:
    try:
        return int(entry["id"]), str(entry["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise bad_entry(source, f"'id' and 'name' in categories[{n}]", f"{error!r}") from None


def _object(
    entry: Any, n: int, source: Path, row_of_image: Mapping[int, int], label_of: Mapping[int, int]
) -> tuple[float, ...]:
    where = f"annotations[{n}]"
    try:
        image_id, category, bbox = int(entry["image_id"]), int(entry["category_id"]), entry["bbox"]
        x, y, w, h = (float(v) for v in bbox)
    except (KeyError, TypeError, ValueError) as error:
        raise bad_entry(
            source, f"'image_id', 'category_id' and a 'bbox' of four numbers in {where}", f"{error!r}"
        ) from None
    if image_id not in row_of_image:
        raise bad_entry(source, f"an image for {where}", f"image_id {image_id!r}, which no entry of 'images' has")
    if category not in label_of:
        raise bad_entry(
            source, f"a known category in {where}", f"category_id {category!r}, not one of {sorted(label_of)}"
        )
    return (row_of_image[image_id], label_of[category], float(bool(entry.get("iscrowd", 0))), x, y, w, h)


def bad_entry(source: Path, expected: str, got: str) -> DataError:
    """Return the error for something in an annotation file."""
    return DataError(explain(expected=expected, got=got, where=str(source), do="correct the annotation file"))
