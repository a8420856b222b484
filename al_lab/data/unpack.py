"""Unpack a tar or zip archive so that nothing can be written outside of its folder.

It does not rely on what Python's own code refuses.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from al_lab.core.disk import check_regular, disk_error
from al_lab.core.errors import DataError, explain

_LONGEST_NAME = 200  # bytes; temporary names beside a file need some of the 255
_LONGEST_PATH = 1000
_UNTRUSTED = "don't trust this file: delete it and download the official one"
_DAMAGED = "delete the file and run the command again"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# What readers of damaged archives raise.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


class _Opener(Protocol):
    def __call__(self) -> IO[bytes]: ...


@dataclass(frozen=True)
class _Member:
    """One entry of an archive: a folder, or a file of ``size`` bytes that ``open`` reads."""

    name: PurePosixPath
    is_dir: bool
    size: int = 0
    open: _Opener | None = None


def extract(path: Path, folder: Path) -> None:
    """Unpack an archive into a folder.

    Its suffix decides what it has to be: a zip is no tar. It may hold files and folders only. Links, devices and pipes
    are refused, and so is every name that is absolute, climbs out, is too long or is both file and folder; all names
    are looked at before the first byte is written. Permissions and owners are not taken over.

    Args:
        path: a .zip, or a .tar (also .tgz, .tar.gz, .tar.bz2, .tar.xz).
        folder: where it goes; what is there already is replaced file by file.

    Raises:
        DataError: naming the archive and the member that is refused, or what is damaged.
    """
    try:
        check_regular(path, "an archive")
    except FileNotFoundError:
        raise _refused(path, "an archive", "no such file", "run the command again") from None
    try:
        with _opener(path, folder)(path) as members:
            _check(members, path, folder)
            _write(members, path, folder)
    except _BROKEN as error:
        if isinstance(error, DataError):
            raise
        raise _refused(path, "an intact archive", str(error) or type(error).__name__, _DAMAGED) from error
    except OSError as error:
        if error.errno is None:  # gzip, bz2 and lzma complain like this
            raise _refused(path, "an intact archive", str(error), _DAMAGED) from error
        raise DataError(str(disk_error(error))) from error


def _opener(path: Path, folder: Path) -> Callable[[Path], AbstractContextManager[list[_Member]]]:
    suffixes = [s.lower() for s in path.suffixes]
    with path.open("rb") as stream:
        start = stream.read(8)
    if path.suffix.lower() == ".rar" or start.startswith(b"Rar!"):
        do = f"unpack it yourself: mkdir -p '{folder}' && unrar x '{path}' '{folder}/'"
        raise _refused(path, "an archive that Python can unpack", "a RAR file", do)
    is_zip = start.startswith((b"PK\3\4", b"PK\5\6"))
    if suffixes[-1:] == [".zip"]:
        if not is_zip:
            raise _refused(path, "a zip archive, as its name says", _kind(path, is_zip), _UNTRUSTED)
        return _zip_members
    if suffixes[-1:] in ([".tar"], [".tgz"]) or ".tar" in suffixes[-2:-1]:
        if is_zip or not tarfile.is_tarfile(path):
            raise _refused(path, "a tar archive, as its name says", _kind(path, is_zip), _UNTRUSTED)
        return _tar_members
    raise _refused(path, "an archive named .zip or .tar", f"one named {path.name!r}", "give the file its proper name")


def _kind(path: Path, is_zip: bool) -> str:
    return "a zip" if is_zip else "a tar" if tarfile.is_tarfile(path) else "neither zip nor tar"


@contextmanager
def _zip_members(path: Path) -> Iterator[list[_Member]]:
    with zipfile.ZipFile(path) as archive:
        members = []
        for info in archive.infolist():
            # Above the DOS attributes of a member made on Unix is its mode. A zip says by its name that it is a folder.
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
                raise _member_refused(path, info.orig_filename, "a link or a device")
            if info.flag_bits & 0x1:
                raise _member_refused(path, info.orig_filename, "an encrypted file", "unpack it yourself")
            if info.compress_type not in _METHODS:
                got = f"compression method {info.compress_type}, which is unknown here"
                raise _member_refused(
                    path, info.orig_filename, got, "unpack it yourself, and pack it anew as a plain zip"
                )
            name = _safe(info.orig_filename, path)
            members.append(_Member(name, info.is_dir(), info.file_size, partial(archive.open, info)))
        yield members


@contextmanager
def _tar_members(path: Path) -> Iterator[list[_Member]]:
    with tarfile.open(path) as archive:
        members = []
        for info in archive:
            if not (info.isfile() or info.isdir()) or info.issparse():
                raise _member_refused(path, info.name, "a link, a device or a pipe")
            name = _safe(info.name, path)
            members.append(_Member(name, info.isdir(), info.size, partial(_file_in, archive, info)))
        yield members


def _file_in(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(info)
    assert found is not None, f"{info.name} is a file"
    return found


def _safe(name: str, path: Path) -> PurePosixPath:
    """Return a member's name as a path below a folder; "." is the folder itself."""
    pure = PurePosixPath(name)
    got = (
        "a name with a NUL in it" if "\0" in name
        else "a name with a backslash, which is a folder on other systems" if "\\" in name
        else "an absolute name" if pure.is_absolute() or name[1:2] == ":"
        else "a name that climbs out of its folder" if ".." in pure.parts
        else "a name that is too long" if _is_long(pure)
        else ""
    )  # fmt: skip
    if got:
        raise _member_refused(path, name, got)
    return pure


