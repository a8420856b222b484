"""Typed fields: what a setting, or a field of a file, has to be, and the sentence for what it is not.

A kind is called with a value and its place, and returns the value it read::

    self.lr = positive(lr, "trainer.lr")
    self.batch_size = at_least(1)(batch_size, "trainer.batch_size")
    self.optimizer = one_of("sgd", "adamw")(optimizer, "trainer.optimizer")
    self.grad_clip = optional(positive)(grad_clip, "trainer.grad_clip", do="null clips nothing")

`al_lab.core.documents` reads the fields of JSON files with the same kinds. Numbers are finite and fit 64 bits; a bool
is no number, and a number is no text.
"""

import math
import numbers
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from al_lab.core.errors import ConfigError, LabError, did_you_mean, explain

T = TypeVar("T")

CORRECT = "correct the value"
LONGEST_TEXT = 4096  # characters; no path, class name or identifier comes near it
_INT64 = 2**63
_FARTHEST_PX = 1e9  # sums of coordinates stay finite, float32 holds them
_LONGEST_NAME, _LONGEST_PATH = 255, 2048  # bytes; what file systems hold
_LONGEST_NUMBER = 400  # characters
_DIGITS = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What programs write where a name is missing.
_NO_NAMES = frozenset({"nan", "NaN", "None", "null"})
_FLAGS = {"0": False, "1": True, "false": False, "true": True}

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = _shorten.maxlong = 80
_LONGEST_SHOWN = 160


def shown(value: Any) -> str:
    """Return a value as errors print it: one short line, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 1000:  # noqa: PLR2004 - Python refuses to print the longest
        return f"a whole number of {value.bit_length()} bits"
    line = _shorten.repr(value)
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]} …"


class WrongValueError(ValueError):
    """A value is not what its kind says; raised by the functions inside a kind, which know no place.

    Attributes:
        expected: in words.
        got: in words.
        place: below the field, such as "[2]".
        do: a remedy that knows more than the caller does, such as the nearest choice.
    """

    def __init__(self, expected: str, value: Any, place: str = "", do: str | None = None) -> None:
        super().__init__(expected)
        self.expected, self.got, self.place, self.do = expected, shown(value), place, do

    def below(self, place: str) -> "WrongValueError":
        """Return itself, said of a value that lies deeper."""
        self.place = place + self.place
        return self

    def sentence(self, where: str, do: str) -> str:
        """Return the whole sentence."""
        return explain(expected=self.expected, got=self.got, where=where + self.place, do=self.do or do)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a field has to be.

    Attributes:
        expected: in words.
        read: returns the value, or raises `WrongValueError`.
    """

    expected: str
    read: Callable[[Any], T]

    def __call__(self, value: Any, where: str, do: str = CORRECT, error: type[LabError] = ConfigError) -> T:
        """Return the value of one field.

        Args:
            value: what was given.
            where: its place, such as "trainer.lr".
            do: the remedy.
            error: of ours, to raise.

        Raises:
            LabError: ``error``, if it is not what it has to be.
        """
        try:
            return self.read(value)
        except WrongValueError as wrong:
            raise error(wrong.sentence(where, do)) from None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        return None
    found = int(value)
    return found if -_INT64 <= found < _INT64 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def _make_integer(expected: str, holds: Callable[[int], bool]) -> Kind[int]:
    def read(value: Any) -> int:
        found = _integer(value)
        if found is None or not holds(found):
            raise WrongValueError(expected, value)
        return found

    return Kind(expected, read)


def _make_number(expected: str, holds: Callable[[float], bool]) -> Kind[float]:
    def read(value: Any) -> float:
        found = _number(value)
        if found is None or not holds(found):
            raise WrongValueError(expected, value)
        return found

    return Kind(expected, read)


anything: Kind[Any] = Kind("anything", lambda value: value)
integer = _make_integer("a whole number", lambda _: True)
number = _make_number("a finite number", lambda _: True)
positive = _make_number("a finite number > 0", lambda v: v > 0)
not_negative = _make_number("a finite number >= 0", lambda v: v >= 0)
coordinate = _make_number("a finite number of pixels", lambda v: abs(v) <= _FARTHEST_PX)
fraction = _make_number("a number in [0, 1]", lambda v: 0 <= v <= 1)
share = _make_number("a number in (0, 1]", lambda v: 0 < v <= 1)
below_one = _make_number("a number in [0, 1)", lambda v: 0 <= v < 1)


def at_least(least: int, what: str = "a whole number") -> Kind[int]:
    """Return the kind of whole numbers from ``least`` on; ``what`` may name them ("a whole number of pixels")."""
    return _make_integer(f"{what} >= {least}", lambda v: v >= least)


def between(least: int, most: int, what: str = "a whole number") -> Kind[int]:
    """Return the kind of whole numbers in [least, most]."""
    return _make_integer(f"{what} in {least}..{most}", lambda v: least <= v <= most)


