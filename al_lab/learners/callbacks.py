"""What a training writes while it runs: its last checkpoint, a log, and how far it is."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from al_lab.core.files import write_json, write_text
from al_lab.learners.checkpoint import save_checkpoint
from al_lab.learners.module import FitModule

_LOG_ROWS = 1000  # a log of 120,000 steps is thinned to about as many rows as a plot has pixels
_PROGRESS_SECONDS = 3.0


class KeepLast(pl.Callback):
    """Save the unfinished training now and then.

    Args:
        path: the file to rewrite.
        meta: goes into the checkpoint.
        minutes: at most this much training is lost to a kill.
        steps: save every so many steps too; None: by time alone.
    """

    def __init__(self, path: Path, meta: dict[str, Any], minutes: float, steps: int | None = None) -> None:
        self.path, self.meta, self.minutes, self.steps = path, meta, minutes, steps
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: FitModule, *_: Any) -> None:  # type: ignore[override]
        """Save if it is time; one device is enough, all hold the same weights.

        It alone is here, so it can't raise: after a broken loss nothing is saved, and all stop before their next step.
        """
        by_step = self.steps is not None and pl_module.next_step % self.steps == 0
        by_time = time.monotonic() - self._saved_at >= 60 * self.minutes
        if (by_step or by_time) and trainer.is_global_zero and pl_module.read_loss():
            save_checkpoint(self.path, pl_module.fit_state(self.meta))
            self._saved_at = time.monotonic()


class CsvLog(pl.Callback):
    """Append step, learning rate and the parts of the loss to a CSV file, thinned to about a thousand rows."""

    def __init__(self, path: Path, stop: int) -> None:
        self.path = path
        self.every = max(1, stop // _LOG_ROWS)
        self.stop = stop

    def on_fit_start(self, trainer: pl.Trainer, pl_module: FitModule) -> None:  # type: ignore[override]
        """Drop rows that an earlier attempt wrote after its last checkpoint."""
        if not trainer.is_global_zero:
            return
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() and pl_module.first_step else []
        # A row without its line end was cut short by a kill.
        kept = [
            n
            for n, line in enumerate(lines)
            if line.endswith("\n") and (n == 0 or int(line.split(",")[0]) < pl_module.first_step)
        ]
        write_text(self.path, "".join(lines[n] for n in kept))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: FitModule, *_: Any) -> None:  # type: ignore[override]
        """Write a row."""
        step = pl_module.next_step - 1
        is_due = step % self.every == 0 or step == self.stop - 1
        if not (is_due and trainer.is_global_zero and pl_module.read_loss()):
            return
        row = {
            "step": step,
            "lr": f"{pl_module.schedule.lr_at(step):.6g}",
            **{name: f"{value:.6g}" for name, value in pl_module.parts.items()},
        }
        with self.path.open("a+", newline="") as stream:
            stream.seek(0)
            names = next(csv.reader(stream), None)
            writer = csv.DictWriter(stream, names or list(row), restval="0", extrasaction="ignore", lineterminator="\n")
            stream.seek(0, 2)
            if names is None:
                writer.writeheader()
            writer.writerow(row)


class Progress(pl.Callback):
    """Rewrite a small JSON file every few seconds, so that a campaign can say when it will be done.

    Args:
        path: the file.
        stop: step at which this training ends.
    """

    def __init__(self, path: Path, stop: int) -> None:
        self.path, self.stop = path, stop
        self._written_at = 0.0
        self._first: tuple[float, int] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: FitModule, *_: Any) -> None:  # type: ignore[override]
        """Write the file if a few seconds have passed, and at the end."""
        now, step = time.monotonic(), pl_module.next_step
        # The first step pays for loading and for warming up; the pace is counted from its end.
        self._first = self._first or (now, step)
        due = now - self._written_at >= _PROGRESS_SECONDS or step == self.stop
        if not (due and trainer.is_global_zero):
            return
        self._written_at = now
        pace = (step - self._first[1]) / (now - self._first[0]) if now > self._first[0] else 0.0
        write_json(
            self.path,
            {
                "step": step,
                "total": self.stop,
                "loss": pl_module.mean_loss,
                "it_per_s": round(pace, 3),
                "seconds_left": round((self.stop - step) / pace, 1) if pace else None,
            },
        )
