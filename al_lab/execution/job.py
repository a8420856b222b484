"""What a job is, when it is done, and what every executor promises: the same jobs give the same results anywhere."""

import abc
import contextlib
import dataclasses
import hashlib
import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from al_lab.core.errors import Interrupted, JobError, LabError, explain
from al_lab.core.files import checked_writes, set_aside, sha256, write_json
from al_lab.core.record.identity import RunIdentity
from al_lab.core.record.seal import is_whole, seal
from al_lab.execution.memory import is_out_of_memory, too_big

log = logging.getLogger(__name__)

_FUNCTION_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LOG_LINES = 20  # of a failed job's log, repeated in the error

ProgressCallback = Callable[["Job", dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of one function, done when its result file is committed and the files it names are there.

    Attributes:
        name: for people: it stands in logs and errors.
        fn: ``package.module:function``; called with ``kwargs``, returns a dict that JSON can hold.
        kwargs: JSON only, so that the same job can run in this process, another one or on another machine.
            ``kwargs["progress"]``, if there is one, is the path of a JSON file that the function keeps rewriting.
        result: where the result is committed, together with the hash of (fn, kwargs).
        devices: processes (one device each) that call the function together; rank 0's return value is the result.
        outputs: files the function writes; the result holds their digests, and without them, or with others, the job is
            not done.
        run: for which run; `Executor.run` fills it in. A result of another run does not count, and a worker refuses to
            work in a folder that holds another run. None: for no run.
    """

    name: str
    fn: str
    kwargs: dict[str, Any]
    result: Path
    devices: int = 1
    outputs: tuple[Path, ...] = ()
    run: RunIdentity | None = None

    def __post_init__(self) -> None:
        if not _FUNCTION_NAME.fullmatch(self.fn):
            raise JobError(
                explain(
                    expected="a function named 'package.module:function'",
                    got=repr(self.fn),
                    where=f"job {self.name!r}",
                    do="name a function at the top level of a module",
                )
            )
        if self.devices < 1:
            raise JobError(
                explain(
                    expected="devices >= 1",
                    got=str(self.devices),
                    where=f"job {self.name!r}",
                    do="ask for at least one",
                )
            )
        try:
            json.dumps(self.kwargs, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise JobError(
                explain(
                    expected="arguments that JSON can hold",
                    got=str(error),
                    where=f"job {self.name!r}",
                    do="pass str(path), lists and finite numbers, and load the rest inside the function",
                )
            ) from error
        object.__setattr__(self, "result", Path(self.result))
        object.__setattr__(self, "outputs", tuple(Path(path) for path in self.outputs))

    @property
    def hash(self) -> str:
        """Identify the work: sha256 over function and arguments (the machine is not part of it)."""
        text = json.dumps([self.fn, self.kwargs], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def run_mark(self) -> dict[str, str] | None:
        """What its result says of the run it was made for."""
        return None if self.run is None else self.run.mark

    @property
    def log_path(self) -> Path:
        """Everything the job printed, beside its result."""
        return self.result.with_name(self.result.name + ".log")

    @property
    def progress_path(self) -> Path | None:
        """The progress file the function writes, if it was given one."""
        path = self.kwargs.get("progress")
        return Path(path) if isinstance(path, str) else None

    def to_json(self) -> dict[str, Any]:
        """Describe the job so that another process can run it."""
        return {
            "name": self.name,
            "fn": self.fn,
            "kwargs": self.kwargs,
            "result": str(self.result),
            "devices": self.devices,
            "outputs": [str(path) for path in self.outputs],
            "run": None if self.run is None else dataclasses.asdict(self.run),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Job":
        """Read what `to_json` wrote."""
        run, outputs = value.get("run"), tuple(map(Path, value.get("outputs", ())))
        read = {"result": Path(value["result"]), "outputs": outputs, "run": None if run is None else RunIdentity(**run)}
        return cls(**{**value, **read})


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a job will not have a result."""

    job: Job
    attempts: int
    reason: str
    details: str = ""  # traceback, or the last lines of the log


def resolve(fn: str) -> Callable[..., dict[str, Any]]:
    """Import the function that ``package.module:function`` names.

    Raises:
        JobError: if there is no such module or no such function in it.
    """
    module_name, _, function_name = fn.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, and something it needs does not: its own message is the better one
        raise JobError(
            explain(
                expected=f"a module {module_name!r}",
                got="no such module",
                where=f"job function {fn!r}",
                do="install the package, or start from the folder that holds it",
            )
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise JobError(
            explain(
                expected=f"a function {function_name!r} in {module_name}",
                got=type(function).__name__,
                where=f"job function {fn!r}",
                do="name a function at the top level of that module",
            )
        )
    return function


def read_result(job: Job) -> dict[str, Any] | None:
    """Return a committed result of exactly this job, if the files it wrote are still what they were.

    A result of other arguments or of another run, or a damaged one, is moved aside.
    """
    try:
        text = job.result.read_text()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        stored = json.loads(text)
        found, mark, result = str(stored["job_hash"]), stored.get("run"), stored["result"]
        digests = stored.get("outputs")
        if not is_whole(stored):
            found = "damaged"
    except (ValueError, KeyError, TypeError, AttributeError):
        found, mark, result, digests = "unreadable", None, None, None
    if found != job.hash or mark != job.run_mark:
        stale = job.result.with_name(job.result.name + ".stale")
        os.replace(job.result, stale)
        log.warning(
            "job %s: %s belongs to %s; moved to %s, the job runs again",
            job.name,
            job.result,
            "another run" if found == job.hash else f"other arguments ({found[:12]}, now {job.hash[:12]})",
            stale.name,
        )
        return None
    for n, path in enumerate(job.outputs):
        if not path.is_file():
            log.warning("job %s: %s is gone; the job runs again", job.name, path)
            return None
        if digests is not None and sha256(path) != digests[n]:
            damaged = set_aside(path)  # a function may take what lies there for its finished work
            log.warning(
                "job %s: %s is not what was written; moved to %s, the job runs again", job.name, path, damaged.name
            )
            return None
    return result


def execute(job: Job, note: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call the job's function here and commit its result; a result that is already committed is returned as it is.

    Args:
        job: to be done.
        note: on how it came to be run, kept beside the result.

    Raises:
        JobError: if the function can't be found or returns something else than a JSON-able dict, or if the job's run is
            no longer in its folder.
        Exception: whatever the function raises.
    """
    with checked_writes(job.run.check) if job.run is not None else contextlib.nullcontext():
        return _execute(job, note)


def _execute(job: Job, note: dict[str, Any] | None) -> dict[str, Any]:
    if job.run is not None:
        job.run.check()
    committed = read_result(job)
    if committed is not None:
        return committed
    function = resolve(job.fn)
    # Through JSON, so that a function sees the same types (lists, no tuples) whichever executor runs it.
    value = function(**json.loads(json.dumps(job.kwargs)))
    try:
        result = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise JobError(
            explain(
                expected="a return value that JSON can hold",
                got=str(error),
                where=f"job {job.name!r} ({job.fn})",
                do="return finite numbers, strings, lists and dicts; put arrays into files",
            )
        ) from error
    if not isinstance(result, dict):
        raise JobError(
            explain(
                expected="a function that returns a dict",
                got=type(value).__name__,
                where=f"job {job.name!r} ({job.fn})",
                do="return {} if there is nothing to say",
            )
        )
    if os.environ.get("RANK", "0") == "0":
        content = {
            "job_hash": job.hash,
            "job": job.name,
            "run": job.run_mark,
            "result": result,
            "outputs": [sha256(path) for path in job.outputs],
        }
        write_json(job.result, seal(content | ({"note": note} if note else {})))
    return result


def attempt(job: Job, note: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the job and describe the outcome as JSON; used where an exception object can't travel.

    Returns:
        ``{"ok": True, "result": …}`` or ``{"ok": False, "lab": our own kind of error?, "reason", "details"}``; with
        ``"interrupted": True`` if the process was asked to end, which says nothing about the job, and
        ``"out_of_memory": True`` if a GPU's memory was full, which may be because of others.
    """
    try:
        return {"ok": True, "result": execute(job, note)}
    except Interrupted as stop:
        return {"ok": False, "interrupted": True, "lab": True, "reason": f"it was interrupted: {stop}", "details": ""}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the caller reports it
        # An error of ours tells its whole story in one sentence; for anything else the traceback is the story.
        ours, is_full = isinstance(error, LabError), is_out_of_memory(error)
        return {
            "ok": False,
            "lab": ours,
            "out_of_memory": is_full,
            "reason": too_big(job.name) if is_full else f"{type(error).__name__}: {error}",
            "details": "" if ours else traceback.format_exc(),
        }


def log_tail(path: Path, lines: int = _LOG_LINES) -> str:
    """Return the last lines of a log, or a sentence when there is nothing to read."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 64_000))
            tail = stream.read().decode(errors="replace").strip().splitlines()[-lines:]
    except OSError:
        tail = []
    return "\n".join(f"  | {line}" for line in tail) if tail else f"  | (nothing was written to {path})"


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, from Python and from C, to ``path`` (appended) while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, target in zip(saved, (1, 2), strict=True):
            os.dup2(fd, target)
            os.close(fd)


class Progress:
    """Hands the content of the jobs' progress files to a callback whenever a file changed."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._seen: dict[Path, int] = {}

    def poll(self, jobs: Sequence[Job]) -> None:
        """Look at the files of these jobs once; a missing or half-written file is simply not news."""
        if self._callback is None:
            return
        for job in jobs:
            path = job.progress_path
            if path is None:
                continue
            try:
                changed = path.stat().st_mtime_ns
                if self._seen.get(path) == changed:
                    continue
                value = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            self._seen[path] = changed
            self._callback(job, value)


class Executor(abc.ABC):
    """Runs independent jobs; where and how many at a time may not change a single result.

    Attributes:
        num_workers: jobs it can have under way at once; work is cut into about twice as many pieces.
        on_progress: who hears of progress when `run` is not told.
        identity: of the run whose jobs these are; None: of no run.
        loaders: processes beside each of a job's own that read images for it; a cluster is asked for their cores, too.
    """

    num_workers: int = 1
    identity: RunIdentity | None = None
    loaders: int = 0
    on_progress: ProgressCallback | None = None

    def run(self, jobs: Sequence[Job], on_progress: ProgressCallback | None = None) -> list[dict[str, Any]]:
        """Run what has no result yet and return all results, in the order of ``jobs``.

        Args:
            jobs: independent of each other; each needs a result path of its own.
            on_progress: called with (job, content) whenever the file ``job.kwargs["progress"]`` changes.

        Raises:
            JobError: after everything else has finished, naming each job that failed, its attempts and last words.
        """
        jobs = [dataclasses.replace(job, run=self.identity or job.run) for job in jobs]
        writer: dict[Path, Job] = {}
        for job in jobs:
            other = writer.setdefault(job.result.resolve(), job)
            if other is not job:
                raise JobError(
                    explain(
                        expected="a result file of its own for every job",
                        got=f"{job.result} for two",
                        where=f"jobs {other.name!r} and {job.name!r}",
                        do="give each job its own path",
                    )
                )
        results = [read_result(job) for job in jobs]
        waiting = [job for job, result in zip(jobs, results, strict=True) if result is None]
        if len(waiting) < len(jobs):
            log.info("%d of %d jobs are done already", len(jobs) - len(waiting), len(jobs))
        failures = self._run(waiting, Progress(on_progress or self.on_progress)) if waiting else []
        if failures:
            raise JobError(_story(failures, len(jobs)))
        return [result if result is not None else _committed(job) for job, result in zip(jobs, results, strict=True)]

    @abc.abstractmethod
    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        """Run every job to a committed result or a Failure."""

    def close(self) -> None:  # noqa: B027 - most executors hold nothing
        """Let go of processes; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _committed(job: Job) -> dict[str, Any]:
    result = read_result(job)
    if result is None:
        raise JobError(
            explain(
                expected="a committed result",
                got="none",
                where=f"job {job.name!r}, {job.result}",
                do="see whether something else deletes files in that folder",
            )
        )
    return result


def _story(failures: Sequence[Failure], total: int) -> str:
    """Tell which jobs failed and why; the same command runs only those again."""
    lines = [
        f"{len(failures)} of {total} jobs failed; the results of the others are kept, "
        "and the same command runs only the failed ones again"
    ]
    for failure in failures:
        times = "1 attempt" if failure.attempts == 1 else f"{failure.attempts} attempts"
        lines.append(f"job {failure.job.name!r} ({failure.job.fn}, {times}): {failure.reason}")
        lines.extend([failure.details.rstrip()] if failure.details else [])
    return "\n".join(lines)
