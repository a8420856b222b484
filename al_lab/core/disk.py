"""The edge to the file system.

Only regular files of a bounded size are read, and what it refuses becomes a sentence.
"""

import errno
import os
import shutil
import stat
from pathlib import Path

from al_lab.core.errors import DataError, LabError, explain

MEGABYTE = 1_000_000
_ELSEWHERE = "choose another place: runtime.outputs_dir=…, runtime.data_dir=… or runtime.cache_dir=…"
_GO_ON = "run the same command again; what was committed before is untouched"
# errno -> what was expected, what came, what to do
_REFUSED: dict[int, tuple[str, str, str]] = {
    errno.EDQUOT: ("room on the disk", "a quota that is used up", f"free some space and {_GO_ON}"),
    errno.EFBIG: ("a file of any size", "a limit on the size of files", f"lift it (ulimit -f unlimited) and {_GO_ON}"),
    errno.EROFS: ("a disk that can be written", "a read-only one", _ELSEWHERE),
    errno.EACCES: ("a file or folder this user may use", "no permission", f"give it (ls -ld, chmod), or {_ELSEWHERE}"),
    errno.EPERM: ("a file or folder this user may use", "no permission", f"give it (ls -ld, chmod), or {_ELSEWHERE}"),
    errno.ENAMETOOLONG: (
        "a name that this disk can hold (most hold 255 bytes, a whole path 4,096)",
        "a longer one",
        "give the run a short name=…, or rename the file; " + _ELSEWHERE,
    ),
    errno.EEXIST: ("a folder, or a free name for one", "a file in the way", "move it aside, or " + _ELSEWHERE),
    errno.ENOTDIR: ("a folder", "a file in the way", "move it aside, or " + _ELSEWHERE),
    errno.EISDIR: ("a file", "a folder in the way", "move it aside"),
    errno.ENOTEMPTY: ("an empty folder", "one with files in it", "move them aside"),
    errno.ENOENT: ("a file or folder", "nothing there", "restore it, or correct the path in the command"),
    errno.ELOOP: ("a file or folder", "links that lead in a circle", "remove the links"),
    errno.EMFILE: ("a free file handle", "all in use", f"allow more (ulimit -n 4096) and {_GO_ON}"),
    errno.ENFILE: ("a free file handle", "all of this machine in use", f"wait or end other programs, then {_GO_ON}"),
    errno.EIO: ("a disk that works", "an input/output error", f"look at the disk (dmesg), then {_GO_ON}"),
    errno.ESTALE: ("the file the server had", "a stale handle of a network disk", _GO_ON[0].upper() + _GO_ON[1:]),
    errno.ETXTBSY: ("a file that is not in use", "one that another program runs", f"end that program and {_GO_ON}"),
}
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def disk_error(error: OSError, path: Path | str | None = None) -> LabError:
    """Return the sentence for what the file system refused.

    Args:
        error: as it was raised.
        path: what was to be read or written; the error's own file by default.
    """
    if isinstance(error, LabError):
        return error
    named = path if path is not None else error.filename2 or error.filename
    where = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else "a file"
    if error.errno == errno.ENOSPC:
        expected, got, do = "room on the disk", f"'no space left' {_free(where)}", f"free some space and {_GO_ON}"
    else:
        reason = error.strerror or str(error) or type(error).__name__
        unknown = ("a disk that does what is asked", repr(reason), f"mend that and {_GO_ON}")
        expected, got, do = _REFUSED.get(error.errno or 0, unknown)
    return LabError(explain(expected=expected, got=got, where=where, do=do))


def lock_error(error: OSError, folder: Path) -> LabError:
    """Return the sentence for a folder that can't be locked, for another reason than that somebody holds it."""
    if error.errno not in _NO_LOCKS:
        return disk_error(error, folder)
    return LabError(
        explain(
            expected="a disk with locks, which keep two campaigns out of one folder",
            got=f"one without ({error.strerror})",
            where=str(folder),
            do="put the runs on another disk: runtime.outputs_dir=… (or have this one mounted with locks: "
            "Lustre with -o flock, NFS with a running lock service)",
        )
    )


def _free(where: str) -> str:
    for place in (Path(where), *Path(where).parents):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        if usage.free > MEGABYTE and not os.statvfs(place).f_favail:
            return "for more files (all inodes are used)"
        return f"with {usage.free / MEGABYTE:,.0f} MB free"
    return ""


def read_bytes(
    path: Path, max_bytes: int, what: str = "a file", error: type[LabError] = DataError, do: str = ""
) -> bytes:
    """Read a regular file whole; a pipe or a device, which could block for ever, is never opened for reading.

    Args:
        path: of the file; links are followed.
        max_bytes: more is refused unread.
        what: the file should be, for messages.
        error: what is raised for all but a missing file.
        do: the remedy, if there is a better one than replacing or splitting the file.

    Raises:
        FileNotFoundError: if there is none; every reader has a remedy of its own for that.
        LabError: as ``error``, if it is a folder, a pipe or a device, too large, or can't be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the name
        raise _unreadable(cause, path, error) from cause
    status = os.fstat(handle)
    wrong = None
    if not stat.S_ISREG(status.st_mode):
        wrong = _irregular(status.st_mode, path, what, error, do)
    elif status.st_size > max_bytes:
        size, most = (f"{n / MEGABYTE:,.0f} MB" for n in (status.st_size, max_bytes))
        got = f"one of {size}, more than the {most} that are read"
        wrong = error(explain(expected=what, got=got, where=str(path), do=do or "split it, if it is what it should be"))
    if wrong is not None:
        os.close(handle)
        raise wrong
    with os.fdopen(handle, "rb") as stream:
        try:
            return stream.read()
        except (OSError, MemoryError) as cause:
            raise _unreadable(cause, path, error) from cause


def read_text(path: Path, max_bytes: int, what: str = "a text file", error: type[LabError] = DataError) -> str:
    """Read a regular file as UTF-8, with or without a byte order mark; see `read_bytes`.

    Raises:
        FileNotFoundError: if there is none.
        LabError: as ``error``, also if it is no UTF-8.
    """
    try:
        return read_bytes(path, max_bytes, what, error).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        got, do = f"another encoding ({cause.reason} at byte {cause.start})", "save the file as UTF-8"
        raise error(explain(expected=f"{what} in UTF-8", got=got, where=str(path), do=do)) from cause


def check_regular(path: Path, what: str = "a file", error: type[LabError] = DataError, do: str = "") -> None:
    """Refuse what must not be handed to a library that would open it: a pipe blocks, a device may do anything.

    Raises:
        FileNotFoundError: if there is none.
        LabError: as ``error``.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as cause:
        raise _unreadable(cause, path, error) from cause
    if not stat.S_ISREG(mode):
        raise _irregular(mode, path, what, error, do)


def _irregular(mode: int, path: Path, what: str, error: type[LabError], do: str) -> LabError:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
    got = next((name for test, name in kinds if test(mode)), "a device")
    return error(explain(expected=what, got=got, where=str(path), do=do or "replace it by the file itself"))


def _unreadable(cause: Exception, path: Path, error: type[LabError]) -> LabError:
    if isinstance(cause, OSError):
        return error(str(disk_error(cause, path)))
    got = "not enough memory for it" if isinstance(cause, MemoryError) else str(cause)
    return error(
        explain(expected="a file that can be read", got=got, where=repr(str(path)), do="correct its name or split it")
    )
