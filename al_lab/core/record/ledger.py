"""What has been done: one line a committed stage, appended and fsynced; nothing before it counts."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import append_line, sha256

log = logging.getLogger(__name__)


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
        for number, line in enumerate(whole, start=1):
            try:
                entry = json.loads(line)
                self.entries[entry["key"]] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise ResumeError(
                    explain(
                        expected="one JSON entry a line",
                        got=f"line {number}: {line[:60]!r}",
                        where=str(self.path),
                        do="restore the file from a backup, or start anew with restart=again",
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
