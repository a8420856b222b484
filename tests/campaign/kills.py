"""Campaigns in forked processes that are killed at a chosen file-system event, and what a run folder says in
the end."""

import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from al_lab.campaign.loop import run_campaign
from tests.campaign.runs import CONFIGS
from tests.strategies.detection.test_mgral import config as mgral_config
from tests.stubs import stub_config

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree")
_UNLIKE = {"run.log", "environment.json", ".lock", "report.html"}
_TIMES = {"seconds", "training_seconds", "seconds_per_iteration", "run", "digest", "job_hash"}  # and whose, and where


def _small(**changes: Any) -> dict[str, Any]:
    return {
        "_target_": "al_lab.core.budget.Budget",
        "unit": "image",
        "initial": 4,
        "per_cycle": 3,
        "cycles": 1,
    } | changes


def _few(config: dict[str, Any], **budget: Any) -> dict[str, Any]:
    """Return a configuration with few images and shards: what is asked is where a kill hits, not how much there is."""
    data = config["dataset"] | {"size": 12, "num_test": 2}
    return config | {"budget": _small(**budget), "dataset": data, "runtime": config["runtime"] | {"predict_batch": 8}}


def _mgral() -> dict[str, Any]:
    lut = {"rows": 2, "repeats": 0, "seeds": 1}
    return _few(mgral_config(1, agent={"controls": 1}, learning={"iterations": 2}, **lut), initial=8)


def _people() -> dict[str, Any]:
    """Return a campaign whose first images and whose points people label; see `tests.stubs.Crowd`."""
    strategy = {"_target_": "al_lab.strategies.general.margin.Margin"}
    data = {"_target_": "tests.stubs.Frames", "size": 3}
    return stub_config(strategy, dense=True, cycles=1, dataset=data, oracle={"_target_": "tests.stubs.Crowd"})


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "image": lambda: _few(CONFIGS["images"]()),
    "box": lambda: _few(CONFIGS["boxes"](), unit="box", per_cycle=9),
    "pixel": lambda: stub_config(
        {"_target_": "al_lab.strategies.general.margin.Margin"},
        dense=True,
        cycles=1,
        dataset={"_target_": "tests.stubs.StubDense", "size": 3},
    ),
    "people": _people,
    "pseudo-label": lambda: _few(CONFIGS["pseudo"]()),
    "mgral": _mgral,
    "two_pass": lambda: _few(stub_config({"_target_": "al_lab.strategies.rivals.ppal.Ppal", "min_side_px": 0})),
    "ensemble": lambda: _few(stub_config({"_target_": "al_lab.strategies.rivals.ensemble.Ensemble", "members": 2})),
}


def campaign(
    make: Callable[[], dict[str, Any]], run_dir: Path, kill_at: int = 0, tear: bool = False
) -> tuple[str, int]:
    """Run a campaign in a process of its own.

    Args:
        make: returns its configuration.
        run_dir: its folder.
        kill_at: SIGKILL before this event (opened to write, renamed, deleted, made, fsynced; the first is 1); 0: never.
        tear: cut off what was not fsynced then, as a power failure may.

    Returns:
        Its status, ``killed``, or the error's sentence; and the number of events.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            logging.disable(logging.CRITICAL)
            watch = _Watch(run_dir, kill_at, tear)
            try:
                said = run_campaign(make(), run_dir)["status"]
            except Exception as error:  # noqa: BLE001 - the parent looks at it
                said = f"{type(error).__name__}: {error}"
            watch.is_on = False
            os.write(writer, json.dumps([said, watch.count]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read()
    os.waitpid(pid, 0)
    said, count = json.loads(told) if told else ("killed", kill_at)
    return said, count


class _Watch:
    """Counts what this process does to files below a folder; it stays for the life of the process."""

    def __init__(self, folder: Path, kill_at: int, tear: bool) -> None:
        self.folder, self.kill_at, self.tear = str(folder), kill_at, tear
        self.count, self.is_on = 0, True
        self.synced = {p.stat().st_ino: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
        sys.addaudithook(self._hear)
        os.fsync = self._fsync

    def _hear(self, name: str, args: tuple) -> None:
        if self.is_on and (name in _CHANGES or name == "open") and args and not isinstance(args[0], int):
            is_written = name != "open" or args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if is_written and os.fsdecode(args[0]).startswith(self.folder):
                self._event()

    def _fsync(self, fd: int) -> None:
        self._event()
        self.synced[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    def _event(self) -> None:
        self.count += self.is_on
        if self.is_on and self.count == self.kill_at:
            self.is_on = False
            if self.tear:
                for path in (p for p in Path(self.folder).rglob("*") if p.is_file()):
                    os.truncate(path, min(path.stat().st_size, self.synced.get(path.stat().st_ino, 0)))
            os.kill(os.getpid(), signal.SIGKILL)


def facts(run_dir: Path) -> dict[str, Any]:
    """Return what a run says in the end: all of its files, without times, logs and what was set aside."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in run_dir.rglob("*") if p.is_file()):
        name = str(path.relative_to(run_dir))
        if name.startswith("to_label"):
            continue  # people hand in other halves
        if path.name in _UNLIKE or path.name.startswith("train") or path.suffix in (".damaged", ".log", ".stale"):
            continue
        if path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
        else:
            found[name] = path.read_bytes()
    for entry in found.get("ledger.jsonl", ()):
        entry["files"] = sorted(entry["files"])  # digests of files that hold times differ; the files are compared above
    return found


def asked_twice(run_dir: Path) -> list[str]:
    """Return the points, and the images, that people were asked for again after they had answered."""
    lines = [line for p in run_dir.glob("to_label/*/labels/*.csv") for line in p.read_text().splitlines()[1:]]
    counts = Counter((line.rsplit(",", 1)[0]) for line in lines)
    return [line for line, count in counts.items() if count > 1]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in _TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
