"""The files of a run folder, whoever made it: only what lies in the folder is opened.

What can't be read becomes a note.
"""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from al_lab.core.disk import check_regular, read_text
from al_lab.core.errors import DataError
from al_lab.core.fields import LONGEST_TEXT, shown
from al_lab.core.record.csv_file import cell_of

T = TypeVar("T")

_MAX_TEXT_BYTES = 500_000_000  # the labels of all of COCO are a third of that
_OUTSIDE = "Images outside of the run folder are not shown"
_MAX_ARRAY_BYTES = 4_000_000_000  # of one file, unpacked
LONGEST_NAME = 120  # of what a page shows as a name


@dataclass(kw_only=True)
class RunFiles:
    """What lies in one run folder.

    Attributes:
        path: of the folder, resolved.
        notes: what was missing or broken, each naming its file.
        image_folders: whose images may be shown, besides those in the run folder itself: a run folder made by somebody
            else can name any file of this computer.
    """

    path: Path = field(kw_only=False)
    notes: list[str] = field(default_factory=list)
    image_folders: tuple[Path, ...] = ()

    def note(self, text: str) -> None:
        """Remember what was missing or broken, once."""
        if text not in self.notes:
            self.notes.append(text)

    def left_out(self, path: Path, why: object, what: str = "what it would show is") -> None:
        """Note that a file can't be read."""
        self.note(f"{self.short(path)} can't be read ({why}); {what} left out.")

    def short(self, path: Path) -> str:
        """Return a path as notes name it."""
        return str(path.relative_to(self.path)) if path.is_relative_to(self.path) else str(path)

    def is_inside(self, path: Path) -> bool:
        """Whether a path, links followed, stays in the run folder."""
        try:
            return path.resolve().is_relative_to(self.path)
        except (OSError, ValueError, RuntimeError):  # a name too long, a NUL, links that lead in a circle
            return False

    def read_text(self, path: Path) -> str | None:
        """Read a text file; None if it is missing, or can't be read (then noted)."""
        try:
            if not self.is_inside(path):
                self.left_out(path, "it is outside of the run folder")
                return None
            return read_text(path, _MAX_TEXT_BYTES)
        except FileNotFoundError:
            return None
        except DataError as error:
            self.left_out(path, error)
            return None

    def read_json(self, path: Path, quiet: bool = False) -> Any:
        """Read JSON; None if it is missing (noted unless ``quiet``) or broken (noted)."""
        before = len(self.notes)
        text = self.read_text(path)
        if text is None:
            if not quiet and len(self.notes) == before:
                self.note(f"{self.short(path)} is missing.")
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError, MemoryError) as error:
            self.left_out(path, error or type(error).__name__)
            return None

    def read_object(self, path: Path) -> dict[str, Any] | None:
        """Read a JSON object that need not be there; anything else in the file is noted."""
        value = self.read_json(path, quiet=True)
        if value is not None and not isinstance(value, dict):
            self.left_out(path, f"expected an object, got {shown(value)}")
        return value if isinstance(value, dict) else None

    def read_lines(self, path: Path) -> list[dict[str, Any]]:
        """Read the objects of a .jsonl file; a line that is none is noted with its number and left out."""
        rows: list[dict[str, Any]] = []
        for number, line in enumerate((self.read_text(path) or "").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                self.note(
                    f"{path.name}: line {number} is not a JSON object (a write that was cut off?); the "
                    f"{len(rows)} good "
                    "lines before it are used."
                )
        return rows

    def read_csv(self, path: Path) -> list[dict[str, str]]:
        """Read the rows of a CSV file; none if it is missing or broken (only the latter is noted)."""
        text = self.read_text(path)
        if text is None:
            return []
        try:
            rows = csv.DictReader(io.StringIO(text, newline=""))
            return [
                {cell_of(k): cell_of(v) for k, v in row.items() if isinstance(k, str) and isinstance(v, str)}
                for row in rows
            ]
        except (ValueError, csv.Error) as error:
            self.left_out(path, error)
            return []

    def load(self, path: Path, loader: Callable[[Path], T], what: str) -> T | None:
        """Read arrays; None if there are none, or they can't be read (then noted)."""
        try:
            if not self.is_inside(path):
                raise DataError("it is outside of the run folder")
            check_regular(path)
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_ARRAY_BYTES:
                raise DataError(f"it unpacks to {size / 1e9:,.0f} GB")
            return loader(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - a damaged zip raises many kinds; the report goes on without it
            self.left_out(path, f"{type(error).__name__}: {error}", what)
            return None

    def image(self, value: Any) -> Path | None:
        """Return the image that a file of the run names, if it may be shown; else None, and a note says why."""
        if not isinstance(value, str) or not value or "\0" in value or len(value) > LONGEST_TEXT:
            self.note("Some images to show have no path in the run's files.")
            return None
        inside = self.path / value
        if self.is_inside(inside) and (inside.exists() or not os.path.exists(value)):
            return inside  # else a path relative to where the command was given, as data/… is
        # Links in folders of the user's own are the user's own: only the text of the path may not leave them.
        path = Path(os.path.abspath(value))
        if any(path.is_relative_to(root) for own in self.image_folders for root in (own.absolute(), own.resolve())):
            return path
        if not any(note.startswith(_OUTSIDE) for note in self.notes):
            self.note(
                f"{_OUTSIDE}, because a run folder can name any file of this computer "
                f"(the first is {shown(value)}). Name the folder that holds the dataset's images to see them: "
                f"al-lab report {self.path} --images FOLDER"
            )
        return None


def name_of(value: Any) -> str:
    """Return what stands where a name should, as one line that a page can show."""
    text = value if isinstance(value, str) else shown(value)
    text = "".join(c if c.isprintable() else "\ufffd" for c in text[: LONGEST_NAME + 1])
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
