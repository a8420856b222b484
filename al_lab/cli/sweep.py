"""A sweep's bookkeeping: checked as a whole before it starts.

Each job's result is kept in a file, and one table ends the sweep.
"""

import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn

from al_lab.cli.mistakes import readable
from al_lab.config.load import check_sweep
from al_lab.core.files import write_json
from al_lab.execution.stop import end_on_sigterm, end_with

_MAX_METRICS = 4
_NOT_METRICS = ("status", "run_dir", "message")
_current: "Sweep | None" = None  # of this process, for `finish`


class _Failed(JobReturn):
    """A job that failed with a sentence of ours, which Hydra would precede by a line about overrides."""

    @property  # type: ignore[misc]  # Hydra's has a setter, which nobody needs here
    def return_value(self) -> Any:
        raise self._return_value


class Sweep:
    """Hydra callback (``hydra.callbacks``). Hydra copies it into every job's process, so results travel in files."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.results: Path | None = None  # one file a job
        self.jobs: list[list[str]] = []

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Check all jobs; a configuration that can't run ends the command before anything is created."""
        overrides = list(config.hydra.overrides.task)
        try:
            self.jobs = check_sweep(overrides, config.hydra.sweeper.get("params"))
        except Exception as error:
            sentence = readable(error, overrides)
            sys.stderr.write(sentence + "\n" if sentence else traceback.format_exc())
            # Hydra turns an exception in a callback into a warning, and goes on.
            raise SystemExit(2 if sentence else 1) from None
        side = config.hydra.launcher.get("n_jobs", 1)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} al-lab: {len(self.jobs)} campaigns to run, {side} at a time\n")
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.results = self.folder / f"results-{os.getpid()}"
        shutil.rmtree(self.results, ignore_errors=True)
        globals()["_current"] = self

    def on_job_start(self, **_: Any) -> None:
        """Let a job in a process of its own end when the sweep is killed.

        Its campaign would keep the run folder locked for hours.
        """
        if self.results is not None and _current is None:
            end_on_sigterm()
            threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        """Write down how a job of the sweep ended (in the job's own process)."""
        is_done = job_return.status.name == "COMPLETED"
        value = job_return._return_value  # the property raises what the job raised
        sentence = None if is_done else readable(value)
        if sentence is not None:
            job_return.__class__ = _Failed
        if self.results is None:
            return
        record = {
            "overrides": list(config.hydra.overrides.task),
            "outcome": value if is_done else None,
            "error": None if is_done else sentence or f"{type(value).__name__}: {value}",
        }
        write_json(self.results / f"{config.hydra.job.num}.json", json.loads(json.dumps(record, default=str)))

    def __getattr__(self, name: str) -> Any:
        """Ignore the events that are of no interest here."""
        if name.startswith("on_"):
            return lambda **_: None
        raise AttributeError(name)


def finish() -> int:
    """Print the table of the sweep that this process ran, if it ran one, and remove its bookkeeping.

    Returns:
        The number of jobs that did not finish.
    """
    sweep = _current
    if sweep is None or sweep.folder is None or sweep.results is None:
        return 0
    records = [_record(sweep.results / f"{n}.json") for n in range(len(sweep.jobs))]
    sys.stdout.write("\n" + table(sweep.jobs, records) + "\n")
    shutil.rmtree(sweep.results, ignore_errors=True)
    (sweep.folder / "multirun.yaml").unlink(missing_ok=True)
    if sweep.folder.is_dir() and not any(sweep.folder.iterdir()):
        sweep.folder.rmdir()
    return sum(r is None or r["error"] is not None for r in records)


def _record(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def table(jobs: Sequence[Sequence[str]], records: Sequence[Mapping[str, Any] | None]) -> str:
    """Return one line a job: what is particular to it, how it ended, its metrics or why it failed.

    Args:
        jobs: overrides of each job.
        records: what `Sweep.on_job_end` wrote, None for a job that left nothing.
    """
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    rows = []
    for job, record in zip(jobs, records, strict=True):
        label = " ".join(o for o in job if o not in common) or "(defaults)"
        if record is None:
            rows.append(
                (label, "died", "its process left no result; run the same command again, finished jobs return at once")
            )
        elif record["error"] is not None:
            rows.append((label, "FAILED", record["error"].strip().splitlines()[0]))
        else:
            outcome = record["outcome"] or {}
            numbers = [(k, v) for k, v in outcome.items() if isinstance(v, int | float) and k not in _NOT_METRICS]
            text = "  ".join(f"{k}={v:.4g}" for k, v in numbers[:_MAX_METRICS])
            rows.append(
                (label, str(outcome.get("status", "finished")), f"{text}  {outcome.get('run_dir', '')}".strip())
            )
    widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
    lines = [f"{label:<{widths[0]}}  {status:<{widths[1]}}  {rest}".rstrip() for label, status, rest in rows]
    good = sum(r is not None and r["error"] is None for r in records)
    return "\n".join([f"sweep: {good} of {len(jobs)} jobs ended well", *lines])
