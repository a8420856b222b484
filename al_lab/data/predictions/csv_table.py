"""Predictions as a table: file, class, x1, y1, x2, y2, confidence; a header names the columns, in any order."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.fields import shown
from al_lab.core.record.csv_file import cell_of
from al_lab.data.predictions.rows import Rows, coded, raise_all

WHAT = "a table of predictions with the columns file, class, x1, y1, x2, y2, confidence"
_DO = "name the columns in the first line: file,class,x1,y1,x2,y2,confidence"
_ALIASES = {
    "file": ("file", "filename", "file_name", "image", "image_path", "path", "name"),
    "class": ("class", "class_name", "label", "category"),
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
    "confidence": ("confidence", "conf", "score", "probability"),
}
_NUMBERS = ("x1", "y1", "x2", "y2", "confidence")


def read(path: Path) -> Rows:
    """Read a table; boxes are in pixels. A row with a file name and no more is an image in which nothing was found.

    Raises:
        DataError: naming line and column.
    """
    source = Source(path, WHAT, _DO)
    raw = source.read_bytes()
    try:
        stream = io.StringIO(raw.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise source.wrong("UTF-8 text", str(error), do="save the table as UTF-8") from error
    sample = raw[:4096].decode("utf-8-sig", "replace").splitlines()[:1]
    reader = csv.reader(stream, delimiter=";" if sample and sample[0].count(";") > sample[0].count(",") else ",")
    try:
        header = [word.strip().lower() for word in next(reader, [])]
        columns = {key: _column(header, key, source) for key in _ALIASES}
        width = max(columns.values()) + 1
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise source.wrong("CSV", str(error), f"line {reader.line_num}") from error
    short = [n for n, row in lines if len(row) < width]
    if short:
        raise source.wrong(f"{len(header)} cells", "fewer", f"line {short[0]}", "write an empty cell where nothing is")
    names = [cell_of(row[columns["file"]].strip()) for _, row in lines]
    filled = [n for n, (_, row) in enumerate(lines) if any(row[columns[key]].strip() for key in _NUMBERS)]
    rows = [lines[n] for n in filled]
    values = [_numbers(rows, key, columns[key], source) for key in _NUMBERS]
    classes = [cell_of(row[columns["class"]].strip()) for _, row in rows]
    if "" in names or "" in classes:
        line = rows[classes.index("")][0] if "" in classes else lines[names.index("")][0]
        raise source.wrong("a file name and a class", "an empty cell", f"line {line}")
    images, at = coded(names)
    categories, category = coded(classes)
    return Rows(
        source,
        images,
        at[filled],
        categories,
        category,
        np.stack(values[:4], 1),
        values[4],
        False,
        lambda row: f"line {rows[row][0]}",
        first_category=0,
    )


def _column(header: list[str], key: str, source: Source) -> int:
    found = [header.index(alias) for alias in _ALIASES[key] if alias in header]
    if not found:
        raise source.wrong(f"a column {key!r} in the first line", shown(", ".join(header)))
    return found[0]


def _numbers(rows: list[tuple[int, list[str]]], key: str, column: int, source: Source) -> np.ndarray:
    cells = [row[column] for _, row in rows]
    try:
        return np.array(cells, np.str_).astype(np.float64) if cells else np.zeros(0)
    except ValueError:
        wrong = []
        for line, row in rows:
            try:
                float(row[column])
            except ValueError:
                wrong.append(str(source.wrong("a number", shown(row[column]), f"line {line}, column {key}",
                                              "write numbers with a point, without units")))  # fmt: skip
        raise_all(wrong)
        raise
