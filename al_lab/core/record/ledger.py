"""What has been done: one line a committed stage, appended and fsynced; nothing before it counts."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import ResumeError, explain
from al_lab.core.fields import Kind, at_least, mapping_of, not_negative, number, shown, text
from al_lab.core.files import append_line, sha256
from al_lab.core.pool import INITIAL

log = logging.getLogger(__name__)

_DO = "restore the file from a backup, or start anew with restart=again"
_SCALAR = Kind("a number", lambda v: v if isinstance(v, float) else number.read(v))  # a metric may be NaN


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
            with self.path.open("r+b") as stream:
                stream.truncate(len(raw) - len(tail))

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    @staticmethod
    def key(cycle: int, stage: str) -> str:
        """Return the key of a stage of a cycle."""
        return f"{cycle:02d}/{stage}"

    def commit(
        self, cycle: int, stage: str, *, seconds: float, scalars: Mapping[str, float], files: Mapping[str, str]
    ) -> None:
        """Append an entry; when this returns, the stage is done whatever happens next."""
        entry: dict[str, Any] = {
            "key": self.key(cycle, stage),
            "cycle": cycle,
            "stage": stage,
            "seconds": round(seconds, 3),
            "scalars": dict(scalars),
            "files": dict(files),
        }
        append_line(self.path, json.dumps(entry).encode())
        self.entries[entry["key"]] = entry

    def verify(self, run_dir: Path) -> None:
        """Check that what was committed is still what it was; checkpoints may have been deleted to save room.

        Raises:
            ResumeError: naming the first file that is missing or was changed.
        """
        for entry in self.entries.values():
            for name, digest in entry["files"].items():
                path = run_dir / name
                if path.suffix == ".ckpt" and not path.is_file():
                    continue
                if not path.is_file() or sha256(path) != digest:
                    raise ResumeError(
                        explain(
                            expected=f"the file that {entry['key']} committed",
                            got="another" if path.is_file() else "none",
                            where=str(path),
                            do="restore it from a backup, or start anew with restart=again",
                        )
                    )


def last_key(config: Mapping[str, Any]) -> str:
    """Return the key of a campaign's last stage: it ends with an evaluation or, of a segmenter, with an analysis.

    ``runtime.analyze_images`` is how many images of the pool the analysis looks at, 0 for none.
    """
    is_analyzed = bool(config.get("segmenter")) and bool(config["runtime"].get("analyze_images"))
    return Ledger.key(int(config["budget"]["cycles"]), "analyze" if is_analyzed else "evaluate")


def is_finished(run_dir: Path, config: Mapping[str, Any]) -> bool:
    """Say whether a run has done all that a configuration asks for; only looks, another process may be writing."""
    path = run_dir / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return any(f'"key": "{last_key(config)}"'.encode() in line for line in lines)