def _is_long(name: PurePosixPath) -> bool:
    sizes = [len(os.fsencode(part)) for part in name.parts]
    return max(sizes, default=0) > _LONGEST_NAME or sum(sizes) + len(sizes) > _LONGEST_PATH


def _check(members: Sequence[_Member], path: Path, folder: Path) -> None:
    folders, files = {PurePosixPath(".")}, set[PurePosixPath]()
    for member in members:
        folders.update(member.name.parents)
        (folders if member.is_dir else files).add(member.name)
    if both := folders & files:
        raise _member_refused(path, str(min(both)), "a name of a file and of a folder")
    size = sum(member.size for member in members)
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        got = f"{size / 1e9:,.1f} GB in it and {free / 1e9:,.1f} GB free at {place}"
        raise _refused(path, "an archive that fits on the disk", got, "free some space, or choose another --data-dir")


def _write(members: Sequence[_Member], path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve()
    checked = set()
    for member in members:
        target = root / member.name
        parent = target if member.is_dir else target.parent
        parent.mkdir(parents=True, exist_ok=True)
        # No archive makes a link here, but one may lie in the folder from before.
        if parent not in checked and parent.resolve() != parent:
            do = "remove the link (a --data-dir may be one, what lies in it may not)"
            raise _member_refused(path, str(member.name), f"a link on the way, {parent}", do)
        checked.add(parent)
        if member.is_dir or member.open is None:
            continue
        if target.is_symlink():
            target.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with ExitStack() as stack:
            source = stack.enter_context(member.open())
            sink = stack.enter_context(os.fdopen(os.open(target, flags, 0o644), "wb"))
            shutil.copyfileobj(source, sink, 1 << 20)
        if target.stat().st_size != member.size:
            got = f"{target.stat().st_size:,} of {member.size:,} bytes of {member.name}"
            raise _refused(path, "an intact archive", got, _DAMAGED)


def _member_refused(path: Path, name: str, got: str, do: str = _UNTRUSTED) -> DataError:
    return _refused(path, "an archive of plain files and folders below its own", f"{got}: {name[:80]!r}", do)


def _refused(path: Path, expected: str, got: str, do: str) -> DataError:
    return DataError(explain(expected=expected, got=got, where=str(path), do=do))
