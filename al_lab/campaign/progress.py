"""How long the whole campaign still takes, from how long its stages took so far."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from al_lab.core.pool import purchase_dir
from al_lab.core.record.ledger import Ledger
from al_lab.core.stage import Stage

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 15.0


class Eta:
    """Campaign-wide time to go.

    A stage still to come is expected to take as long as it took the last time, a training as long as the longest so far
    (one that went on after a kill took only its rest); within a training the learner's own progress file refines that.
    """

    def __init__(self, ledger: Ledger, plan: Sequence[tuple[int, Stage]]) -> None:
        self._ledger = ledger
        self._plan = [(cycle, stage.name) for cycle, stage in plan]
        self._current: tuple[int, str] | None = None
        self._began = self._last_line = time.monotonic()

    def begin(self, cycle: int, stage: str) -> None:
        """A stage starts now."""
        self._current, self._began = (cycle, stage), time.monotonic()

    def seconds(self, current_left: float | None = None) -> float | None:
        """Return the seconds to go; None as long as some stage to come was never timed."""
        took = self._took()
        if self._current is not None and current_left is not None:
            took.setdefault(self._current[1], time.monotonic() - self._began + current_left)
        total = 0.0
        for cycle, stage in self._plan:
            if Ledger.key(cycle, stage) in self._ledger:
                continue
            if (cycle, stage) == self._current and current_left is not None:
                total += current_left
            elif stage in took:
                total += took[stage]
            elif stage not in ("buy_test", "survey", "initialize"):
                return None
        return total

    def _took(self) -> dict[str, float]:
        """Return what each stage is expected to take."""
        took: dict[str, float] = {}
        for entry in self._ledger.entries.values():
            stage, seconds = entry["stage"], entry["seconds"]
            if stage != "train":
                took[stage] = seconds
            elif (purchase_dir(self._ledger.path.parent, entry["cycle"]) / "train.json").is_file():
                # Without its job's result it was a copy from `runtime.cache_dir`, and says nothing of the next one.
                took[stage] = max(seconds, took.get(stage, 0.0))
        return took

    def sentence(self, current_left: float | None = None) -> str:
        """Return " | about 12 min to go", or nothing when it is not known."""
        seconds = self.seconds(current_left)
        return "" if seconds is None else f" | about {_duration(seconds)} to go"

    def on_job_progress(self, job: Any, news: dict[str, Any]) -> None:
        """Log a training's own progress now and then; called by the executor."""
        now = time.monotonic()
        if now - self._last_line < _SECONDS_BETWEEN_LINES or not news.get("total"):
            return
        self._last_line = now
        left = news.get("seconds_left")
        log.info(
            "%s | step %d/%d | loss %.4g | %.2f it/s%s%s",
            job.name,
            news["step"],
            news["total"],
            news.get("loss") or float("nan"),
            news.get("it_per_s") or 0.0,
            "" if left is None else f" | {_duration(left)} left here",
            self.sentence(left),
        )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {secs:02d} s" if minutes else f"{secs} s"
