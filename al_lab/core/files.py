"""Writing files so that a killed process leaves the old version or the new one, never half of one."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from al_lab.core.disk import disk_error, lock_error, read_text
from al_lab.core.errors import ResumeError, explain

_MAX_JSON_BYTES = 2_000_000_000

_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextlib.contextmanager
def checked_writes(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before any file is put into place in this block; it raises if this process may no longer write."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def _may_write() -> None:
    check = _check.get()
    if check is not None:
        check()


def fsync_dir(path: Path) -> None:
    """Make sure that what was created, renamed or deleted in a folder stays so after a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on a clean exit fsync it and rename it into place.

    Raises:
        LabError: when the disk is full, read-only or refuses otherwise; the temporary file is removed and nothing that
            existed is touched.
    """
    _may_write()
    # The suffix is kept: np.savez and PIL decide by it.
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        _may_write()
        os.replace(temporary, path)
        fsync_dir(path.parent)
    except OSError as error:
        about = {str(name) for name in (error.filename, error.filename2) if name is not None}
        if error.errno is None or (about and not about & {str(temporary), str(path), str(path.parent)}):
            raise  # a library's own complaint, or about another file
        raise disk_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # a name too long, a file where the folder should be: nothing was written
            temporary.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Append a line and fsync it.

    Raises:
        LabError: when the disk is full or refuses otherwise; a half-written line is for the reader to drop.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise disk_error(error, path) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as JSON; NaN is refused, a reader elsewhere could not parse it."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is named.

    Raises:
        ResumeError: if the file is missing, is no regular file or is not JSON.
    """
    try:
        return json.loads(read_text(path, _MAX_JSON_BYTES, "a JSON file", ResumeError))
    except FileNotFoundError as error:
        raise ResumeError(
            explain(
                expected="a file written by an earlier stage",
                got="no such file",
                where=str(path),
                do="run that stage again (restart=again starts the whole run anew)",
            )
        ) from error
    except (ValueError, RecursionError) as error:
        raise ResumeError(
            explain(
                expected="JSON", got=str(error), where=str(path), do="restore the file or start anew with restart=again"
            )
        ) from error


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether somebody put something into a folder, or changed it; it may be absent."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file()) if folder.is_dir() else ()
    return tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)


def remove_temporaries(folder: Path, older_than_s: float = 0.0) -> None:
    """Delete what killed processes left of files they were writing.

    Args:
        folder: whole tree.
        older_than_s: leave younger ones alone: where other machines write into the folder, too, a process can't be
            asked whether it lives.
    """
    for path in folder.rglob(".tmp-*"):
        owner = re.match(r"\.tmp-(\d+)-", path.name)
        if owner is None or _is_alive(int(owner[1])):
            continue
        with contextlib.suppress(OSError):  # gone by now
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def is_read_only(folder: Path) -> bool:
    """Whether a folder is there and can't be written to."""
    return folder.is_dir() and not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def set_aside(path: Path) -> Path:
    """Rename a file that is not what it should be, so that nobody takes it for the real one.

    Returned is its new path.
    """
    damaged = path.with_name(f"{path.name}.damaged")
    path.replace(damaged)
    return damaged


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go when the process dies, however it dies.

    Raises:
        ResumeError: if another process holds it.
        LabError: if the disk has no locks, or can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a+")
    except OSError as error:
        raise disk_error(error, folder) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise ResumeError(
                explain(
                    expected="a run folder nobody else is using",
                    got=f"one held by process {stream.read().strip() or '?'}",
                    where=str(folder),
                    do="wait for it to end, or give this run another name=…",
                )
            ) from error
        except OSError as error:
            raise lock_error(error, folder) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
