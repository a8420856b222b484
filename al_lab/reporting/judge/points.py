"""Files of points (results/*.csv): what a campaign's curves were, for verdicts without its run folders."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.judge import Judge, Line
from al_lab.reporting.read.line_names import FULL_DATA, NO_LABELS

_SPENT = ("images", "boxes", "pixels", "clicks")
_RANDOM = "random"
_BY_LAST, _AGAINST = "# judged by: last point", "# against:"


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


def read_judge(path: Path, column: str | None = None) -> Judge:
    """Return the judge of a file of points; see `read_points`."""
    return read_points(path, column).judge


def read_points(path: Path, column: str | None = None) -> Points:
    """Read a file of points.

    Columns before ``seed`` name the line; ``images``, ``boxes``, ``pixels`` and ``clicks`` are what was spent; the
    first column after ``cycle`` that is none of these is the metric. The random line of the same other columns (a
    budget) is the reference; a comment ``# against: LABEL`` names another, ``# judged by: last point`` is for
    campaigns of one training.

    Args:
        path: the file.
        column: what was spent; None: the first there is.

    Raises:
        DataError: if a column is missing.
    """
    text = path.read_text(encoding="utf-8").splitlines()
    comments = [row for row in text if row.startswith("#")]
    rows = list(csv.DictReader(row for row in text if not row.startswith("#")))
    names = list(rows[0]) if rows else []
    spent = [n for n in names if n in _SPENT]
    if not {"seed", "cycle"} <= set(names) or not spent or (column or spent[0]) not in spent:
        raise DataError(
            explain(
                expected=f"columns seed, cycle and {column or 'one of ' + ', '.join(_SPENT)}",
                got=", ".join(names) or "none",
                where=str(path),
                do="name the columns so in the first line that is no comment",
            )
        )
    keys = names[: names.index("seed")]
    metric = next(n for n in names[names.index("cycle") + 1 :] if n not in _SPENT)
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    against = next((c.removeprefix(_AGAINST).strip() for c in comments if c.startswith(_AGAINST)), "")
    lines = []
    for key, members in groups.items():
        other = against or ", ".join((_RANDOM, *key[1:]))
        is_level = key[0] in (FULL_DATA, NO_LABELS)  # one point each: there is no curve to compare
        there = {", ".join(k) for k in groups} - {", ".join(key)}
        wanted = (other,) if other in there and not is_level else ()
        lines.append(Line(", ".join(key), _curves(members, column or spent[0], metric), wanted))
    return Points(Judge(tuple(lines), _BY_LAST in comments), metric, column or spent[0])


def _curves(rows: list[Mapping[str, str]], column: str, metric: str) -> dict[int, Curve]:
    seeds = sorted({int(row["seed"]) for row in rows})
    own = {seed: [row for row in rows if int(row["seed"]) == seed] for seed in seeds}
    return {s: Curve.make([float(r[column]) for r in own[s]], [float(r[metric]) for r in own[s]]) for s in seeds}
