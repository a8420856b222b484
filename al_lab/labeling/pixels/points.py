"""Numbered points and squares: which pixels of an image people are asked about, one click each."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, explain
from al_lab.core.fields import at_least, shown, written
from al_lab.core.record.csv_file import cell_of, csv_text
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED, PixelLabels
from al_lab.core.record.squares import squares
from al_lab.core.types import Candidates, Query
from al_lab.data.formats.areas import NO_CLASS_NAMES, Point, label_of

COLUMNS = ("image", "point", "x", "y", "side", "class")
_NUMBER = written(at_least(0))
_NEAR_PX = 3.0  # a click is meant for the point this near, if no other is


@dataclass(frozen=True)
class Target:
    """One question: what is this?

    Attributes:
        number: from 1, the same at every call.
        x: of the pixel at its center, 0-based.
        y: the same.
        side: of the square in pixels; 1 for a point.
        pixels: (n,) flat indices that the answer names.
    """

    number: int
    x: int
    y: int
    side: int
    pixels: np.ndarray


def targets_of(query: Query, candidates: Candidates | None) -> tuple[Target, ...]:
    """Return the questions of a query, numbered row by row; none for a whole image.

    Pixels that were bought as squares are one question a square. Squares are those of the candidates; without them
    (a list that is replayed) pixels that touch are one question. Pixels that were bought as segments are one question
    a segment, asked at the pixel of it that is nearest to its middle.

    Args:
        query: of some pixels.
        candidates: what could be bought; None if nobody knows, or if they were single pixels.
    """
    if query.region is None:
        return ()
    region, side = query.region, 1
    if region.segments is not None:
        parts = region.parts()
    elif candidates is None:
        parts = [np.array([p]) for p in region.pixels]
    else:
        parts = squares(region, query.sample_id, candidates)
        side = 2 * candidates.radius_px + 1
    found = []
    for pixels in parts:
        y, x = np.divmod(pixels, region.size_hw[1])
        if region.segments is None:
            middle = int(round((y.min() + y.max()) / 2)), int(round((x.min() + x.max()) / 2))
        else:  # of a bent one the middle may be another's
            nearest = int(((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin())
            middle = int(y[nearest]), int(x[nearest])
        found.append((*middle, pixels))
    found.sort(key=lambda part: (part[0], part[1], int(part[2][0])))
    return tuple(Target(n, x, y, side, pixels) for n, (y, x, pixels) in enumerate(found, 1))


def is_open(target: Target, labels: PixelLabels | None) -> bool:
    """Say whether a question has no answer yet."""
    return labels is None or bool((labels.map_HW.reshape(-1)[target.pixels] == UNANSWERED).any())


def answer(labels: PixelLabels, target: Target, label: int) -> None:
    """Write an answer; where squares overlap, the one of the higher number is written later."""
    labels.map_HW.reshape(-1)[target.pixels] = label


def template(rows: Sequence[tuple[str, Target]]) -> str:
    """Return the table that people fill in: a line a question, the class left empty."""
    return csv_text(COLUMNS, ([name, t.number, t.x, t.y, t.side, ""] for name, t in rows))


@dataclass(frozen=True)
class Line:
    """One line of a table that came back.

    Attributes:
        image: as it is written.
        cells: of the columns that are there.
        where: file and line.
        wrong: why it can't be read; empty if it can.
    """

    image: str
    cells: Mapping[str, str]
    where: str
    wrong: str = ""


def read_table(path: Path) -> Iterator[Line]:
    """Read a table with columns image, point and class, in any order, between commas, semicolons or tabs.

    Raises:
        DataError: if the columns are not there, or it is no text.
    """
    source = Source(path, f"a table with the columns {', '.join(COLUMNS)}", "fill in points.csv and save it as CSV")
    lines = source.read_lines()
    if not lines:
        raise source.wrong(source.what, "an empty file")
    number, head = lines[0]
    separator = max(",;\t", key=head.count)
    names = [cell.strip().lower() for cell in _cells(source, number, head, separator)]
    if missing := [c for c in ("image", "point", "class") if c not in names]:
        raise source.wrong(source.what, f"no column {missing[0]!r}", f"line {number}")
    for number, line in lines[1:]:
        try:
            cells = _cells(source, number, line, separator)
        except DataError as error:
            yield Line("", {}, f"{path}: line {number}", str(error))
            continue
        row = dict(zip(names, (cell_of(cell.strip()) for cell in cells), strict=False))
        if any(row.values()):
            yield Line(row.get("image", ""), row, f"{path}: line {number}")


def _cells(source: Source, number: int, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error as error:
        do = "correct the line"
        raise source.wrong("cells with separators between them", str(error), f"line {number}", do) from error


def answered_by(line: Line, targets: Sequence[Target], classes: Sequence[str]) -> tuple[Target, int] | None:
    """Return which question a line answers, and with which label; None if its class is empty.

    Raises:
        DataError: for a number that was not asked, another place than that number's, and a class that nobody knows.
    """
    said = line.cells.get("class", "")
    if not said:
        return None
    number = _NUMBER(line.cells.get("point", ""), f"{line.where}: point", _NUMBERS, DataError)
    target = next((t for t in targets if t.number == number), None)
    if target is None:
        raise DataError(
            explain(
                expected=f"a point of {line.image}, 1..{len(targets)}",
                got=str(number),
                where=f"{line.where}: point",
                do=_NUMBERS,
            )
        )
    for key, value in (("x", target.x), ("y", target.y)):
        if (
            line.cells.get(key)
            and (got := _NUMBER(line.cells[key], f"{line.where}: {key}", _NUMBERS, DataError)) != value
        ):
            raise DataError(
                explain(
                    expected=f"{value}, where point {number} of {line.image} is",
                    got=str(got),
                    where=f"{line.where}: {key}",
                    do="fill in the table of this cycle; another cycle's points are elsewhere",
                )
            )
    return target, class_of(said, classes, f"{line.where}: class")


_NUMBERS = "keep the numbers of points.csv"


def class_of(said: str, classes: Sequence[str], where: str) -> int:
    """Return the label of a class that is given by its name or its id.

    Raises:
        DataError: if there is none.
    """
    if said in classes or said.lower() in NO_CLASS_NAMES or not said.isascii() or not said.isdigit():
        return label_of(said, classes, where, "names and ids are in class_table.csv")
    label = int(said) if len(said) < 4 else NO_CLASS + 1  # noqa: PLR2004 - ids have three digits at most
    if label >= len(classes) and label != NO_CLASS:
        raise DataError(
            explain(
                expected=f"a class's name, its id 0..{len(classes) - 1}, or none",
                got=shown(said),
                where=where,
                do="names and ids are in class_table.csv",
            )
        )
    return label


def target_near(point: Point, targets: Sequence[Target]) -> Target:
    """Return the question that somebody clicked on: the square around the click, or the point beside it.

    Raises:
        DataError: if there is none, or it could be either of two.
    """
    y, x = int(np.floor(point.y)), int(np.floor(point.x))
    away = np.array([max(abs(t.x - x), abs(t.y - y)) - t.side // 2 for t in targets], np.float64)
    nearest = away.min(initial=np.inf)
    fits = np.flatnonzero(away == nearest)
    if nearest <= 0 and len(fits) > 1:  # squares that overlap: whose center is nearer
        far = np.array([np.hypot(targets[n].x - x, targets[n].y - y) for n in fits])
        fits = fits[far == far.min()]
    if nearest > _NEAR_PX or len(fits) != 1:
        got = "none" if nearest > _NEAR_PX else f"{len(fits)} that are as near"
        raise DataError(
            explain(
                expected=f"one of the {len(targets)} numbered points within {_NEAR_PX:g} pixels",
                got=got,
                where=f"{point.where}: {point.name} at x {point.x:.1f}, y {point.y:.1f}",
                do="click on the points that are asked for; points.csv has their places",
            )
        )
    return targets[int(fits[0])]
