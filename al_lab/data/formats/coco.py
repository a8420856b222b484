"""COCO's annotation file as columns."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError, DataErrors, explain
from al_lab.core.fields import anything, between, class_name, coordinate, flag, identifier, list_of, shown, text
from al_lab.core.files import atomic_path, write_json
from al_lab.core.types import Annotation
from al_lab.data.formats.boxes import Outside, clean_boxes
from al_lab.data.formats.record import Record, losses
from al_lab.data.formats.voc import safe_name

log = logging.getLogger(__name__)
T = TypeVar("T")

_CACHE_VERSION = 2
_DO = "correct the annotation file, or export it again"
_NO_FILE = "run 'al-lab data download coco', or correct dataset.root"
_SIZE = between(0, 2**31 - 1)  # 0: the file doesn't say
_BOX = list_of(coordinate, length=4)


@dataclass(frozen=True)
class COCOIndex:
    """One annotation file in columns: the boxes of image n are rows ``start[n]:start[n + 1]``.

    A train2017 file parsed by json takes gigabytes; this takes 25 MB and is never written to.

    Attributes:
        source: the JSON file.
        classes: names by rising category id (ids have gaps, or are text; a label is a position in this tuple).
        file_names: (N,) str, relative to the image folder.
        sizes_hw: (N, 2) int64 as the file says.
        start: (N + 1,) int64.
        xywh: (A, 4) float64 as the file says.
        labels: (A,) int64.
        crowd: (A,) bool.
    """

    source: Path
    classes: tuple[str, ...]
    file_names: np.ndarray
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


def records(index: COCOIndex) -> Iterator[Record]:
    """Yield what a file says of each image."""
    xyxy = index.xywh.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    for row, name in enumerate(index.file_names.tolist()):
        rows = slice(int(index.start[row]), int(index.start[row + 1]))
        height, width = index.sizes_hw[row].tolist()
        yield Record(
            name,
            xyxy[rows],
            tuple(index.classes[label] for label in index.labels[rows]),
            f"{index.source}: image {name}",
            (height, width) if min(height, width) > 0 else None,
            crowd=index.crowd[rows],
        )


def document(
    records: Sequence[Record], classes: Sequence[str], confidence: Sequence[Sequence[float]] | None = None
) -> dict[str, Any]:
    """Return the content of an instances file, ids from 1.

    Args:
        records: with sizes.
        classes: names in label order.
        confidence: of each box of each record, where they are a model's: the field "score" that tools read.
    """
    number = {name: n for n, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for n, record in enumerate(records, 1):
        assert record.size_hw is not None
        images.append({"id": n, "file_name": record.file_name, "height": record.size_hw[0], "width": record.size_hw[1]})
        crowd = record.crowd if record.crowd is not None else np.zeros(len(record.names), bool)
        for k, (name, (x1, y1, x2, y2)) in enumerate(zip(record.names, record.boxes_xyxy.tolist(), strict=True)):
            entry = {
                "id": len(annotations) + 1,
                "image_id": n,
                "category_id": number[name],
                "iscrowd": int(crowd[k]),
                "bbox": [x1, y1, round(x2 - x1, 6), round(y2 - y1, 6)],
                "area": round((x2 - x1) * (y2 - y1), 6),
            }
            annotations.append(
                entry if confidence is None else entry | {"score": round(float(confidence[n - 1][k]), 4)}
            )
    categories = [{"id": n, "name": name} for name, n in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder: Path, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
    """Write ``annotations/instances.json``.

    Returns:
        What the format can't hold of these records.
    """
    write_json(folder / "annotations" / "instances.json", document(records, classes))
    return losses(records, difficult=False, crowd=True)


def load_coco(path: Path, cache_dir: Path | None = None) -> COCOIndex:
    """Read a COCO "instances" file, through a cache if there is one.

    Args:
        path: the JSON file.
        cache_dir: where the columns are kept; the key is the file's path, size and time of change.

    Raises:
        DataError: naming the file and the entry that makes no sense.
    """
    source = _source(path, _DO if path.exists() else _NO_FILE)
    source.check_regular()
    if cache_dir is None:
        return parse_coco(source.read_json(), path)
    stat = path.stat()
    key = f"{_CACHE_VERSION}:{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    cached = cache_dir / f"coco-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if cached.is_file():
        try:
            return _read_cache(cached, path)
        except DataError as error:
            log.warning("%s; the annotation file is read instead", error)
    index = parse_coco(source.read_json(), path)
    with atomic_path(cached) as temporary:
        columns: dict[str, Any] = {name: np.asarray(getattr(index, name)) for name in _COLUMNS}
        np.savez(temporary, **columns)
    return index


_COLUMNS = {
    "classes": Column("Uf", ("C",)),  # without a class numpy writes floats
    "file_names": Column("U", ("N",)),
    "sizes_hw": Column("i", ("N", 2)),
    "start": Column("i", (None,)),
    "xywh": Column("f", ("A", 4)),
    "labels": Column("i", ("A",)),
    "crowd": Column("b", ("A",)),
}


def _read_cache(cached: Path, path: Path) -> COCOIndex:
    columns = load_arrays(cached, _COLUMNS, do="it is made again", error=DataError)
    return COCOIndex(path, tuple(columns.pop("classes").tolist()), **columns)


def _source(path: Path, do: str = _DO) -> Source:
    return Source(path, "a COCO file (an object with 'images', 'annotations' and 'categories')", do)


def parse_coco(content: Any, path: Path) -> COCOIndex:
    """Turn the content of an instances file into columns; ``content`` is not changed.

    Ids only link the lists of the file: numbers or text.

    Raises:
        DataError: naming the file, the entry and the field that makes no sense; all of them, see `DataErrors`.
    """
    source = _source(path)
    document = Entry(content, source)
    if missing := [key for key in ("images", "categories") if key not in document]:
        raise source.wrong(source.what, f"one without {missing[0]!r}")
    bad: list[str] = []
    images = sorted(_each(document, "images", _image, bad), key=lambda image: image[0])
    _name_repeated([image[0] for image in images], "every file name once", source, bad)
    _name_repeated([image[1] for image in images], "every image id once", source, bad)
    entries = _each(document, "categories", lambda entry: entry, bad)
    categories = _each(document, "categories", lambda c: (c.read("id", identifier), c.read("name", class_name)), bad)
    _name_repeated([category for category, _ in categories], "every category id once", source, bad)
    categories.sort(key=lambda category: _rank(category[0]))
    row_of_image = {image[1]: row for row, image in enumerate(images)}
    place_of = {category: place for place, (category, _) in enumerate(categories)}
    named = {key: _ids_of(document, key) for key in ("images", "categories")}  # those of bad entries, too
    rows = _each(document, "annotations", lambda entry: _object(entry, row_of_image, place_of, named), bad, False)
    if bad:
        raise DataErrors(bad)
    parents = _parents(entries, {int(row[1]) for row in rows}, place_of)
    for place in parents:
        log.info("%s: category %r is the others' parent and has no box: it is no class", path, categories[place][1])
    label_of = {place: label for label, place in enumerate(p for p in range(len(categories)) if p not in parents)}
    rows = [(row[0], label_of[int(row[1])], *row[2:]) for row in rows]
    categories = [category for place, category in enumerate(categories) if place not in parents]
    _name_repeated([name for _, name in categories], "every category name once", source, bad)
    if bad:
        raise DataErrors(bad)
    table: np.ndarray = np.array(rows, np.float64).reshape(-1, 7)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    return COCOIndex(
        path,
        tuple(name for _, name in categories),
        np.array([i[0] for i in images], dtype=np.str_),
        np.array([i[2:] for i in images], np.int64).reshape(-1, 2),
        np.searchsorted(table[:, 0], np.arange(len(images) + 1)),
        table[:, 3:],
        table[:, 1].astype(np.int64),
        table[:, 2].astype(bool),
    )


def _each(document: Entry, key: str, read: Callable[[Entry], T], bad: list[str], required: bool = True) -> list[T]:
    """Read each entry of a list; what makes no sense is added to ``bad``, and the next one is read."""
    found = []
    for place, value in enumerate(document.values(key, required)):
        try:
            found.append(read(document.child(value, key, place)))
        except DataError as error:
            bad.append(str(error))
    return found


def _rank(category: float | str) -> tuple[bool, float, str]:
    """Order category ids: numbers, also those written as text, before words."""
    is_number = not isinstance(category, str) or (category.isascii() and category.isdigit())
    return (not is_number, int(category) if is_number else 0, str(category))


def _parents(entries: Sequence[Entry], used: set[int], place_of: Mapping[float | str, int]) -> set[int]:
    """Return the places of categories that are only the others' supercategory, as some tools write a project's name."""
    above = {c.read("id", identifier): c.read("supercategory", anything, None) for c in entries}
    found = set()
    for entry in entries:
        own, name = entry.read("id", identifier), entry.read("name", class_name)
        is_parent = any(parent == name for other, parent in above.items() if other != own)
        if is_parent and above[own] in (None, "", "none") and place_of[own] not in used:
            found.add(place_of[own])
    return found


def _ids_of(document: Entry, key: str) -> set[float | str]:
    """Return the ids of a list's entries, whatever else is wrong in them."""
    ids: list[float | str] = _each(document, key, lambda entry: entry.read("id", identifier), [])
    return set(ids)


