"""Reading JSON and text files that may hold anything: each problem is named with its file, its entry and its field."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from al_lab.core import disk
from al_lab.core.errors import DataError, LabError, explain
from al_lab.core.fields import Kind, WrongValueError, anything, list_of, shown

T = TypeVar("T")

# Bytes. COCO's train set has 450 MB; files beyond this are no annotations, and parsed they would fill any memory.
LARGEST_FILE = 4 * 2**30
_MISSING: Any = object()
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Source:
    """A file as errors speak of it.

    Attributes:
        path: the file.
        what: it should be, such as "a COCO annotation file".
        do: the remedy.
        error: of ours, to raise.
    """

    path: Path
    what: str
    do: str = "correct the file"
    error: type[LabError] = DataError

    def wrong(self, expected: str, got: str, place: str = "", do: str | None = None) -> LabError:
        """Return the error for something in the file."""
        where = f"{self.path}: {place}" if place else str(self.path)
        return self.error(explain(expected=expected, got=got, where=where, do=do or self.do))

    def missing(self) -> LabError:
        """Return the error for a file that is not there."""
        return self.wrong(self.what, "no such file")

    def check_regular(self) -> None:
        """Refuse what a library must not open: see `al_lab.core.disk.check_regular`.

        Raises:
            LabError: saying what it is instead of a file.
        """
        try:
            disk.check_regular(self.path, self.what, self.error, self.do)
        except FileNotFoundError:
            raise self.wrong(self.what, "no such file") from None

    def read_bytes(self, largest: int = LARGEST_FILE) -> bytes:
        """Read the whole file.

        Raises:
            LabError: if it is missing, no regular file, larger, or can't be read.
        """
        try:
            return disk.read_bytes(self.path, largest, self.what, self.error, self.do)
        except FileNotFoundError:
            raise self.wrong(self.what, "no such file") from None

    def read_json(self) -> Any:
        """Read the file as JSON, whose numbers may be NaN or infinite: the kinds of `al_lab.core.fields` refuse them.

        Raises:
            LabError: see `read_bytes`, and if it is no JSON.
        """
        raw = self.read_bytes()
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self.wrong(self.what, f"no JSON ({error})") from error

    def read_entry(self) -> "Entry":
        """Read the file as one JSON object."""
        return Entry(self.read_json(), self)

    def read_rows(self) -> Iterator["Entry"]:
        """Read the file as one JSON object a line."""
        for number, line in enumerate(self.read_bytes().splitlines(), 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self.wrong(self.what, f"no JSON ({error})", f"line {number}") from error
            yield Entry(value, self, f"line {number}")

    def read_lines(self) -> list[tuple[int, str]]:
        """Read a list for people: UTF-8 with or without a byte order mark; empty lines and comments (#) are left out.

        Returns:
            Number (from 1) and text without surrounding space of each line.

        Raises:
            LabError: see `read_bytes`, and if it is in another encoding.
        """
        raw = self.read_bytes()
        try:
            content = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            got = f"another encoding (byte {raw[error.start]:#04x})" if not raw.startswith(_UTF_16) else "UTF-16"
            raise self.wrong("UTF-8 text", got, f"line {line}", "save the file as UTF-8") from error
        lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
        return [(number, line) for number, line in stripped if line and not line.startswith("#")]


class Entry:
    """A JSON object that knows its place, so that whatever is wrong in it is named."""

    __slots__ = ("_value", "place", "source")

    def __init__(self, value: Any, source: Source, place: str = "") -> None:
        self.source, self.place = source, place
        if not isinstance(value, Mapping):
            raise source.wrong("an object {…}" if place else source.what, shown(value), place)
        self._value: Mapping[str, Any] = value

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def read(self, key: str, kind: Kind[T], default: T = _MISSING) -> T:
        """Return a field.

        Args:
            key: of the field.
            kind: what it has to be.
            default: if it is absent; without one it has to be there.

        Raises:
            LabError: of the source's kind, with file, entry and field.
        """
        value = self._value.get(key, _MISSING)
        if value is _MISSING:
            if default is not _MISSING:
                return default
            raise self.wrong(key, kind.expected, "no such field")
        try:
            return kind.read(value)
        except WrongValueError as wrong:
            if isinstance(value, float) and value.is_integer():  # JSON has one kind of number: 480.0 is 480
                try:
                    return kind.read(int(value))
                except WrongValueError:
                    pass
            do = self.source.do if wrong.do is None else wrong.do
            raise self.wrong(key + wrong.place, wrong.expected, wrong.got, do) from None

    def entry(self, key: str) -> "Entry":
        """Return an object that is a field."""
        return Entry(self.read(key, anything), self.source, self._below(key))

    def values(self, key: str, required: bool = True) -> list[Any]:
        """Return a list as it stands; unless ``required`` it may be absent."""
        return self.read(key, _OBJECTS) if required or key in self else []

    def child(self, value: Any, key: str, place: int) -> "Entry":
        """Return an element of a list that is a field.

        Raises:
            LabError: if it is no object.
        """
        return Entry(value, self.source, f"{self._below(key)}[{place}]")

    def entries(self, key: str, required: bool = True) -> Iterator["Entry"]:
        """Yield the objects of a list; unless ``required`` it may be absent."""
        for n, value in enumerate(self.values(key, required)):
            yield self.child(value, key, n)

    def wrong(self, key: str, expected: str, got: str, do: str | None = None) -> LabError:
        """Return the error for a field that fits its kind and yet makes no sense."""
        return self.source.wrong(expected, got, self._below(key) if key else self.place, do)

    def _below(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


_OBJECTS: Kind[list[Any]] = list_of(anything)
