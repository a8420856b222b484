"""Files of points (results/*.csv): what a campaign's curves were, for verdicts without its run folders."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.judge import Judge, Line
from al_lab.reporting.read.line_names import LEVELS

SPENT = ("images", "boxes", "pixels", "clicks")
RANDOM = "random"
MINUTES = "minutes"  # an optional column: minutes of acquisition in that cycle
_NO_METRIC = (MINUTES, "fingerprint")
_BY_LAST, _AGAINST = "# judged by: last point", "# against:"


@dataclass(frozen=True)
class Table:
    """A file of points as it stands.

    Attributes:
        path: of the file.
        keys: columns before ``seed``: they name a line.
        spent: columns of what was spent.
        metrics: the other columns of numbers after ``cycle``.
        rows: one for each line, seed and cycle.
        by_last: whether it says that last points decide.
        against: the line it says others are measured against; "": random.
    """

    path: Path
    keys: tuple[str, ...]
    spent: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    by_last: bool
    against: str

    def wrong(self, expected: str, got: str, do: str) -> DataError:
        """Return the error for something in the file."""
        return DataError(explain(expected=expected, got=got, where=str(self.path), do=do))


@dataclass(frozen=True)
class Points:
    """A file of points.

    Attributes:
        judge: of its lines.
        metric: its name in the file.
        column: what was spent.
    """

    judge: Judge
    metric: str
    column: str


def read_table(path: Path) -> Table:
    """Read a file of points: its columns, rows and the comments that say how it is judged.

    Raises:
        DataError: if a column is missing, or a cell is no number where one has to be.
    """
    try:
        text = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            explain(expected="a file of points (CSV)", got=str(error), where=str(path), do="name another file")
        ) from error
    comments = [row for row in text if row.startswith("#")]
    rows = tuple(csv.DictReader(row for row in text if not row.startswith("#")))
    names = list(rows[0]) if rows else []
    spent = tuple(n for n in names if n in SPENT)
    against = next((c.removeprefix(_AGAINST).strip() for c in comments if c.startswith(_AGAINST)), "")
    after = names[names.index("cycle") + 1 :] if "cycle" in names else []
    metrics = tuple(n for n in after if n not in (*SPENT, *_NO_METRIC) and _is_number(rows[0][n]))
    keys = tuple(names[: names.index("seed")]) if "seed" in names else ()
    table = Table(path, keys, spent, metrics, rows, _BY_LAST in comments, against)
    if not {"seed", "cycle"} <= set(names) or not spent:
        raise table.wrong(
            f"columns seed, cycle and one of {', '.join(SPENT)}",
            ", ".join(names) or "none",
            "name the columns so in the first line that is no comment",
        )
    if not keys or not metrics:
        missing = "a column of names before seed" if not keys else "a column of a metric's numbers after cycle"
        raise table.wrong(missing, ", ".join(names), "add it; docs/howto/leaderboard.md shows such a file")
    for number, row in enumerate(rows, start=1):
        bad = next((n for n in ("seed", "cycle", *spent, *metrics) if not _is_number(row.get(n))), None)
        if bad is not None:
            raise table.wrong(f"a number as {bad}", repr(row.get(bad)), f"correct row {number} of the points")
    return table


def read_judge(path: Path, column: str | None = None) -> Judge:
    """Return the judge of a file of points; see `read_points`."""
    return read_points(path, column).judge


def read_points(path: Path, column: str | None = None) -> Points:
    """Read a file of points.

    Columns before ``seed`` name the line; ``images``, ``boxes``, ``pixels`` and ``clicks`` are what was spent; the
    first column of numbers after ``cycle`` that is none of these is the metric. The random line of the same other
    columns (a budget) is the reference; a comment ``# against: LABEL`` names another, ``# judged by: last point`` is
    for campaigns of one training.

    Args:
        path: the file.
        column: what was spent; None: the first there is.

    Raises:
        DataError: if a column is missing.
    """
    table = read_table(path)
    unit, metric = column_of(table, column), table.metrics[0]
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in table.rows:
        groups.setdefault(tuple(row[k] for k in table.keys), []).append(row)
    lines = []
    for key, members in groups.items():
        other = table.against or ", ".join((RANDOM, *key[1:]))
        is_level = key[0] in LEVELS  # one point each: there is no curve to compare
        there = {", ".join(k) for k in groups} - {", ".join(key)}
        wanted = (other,) if other in there and not is_level else ()
        lines.append(Line(", ".join(key), curves_of(members, unit, metric), wanted))
    return Points(Judge(tuple(lines), table.by_last), metric, unit)


def column_of(table: Table, column: str | None) -> str:
    """Return what was spent: the column asked for, or the first there is.

    Raises:
        DataError: if the file lacks it.
    """
    if column is not None and column not in table.spent:
        raise table.wrong(f"a column {column}", ", ".join(table.spent), "--column takes one of these")
    return column or table.spent[0]


def curves_of(rows: Sequence[Mapping[str, str]], column: str, metric: str) -> dict[int, Curve]:
    """Return seed -> learning curve of a line's rows."""
    seeds = sorted({int(row["seed"]) for row in rows})
    own = {seed: [row for row in rows if int(row["seed"]) == seed] for seed in seeds}
    return {s: Curve.make([float(r[column]) for r in own[s]], [float(r[metric]) for r in own[s]]) for s in seeds}


def _is_number(text: str | None) -> bool:
    try:
        return math.isfinite(float(text or ""))
    except ValueError:
        return False