def _name_repeated(values: Sequence[Hashable], expected: str, source: Source, bad: list[str]) -> None:
    bad += [str(source.wrong(expected, f"{shown(value)} twice")) for value, n in Counter(values).items() if n > 1]


def _image(entry: Entry) -> tuple[str, float | str, int, int]:
    name = safe_name(entry.read("file_name", text), f"{entry.source.path}: {entry.place}.file_name")
    return name, entry.read("id", identifier), entry.read("height", _SIZE, 0), entry.read("width", _SIZE, 0)


def _object(
    entry: Entry,
    row_of_image: Mapping[float | str, int],
    label_of: Mapping[float | str, int],
    named: Mapping[str, set[float | str]],
) -> tuple[float, ...]:
    image_id, category = entry.read("image_id", identifier), entry.read("category_id", identifier)
    box = entry.read("bbox", _BOX)
    if image_id not in named["images"]:
        raise entry.wrong("image_id", "the id of an entry of 'images'", shown(image_id))
    if category not in named["categories"]:
        raise entry.wrong("category_id", "the id of an entry of 'categories'", shown(category))
    if image_id not in row_of_image or category not in label_of:
        return (0.0,) * 7  # its entry is one of the bad ones, which are named
    return (row_of_image[image_id], label_of[category], float(entry.read("iscrowd", flag, False)), *box)


def bad_entry(source: Path, expected: str, got: str) -> DataError:
    """Return the error for something in an annotation file."""
    return DataError(explain(expected=expected, got=got, where=str(source), do="correct the annotation file"))
