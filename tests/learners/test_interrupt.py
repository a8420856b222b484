"""A training that is asked to end saves the step it is at, whatever its rhythm of checkpoints; nothing of it is
computed twice."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from al_lab.core.errors import Interrupted
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.objectives.supervised import Supervised

Make = Callable[..., Any]


class AskedAt(Supervised):
    """Is asked to end in the middle of step 5."""

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(network, batch, step, total_steps)


def test_sigterm_costs_no_step_and_the_signal_is_given_back(make_learner: Make, make_task: Make) -> None:
    before = signal.getsignal(signal.SIGTERM)
    whole, cut = make_task("whole"), make_task("cut")
    make_learner().fit(whole)
    with pytest.raises(Interrupted, match="step 6, which is saved"):
        make_learner(AskedAt).fit(cut)
    assert load_checkpoint(cut.scratch_dir / "last.ckpt")["step"] == 6
    assert not cut.checkpoint.exists()
    assert signal.getsignal(signal.SIGTERM) is before
    make_learner(AskedAt).fit(cut)  # it goes on behind the step at which it was asked
    assert cut.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
