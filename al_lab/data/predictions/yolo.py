"""YOLO's text predictions: a file an image, a line a box: class cx cy w h confidence, fractions of the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError
from al_lab.core.fields import shown
from al_lab.data.formats.yolo import read_data_yaml
from al_lab.data.predictions.rows import Rows, raise_all

WHAT = "YOLO predictions: lines of class cx cy w h confidence"
_DO = "predict again with save_txt=True save_conf=True, or correct the line"
_COLUMNS = 6
_MOST_CLASSES = 2**31
_DESCRIBED = ("data.yaml", "data.yml", "dataset.yaml")
_LISTS = ("classes.txt", "labels.txt", "readme.txt")


def read(folder: Path) -> Rows:
    """Read all text files below a folder.

    Class names come from a ``data.yaml`` or ``classes.txt`` in the folder or above it; else numbers count the dataset's
    classes.

    Raises:
        DataError: naming file and line.
    """
    source = Source(folder, WHAT, _DO)
    files = sorted(p for p in folder.rglob("*.txt") if p.name.lower() not in _LISTS)
    if not files:
        raise source.wrong("a folder of text files, one an image", "none")
    tables: list[np.ndarray] = []
    wrong: list[str] = []
    for path in files:
        try:
            tables.append(_read_file(path))
        except DataError as error:
            wrong.append(str(error))
            tables.append(np.zeros((0, _COLUMNS)))
    raise_all(wrong)
    counts = np.array([len(t) for t in tables], np.int64)
    table = np.concatenate(tables)
    center, half = table[:, 1:3], table[:, 3:5] / 2
    names = _names(folder)
    numbers, category = np.unique(table[:, 0].astype(np.int64), return_inverse=True)
    ends = np.cumsum(counts)

    def place(row: int) -> str:
        file = int(np.searchsorted(ends, row, "right"))
        return f"{files[file].relative_to(folder)}: box {row - int(ends[file] - counts[file]) + 1}"

    return Rows(
        source,
        [path.relative_to(folder).with_suffix("").as_posix() for path in files],
        np.repeat(np.arange(len(files)), counts),
        [names.get(k, k) for k in numbers.tolist()],
        category.astype(np.int64),
        np.concatenate([center - half, center + half], 1),
        table[:, 5],
        True,
        place,
        first_category=0,
    )


def _read_file(path: Path) -> np.ndarray:
    """Return (D, 6): class, cx, cy, w, h, confidence."""
    source = Source(path, WHAT, _DO)
    lines = source.read_bytes().split(b"\n")
    rows = [words for line in lines if (words := line.split()) and not words[0].startswith(b"#")]
    try:
        table = np.array(rows, np.bytes_).astype(np.float64).reshape(len(rows), _COLUMNS)
    except (ValueError, OverflowError):
        raise _named(source) from None
    numbers = table[:, 0]
    with np.errstate(invalid="ignore"):
        if ((numbers % 1 == 0) & (numbers >= 0) & (numbers < _MOST_CLASSES)).all():
            return table
    raise _named(source)


def _named(source: Source) -> Exception:
    """Return the error that names the first line that is no prediction."""
    for n, line in source.read_lines():
        words = line.split()
        if len(words) == _COLUMNS - 1:
            return source.wrong("a confidence as sixth number", "five numbers: these are labels", f"line {n}")
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) != _COLUMNS:
            return source.wrong("six numbers: class cx cy w h confidence", shown(line), f"line {n}")
        if not values[0].is_integer() or not 0 <= values[0] < _MOST_CLASSES:
            return source.wrong("a class number, 0 or more", words[0], f"line {n}")
    return source.wrong(WHAT, "something else")


def _names(folder: Path) -> Mapping[int, str]:
    for home in (folder, folder.parent):
        for name in _DESCRIBED:
            if (home / name).is_file():
                return dict(enumerate(read_data_yaml(home / name)["names"]))
        if (home / "classes.txt").is_file():
            lines = Source(home / "classes.txt", "class names, one a line").read_lines()
            return {n: line for n, (_, line) in enumerate(lines)}
    return {}
