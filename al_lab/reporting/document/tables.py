"""Tables that a page, a spreadsheet and a paper can all show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_lab.core.files import write_text
from al_lab.core.record.csv_file import csv_text

Cell = str | int | float | None

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "≥": r"$\geq$",
    "–": "--",
    "…": r"\ldots{}",
}


@dataclass(frozen=True)
class Table:
    """Rows of plain values.

    Attributes:
        name: file name without suffix.
        digits: decimals of the floats, one for each column (or one for all).
        note: a line below the table.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]  # of `Cell`s
    digits: Sequence[int] | int = 1
    note: str = ""

    def text(self, value: Cell, column: int) -> str:
        """Return the cell as a reader sees it; what doesn't exist is a dash."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return "–"
        if isinstance(value, float):
            digits = self.digits if isinstance(self.digits, int) else self.digits[column]
            text = f"{value:,.{digits}f}"
            return (text if float(text.replace(",", "")) else text.lstrip("-")).replace("-", "−")  # no minus zero
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    def texts(self) -> list[list[str]]:
        """Return all cells as text."""
        return [[self.text(value, k) for k, value in enumerate(row)] for row in self.rows]

    def is_numeric(self, column: int) -> bool:
        """Whether a column is numbers (and so is set flush right)."""
        values = [row[column] for row in self.rows if row[column] is not None]
        return bool(values) and all(isinstance(v, int | float) for v in values)

    def to_csv(self) -> str:
        """Return the values unrounded; nothing where nothing is."""
        return csv_text(self.columns, self.rows)

    def to_latex(self) -> str:
        """Return a table in LaTeX's booktabs style."""
        align = "".join("r" if self.is_numeric(k) else "l" for k in range(len(self.columns)))
        lines = [
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{latex(self.caption)}}}",
            rf"  \label{{tab:{self.name}}}",
            rf"  \begin{{tabular}}{{{align}}}",
            r"    \toprule",
            "    " + " & ".join(map(latex, self.columns)) + r" \\",
            r"    \midrule",
        ]
        lines += ["    " + " & ".join(map(latex, row)) + r" \\" for row in self.texts()]
        return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])

    def save(self, folder: Path) -> list[Path]:
        """Write ``name.csv`` and ``name.tex``."""
        paths = [folder / f"{self.name}.csv", folder / f"{self.name}.tex"]
        write_text(paths[0], self.to_csv())
        write_text(paths[1], self.to_latex())
        return paths


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(character, character) for character in text)


def unit_of(seconds: Sequence[float]) -> tuple[str, float]:
    """Return the unit in which durations are best read, and how many seconds it has."""
    longest = max((s for s in seconds if math.isfinite(s)), default=0.0)
    return ("hours", 3600.0) if longest >= 2 * 3600 else ("minutes", 60.0) if longest >= 120 else ("seconds", 1.0)


def duration(seconds: float) -> str:
    """Return ``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