def number_in(least: float, most: float) -> Kind[float]:
    """Return the kind of numbers in [least, most]."""
    return _make_number(f"a number in [{least:g}, {most:g}]", lambda v: least <= v <= most)


def number_from(least: float) -> Kind[float]:
    """Return the kind of numbers from ``least`` on."""
    return _make_number(f"a number >= {least:g}", lambda v: v >= least)


def check_fields(values: Mapping[str, Any], kinds: Mapping[str, "Kind[Any]"], where: str) -> None:
    """Check several settings of one object.

    Args:
        values: by name, such as ``vars(self)``.
        kinds: of those that are checked.
        where: the object's place, such as "strategy.lut".

    Raises:
        ConfigError: for the first that is not what it has to be.
    """
    for name, kind in kinds.items():
        kind(values[name], f"{where}.{name}")


def one_of(*choices: Any) -> Kind[Any]:
    """Return the kind of some values and no others; the sentence names the nearest one."""
    expected = " | ".join(map(str, choices))

    def read(value: Any) -> Any:
        # True == 1 in Python, but not for who wrote it.
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise WrongValueError(expected, value, do=did_you_mean(str(value)[:LONGEST_TEXT], map(str, choices)))

    return Kind(expected, read)


def _read_text(value: Any, what: str = "text") -> str:
    if not isinstance(value, str) or not value.strip():
        raise WrongValueError(what, value)
    if len(value) > LONGEST_TEXT:
        raise WrongValueError(f"at most {LONGEST_TEXT} characters", value)
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise WrongValueError("text that UTF-8 and file systems can hold", value)
    return value


text = Kind("text", _read_text)


def _read_path_below(value: Any) -> str:
    name = _read_text(value, "a file name").replace("\\", "/")
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise WrongValueError("a file name below its folder", value)
    if len(name.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise WrongValueError("a file name that disks can hold", value)
    return path.as_posix()


path_below = Kind("a file name below its folder", _read_path_below)


def _read_class_name(value: Any) -> str:
    name = _read_text(value, "a class name")
    if name in _NO_NAMES or any(ord(c) < ord(" ") for c in name):
        raise WrongValueError("a class name in one line (nan, None and null are no names)", value)
    return name


class_name = Kind("a class name", _read_class_name)


def _read_identifier(value: Any) -> str | int | float:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise WrongValueError("a number or text", value)
    return value


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


identifier: Kind[str | int | float] = Kind("a number or text", _read_identifier)


def _read_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in _FLAGS:
        return _FLAGS[word]
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    raise WrongValueError("0, 1, true or false", value)


flag = Kind("0, 1, true or false", _read_flag)


def written(kind: Kind[T]) -> Kind[T]:
    """Return the kind of numbers written as text, as XML has them: digits, sign, point and exponent."""
    expected = f"{kind.expected}, written in digits"

    def read(value: Any) -> T:
        said = value.strip() if isinstance(value, str) else ""
        if len(said) > _LONGEST_NUMBER or not _DIGITS.fullmatch(said):
            raise WrongValueError(expected, value)
        found = float(said)
        try:
            return kind.read(int(found) if found.is_integer() else found)
        except WrongValueError:
            raise WrongValueError(expected, value) from None

    return Kind(expected, read)


def list_of(kind: Kind[T], length: int | None = None, least: int = 0) -> Kind[list[T]]:
    """Return the kind of lists of a kind, with ``length`` or at ``least`` so many entries."""
    count = f" of {length}" if length is not None else f" of at least {least}" if least else ""
    expected = f"a list{count}" + ("" if kind is anything else f", each {kind.expected}")

    def read(value: Any) -> list[T]:
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not is_list or len(value) < least or (length is not None and len(value) != length):
            raise WrongValueError(expected, value)
        found = []
        for n, item in enumerate(value):
            try:
                found.append(kind.read(item))
            except WrongValueError as wrong:
                raise wrong.below(f"[{n}]") from None
        return found

    return Kind(expected, read)


def mapping_of(kind: Kind[T]) -> Kind[dict[str, T]]:
    """Return the kind of mappings from text to a kind."""
    expected = f"a mapping from names, each to {kind.expected}"

    def read(value: Any) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise WrongValueError(expected, value)
        found = {}
        for key, item in value.items():
            try:
                found[_read_text(key)] = kind.read(item)
            except WrongValueError as wrong:
                raise wrong.below(f"[{shown(key)}]") from None
        return found

    return Kind(expected, read)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return the kind that also takes null."""
    expected = f"{kind.expected}, or null"

    def read(value: Any) -> T | None:
        if value is None:
            return None
        try:
            return kind.read(value)
        except WrongValueError as wrong:
            if not wrong.place:
                wrong.expected = f"{wrong.expected}, or null"
            raise

    return Kind(expected, read)
