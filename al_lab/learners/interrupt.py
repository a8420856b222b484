"""A training that is asked to end saves its state at the end of the step, and then does."""

import signal
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from al_lab.core.errors import Interrupted
from al_lab.learners.checkpoint import save_checkpoint
from al_lab.learners.module import FitModule


class SaveWhenAsked(pl.Callback):
    """Take SIGTERM over from Lightning while a training runs: it would end the training without a checkpoint.

    Of several devices the first one saves and leaves; whoever started them ends the others, as after any rank's end.

    Args:
        path: the unfinished training.
        meta: goes into the checkpoint.
    """

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self.path, self.meta = path, meta
        self._is_asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: FitModule) -> None:  # type: ignore[override]
        """Take the signal; Lightning gives it back to whom it belonged when the training ends."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self._is_asked = True

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: FitModule, *_: Any) -> None:  # type: ignore[override]
        """Save and leave.

        Raises:
            Interrupted: if SIGTERM came.
        """
        if self._is_asked and trainer.is_global_zero:
            # A broken loss is found again by whoever goes on from the last save.
            if is_sound := pl_module.read_loss():
                save_checkpoint(self.path, pl_module.fit_state(self.meta))
            what = "which is saved" if is_sound else "whose loss is broken: what was saved before is kept"
            raise Interrupted(f"SIGTERM, at step {pl_module.next_step}, {what}")
