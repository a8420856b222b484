"""CSV that a spreadsheet shows as text and numbers, never as a formula."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a cell that spreadsheets compute begins with
_TEXT = "'"  # what marks a cell as text for them


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV; nothing where a value is missing or no finite number.

    A text that a spreadsheet would take for a formula (a class named ``=HYPERLINK(…)``) gets an apostrophe in front,
    which spreadsheets hide and `cell_of` takes off; numbers stay as they are.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_cell(c) for c in columns])
    writer.writerows([_cell(v) for v in row] for row in rows)
    return stream.getvalue()


def cell_of(text: str) -> str:
    """Return the text that `csv_text` wrote into a cell."""
    is_marked = text.startswith(_TEXT) and text[1:].lstrip(_TEXT).startswith(_FORMULA)
    return text[1:] if is_marked else text


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    is_formula = isinstance(value, str) and value.lstrip(_TEXT).startswith(_FORMULA) and not _is_number(value)
    return f"{_TEXT}{value}" if is_formula else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
