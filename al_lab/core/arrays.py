"""Reading ``.npz`` files that may be damaged or made to harm: nothing is unpickled, nothing grows beyond a bound."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import LabError, ResumeError

# Bytes. Files that were not compressed can't unpack to more than they are; of the others this is the largest.
_LARGEST_UNPACKED = 2**29
_ENTRY_OVERHEAD = 2**16


class _DamagedError(Exception):
    """An array is not what its file says."""


@dataclass(frozen=True)
class Column:
    """What an array of a file has to be.

    Attributes:
        kinds: letters of numpy's ``dtype.kind`` that are possible: "f", "iu", "b", "U" …
        shape: a number, a letter (equal letters are equal lengths in all columns of the file), or None for any length.
            Without a shape anything fits.
        required: it has to be there.
    """

    kinds: str
    shape: tuple[int | str | None, ...] | None = None
    required: bool = True


def load_arrays(
    path: Path,
    columns: Mapping[str, Column],
    *,
    rest: Column | None = None,
    compressed: bool = False,
    do: str = "restore the file, or start anew with restart=again",
    error: type[LabError] = ResumeError,
) -> dict[str, np.ndarray]:
    """Read an ``.npz``.

    Args:
        path: the file.
        columns: name to what the array has to be.
        rest: what arrays of other names have to be; None: there may be none.
        compressed: whether the file may unpack to more than its own size.
        do: the remedy.
        error: of ours, to raise.

    Returns:
        The arrays that are there, each in memory of its own.

    Raises:
        LabError: ``error``, naming the file and the array that is missing, damaged, or of another kind.
    """
    source = Source(path, "a file of arrays (.npz)", do, error)
    source.check_regular()
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            most = max(path.stat().st_size + _ENTRY_OVERHEAD, _LARGEST_UNPACKED if compressed else 0)
            if unpacked > most:
                raise _DamagedError(f"one that unpacks to {unpacked / 1e6:.0f} MB")
            arrays = {name.removesuffix(".npy"): _read_array(archive, name) for name in archive.namelist()}
    except Exception as problem:  # zip, its decompressors and numpy's header raise a dozen kinds for damaged bytes
        got = (
            str(problem)
            if isinstance(problem, _DamagedError)
            else f"a damaged one ({problem or type(problem).__name__})"
        )
        raise source.wrong(source.what, got) from problem
    _check(arrays, columns, rest, source)
    return arrays


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
        read_header: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise _DamagedError(f"{name} in format {version}")
        shape, is_fortran, dtype = read_header(stream)
        if dtype.hasobject:
            raise _DamagedError(f"{name} with Python objects, which are never loaded")
        # The header is not believed: an array takes what it really holds.
        data = stream.read()
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
            raise _DamagedError(f"{name} of shape {shape} with {len(data)} bytes")
    return np.ndarray(shape, dtype, data, order="F" if is_fortran else "C").copy()


def _check(
    arrays: Mapping[str, np.ndarray], columns: Mapping[str, Column], rest: Column | None, source: Source
) -> None:
    missing = [name for name, column in columns.items() if column.required and name not in arrays]
    strange = [name for name in arrays if name not in columns] if rest is None else []
    if missing or strange:
        raise source.wrong(f"the arrays {', '.join(columns)}", ", ".join(sorted(arrays)) or "none")
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        column = columns.get(name, rest)
        if column is None or column.shape is None:
            fits = column is not None and array.dtype.kind in column.kinds
        else:
            fits = array.dtype.kind in column.kinds and array.ndim == len(column.shape)
            for wanted, length in zip(column.shape, array.shape, strict=False):
                wanted = lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted
                fits = fits and (wanted is None or wanted == length)
        if not fits:
            shape = "" if column is None or column.shape is None else f" of shape {_shown(column.shape, lengths)}"
            kinds = "" if column is None else column.kinds
            raise source.wrong(f"{name} of kind {kinds!r}{shape}", f"{array.dtype} of shape {array.shape}")


def _shown(shape: tuple[int | str | None, ...], lengths: Mapping[str, int]) -> str:
    sizes = ("any" if n is None else lengths.get(n, n) if isinstance(n, str) else n for n in shape)
    return f"({', '.join(map(str, sizes))})"
