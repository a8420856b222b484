"""What has been done: one line a committed stage, appended and fsynced; nothing before it counts."""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ResumeError, explain
from al_lab.core.fields import Kind, at_least, mapping_of, not_negative, number, shown, text
from al_lab.core.files import append_line, sha256, write_text
from al_lab.core.pool import INITIAL
from al_lab.core.record.seal import is_whole, seal

log = logging.getLogger(__name__)

_DO = "restore the file from a backup, or start anew with restart=again"
_SCALAR = Kind("a number", lambda v: v if isinstance(v, float) else number.read(v))  # a metric may be NaN
_TIMES = ("seconds",)  # equal runs have equal digests


def _checked(value: Any, source: Source, line: int) -> dict[str, Any]:
    """Return an entry in which the campaign can trust key, cycle, stage, seconds, scalars and files."""
    entry = Entry(value, source, f"line {line}")
    cycle, stage = entry.read("cycle", at_least(INITIAL)), entry.read("stage", text)
    if entry.read("key", text) != Ledger.key(cycle, stage):
        raise entry.wrong("key", repr(Ledger.key(cycle, stage)), shown(value["key"]))
    entry.read("seconds", not_negative)
    entry.read("scalars", mapping_of(_SCALAR))
    entry.read("files", mapping_of(text))
    return dict(value)


class Ledger:
    """The committed stages of a run, keyed ``"02/train"``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        self._torn = 0  # bytes of a half-written last line
        if path.exists():
            self._read()

    def _read(self) -> None:
        raw = self.path.read_bytes()
        lines = raw.split(b"\n")
        whole, tail = lines[:-1], lines[-1]
        source = Source(self.path, "one JSON entry a line", _DO, ResumeError)
        for place, line in enumerate(whole, start=1):
            try:
                entry = _checked(json.loads(line), source, place)
                self.entries[entry["key"]] = entry
                if not is_whole(entry, _TIMES):
                    raise ValueError("another digest")
            except (ValueError, RecursionError) as error:
                raise ResumeError(
                    explain(
                        expected="one JSON entry a line",
                        got=f"line {place}: {line[:60]!r}",
                        where=str(self.path),
                        do=_DO,
                    )
                ) from error
        if tail:
            log.warning("%s: dropping a half-written last line (the process died while writing it)", self.path)
            self._torn = len(tail)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    @property
    def queries_bought(self) -> int:
        """The number of queries whose labels are there; the initial set is not one."""
        return sum(entry["stage"] == "annotate" for entry in self.entries.values())

    @staticmethod
    def key(cycle: int, stage: str) -> str:
        """Return the key of a stage of a cycle."""
        return f"{cycle:02d}/{stage}"

    def commit(
        self,
        cycle: int,
        stage: str,
        *,
        seconds: float,
        scalars: Mapping[str, float],
        files: Mapping[str, str],
        **facts: Any,
    ) -> None:
        """Append an entry; when this returns, the stage is done whatever happens next.

        Args:
            cycle: of the stage.
            stage: its name.
            seconds: it took.
            scalars: for trackers and report.
            files: path in the run folder -> sha256.
            facts: what else is worth keeping; JSON.
        """
        entry: dict[str, Any] = {
            "key": self.key(cycle, stage),
            "cycle": cycle,
            "stage": stage,
            "seconds": round(seconds, 3),
            "scalars": dict(scalars),
            "files": dict(files),
            **facts,
        }
        entry = seal(entry, _TIMES)
        if self._torn:
            with self.path.open("r+b") as stream:
                stream.truncate(self.path.stat().st_size - self._torn)
            self._torn = 0
        append_line(self.path, json.dumps(entry).encode())
        self.entries[entry["key"]] = entry

    def amend(self, key: str, **changes: Any) -> None:
        """Replace parts of an entry."""
        self.entries[key] = seal(self.entries[key] | changes, _TIMES)
        self._rewrite()

    def undo(self, keys: Collection[str]) -> None:
        """Take stages back; they are to be run again."""
        self.entries = {k: v for k, v in self.entries.items() if k not in keys}
        self._rewrite()

    def _rewrite(self) -> None:
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in self.entries.values()))
        self._torn = 0

    def harmed(self, run_dir: Path, keys: Collection[str] | None = None) -> list[tuple[str, str]]:
        """Return (key, file) for each committed file that is missing or is not what it was.

        They are in the order of the commits.

        A checkpoint that is missing may have been deleted to save room, and is not among them.

        Args:
            run_dir: the run's folder.
            keys: stages to look at; None: all.
        """
        found, seen = [], set()
        for key, entry in self.entries.items():
            for name, digest in entry["files"].items() if keys is None or key in keys else ():
                path = run_dir / name
                if name not in seen and not (path.suffix == ".ckpt" and not path.exists()) and not is_as(path, digest):
                    found.append((key, name))
                seen.add(name)
        return found


def is_as(path: Path, digest: str) -> bool:
    """Whether a file is there and has this digest."""
    return path.is_file() and sha256(path) == digest


def last_key(config: Mapping[str, Any], cycle: int | None = None) -> str:
    """Return the key of a campaign's last stage: it ends with an evaluation or, of a segmenter, with an analysis.

    ``runtime.analyze_images`` is how many images of the pool the analysis looks at, 0 for none.

    Args:
        config: resolved.
        cycle: the last one; None: the one that the configuration asks for.
    """
    is_analyzed = bool(config.get("segmenter")) and bool(config["runtime"].get("analyze_images"))
    last = int(config["budget"]["cycles"]) if cycle is None else cycle
    return Ledger.key(last, "analyze" if is_analyzed else "evaluate")


def is_finished(run_dir: Path, config: Mapping[str, Any]) -> bool:
    """Say whether a run has done all that a configuration asks for; only looks, another process may be writing."""
    path = run_dir / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return any(f'"key": "{last_key(config)}"'.encode() in line for line in lines)
