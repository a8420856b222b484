"""Runs of a room's tests in a child of one warm process: once with notes of what each test executes, then mutant by
mutant."""

import contextlib
import hashlib
import importlib
import importlib.machinery
import json
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.catalog import ROOT, Mutant, mutated

_OURS = ("al_lab", "tests", "conftest", "scripts")
_OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "-m", "not slow and not gpu"]


@dataclass
class Baseline:
    """What a room's tests do without a mutant.

    Attributes:
        seconds: test to duration, of those that pass.
        lines: file to test to the lines of the functions it enters; never those of an import.
        digests: file of tests to the hash of its content.
        source: hash of the package.
        modules: what else was imported, for the warm process to have it already.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def tests_for(self, mutant: Mutant) -> list[str]:
        """Return the tests that can notice a mutant: the mirrored file's first, then the quickest.

        These are all tests of the files in which one enters the function: a fixture or a cache may have done it for
        another.
        """
        touched = self.lines.get(mutant.path, {})
        first, last = mutant.lines
        files = {_file(t) for t, lines in touched.items() if any(first <= n <= last for n in lines)}
        able = [t for t in self.seconds if _file(t) in files]
        if mutant.at_import or not able:
            able = list(self.seconds)  # a constant may be imported from elsewhere; compiled code leaves no trace
        stem = Path(mutant.path).stem.strip("_")
        return sorted(able, key=lambda t: (stem not in Path(_file(t)).stem, t not in touched, self.seconds[t]))

    def changed_files(self, package: str) -> list[str]:
        """Return the room's test files that are new or were changed since this baseline."""
        return [path for path, digest in digests(package).items() if self.digests.get(path) != digest]


def digests(package: str) -> dict[str, str]:
    """Return the hash of each test file of a room."""
    files = sorted((ROOT / "tests" / package).rglob("test_*.py"))
    return {str(f.relative_to(ROOT)): hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in files}


def _file(test: str) -> str:
    return test.partition("::")[0]


def baseline(package: str, timeout: float) -> Baseline:
    """Run the tests of a package once and note what they execute."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "baseline.json"
        with _child(lambda: _note(package, out), timeout) as code:
            if code is None or not out.is_file():
                sys.exit(
                    f"mutants: the tests of {package} did not end in {timeout:.0f} s: run them by themselves first"
                )
        return Baseline(**json.loads(out.read_text()))


def warm_up(modules: list[str]) -> None:
    """Import other people's packages, so that children needn't."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(tempfile.gettempdir()) / f"al_lab_mutants_{os.getuid()}")
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def killed_by(mutant: Mutant, tests: list[str], timeout: float) -> tuple[str, str]:
    """Run tests on a mutant until one fails; return what happened and the test that noticed.

    Returns:
        ``killed`` (a test failed), ``broken`` (it can't even be imported), ``timeout`` or ``survived``, and the test.
    """
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "failed"
        with _child(lambda: _attempt(mutant, tests, note, Path(folder)), timeout) as code:
            failed = note.read_text() if note.is_file() else ""
        if code is None:
            return "timeout", failed
        if code == 0:
            return "survived", ""
        return ("killed" if failed else "broken"), failed


class _Notes:
    """A pytest plugin: which lines of al_lab does each test execute, and how long does it take."""

    def __init__(self, package: str) -> None:
        self.prefix = str(ROOT / "al_lab" / package)
        self.baseline, self.seen = Baseline(digests=digests(package)), set[types.CodeType]()

    def _trace(self, frame: types.FrameType, *_: Any) -> None:
        if frame.f_code.co_filename.startswith(self.prefix):
            self.seen.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.seen, start = set(), time.monotonic()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            if item.nodeid in self.baseline.seconds:
                self.baseline.seconds[item.nodeid] = round(time.monotonic() - start, 3)
                for code in self.seen:
                    tests = self.baseline.lines.setdefault(str(Path(code.co_filename).relative_to(ROOT)), {})
                    entered = {line for *_, line in code.co_lines() if line is not None}
                    tests[item.nodeid] = sorted({*tests.get(item.nodeid, ()), *entered})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.baseline.seconds[report.nodeid] = 0.0
        elif report.failed:
            self.baseline.seconds.pop(report.nodeid, None)


class _Selection:
    """A pytest plugin: only these tests (or files), in this order, and the first that fails."""

    def __init__(self, tests: list[str], note: Path) -> None:
        self.order, self.note = {test: n for n, test in enumerate(tests)}, note

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {i: self.order.get(i.nodeid, self.order.get(_file(i.nodeid))) for i in items}
        items[:] = sorted((i for i in items if place[i] is not None), key=lambda i: place[i] or 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.note.write_text(report.nodeid)


def _note(package: str, out: Path) -> int:
    notes = _Notes(package)
    pytest.main([*_OPTIONS, str(ROOT / "tests" / package)], plugins=[notes])
    notes.baseline.modules = [
        name for name, module in list(sys.modules.items()) if name.split(".")[0] not in _OURS and _on_disk(module)
    ]
    out.write_text(json.dumps(asdict(notes.baseline)))
    return 0


def _on_disk(module: Any) -> bool:
    path = getattr(module, "__file__", None)
    return bool(path) and not str(path).startswith(str(ROOT) + os.sep)


def _attempt(mutant: Mutant, tests: list[str], note: Path, folder: Path) -> int:
    path = ROOT / mutant.path
    code = compile(mutated(path, mutant.index), str(path), "exec")
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: importlib.machinery.SourceFileLoader, fullname: str) -> Any:
        return code if self.path == str(path) else original(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    if "numba" in path.read_text():
        # numba's cache knows a function by its bytecode, in which a changed constant doesn't show.
        dispatcher = importlib.import_module("numba.core.dispatcher").Dispatcher
        dispatcher.enable_caching = lambda self: None
    files = list(dict.fromkeys(map(_file, tests)))
    options = [*_OPTIONS, "-x", "--tb=no", f"--basetemp={folder / 'tests'}"]
    return int(pytest.main([*options, *files], plugins=[_Selection(tests, note)]))


@contextlib.contextmanager
def _child(work: Any, timeout: float) -> Iterator[int | None]:
    """Do ``work`` in a fork with a process group of its own; give its exit code, or None if it took too long."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.setpgid(0, 0)
            sink = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(sink, descriptor)
            code = work()
        finally:
            os._exit(code)
    try:
        yield _wait(pid, timeout)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _wait(pid: int, timeout: float) -> int | None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
