"""One rank of a shared training, as an executor starts it: ``python ranks.py RUN_DIR DEVICES MAX_ITERS OBJECTIVE``."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

import torch

from al_lab.core.pool import INITIAL
from al_lab.core.rng import Rng
from al_lab.data.transforms.detection import SSDAugmentation
from al_lab.learners.base import FitTask
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.divergence import OnDivergence
from al_lab.learners.segmentation import SegmentationLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.adapt import Adaptation
from al_lab.objectives.branches.learning_loss import LearningLoss
from al_lab.objectives.branches.mial import MultipleInstance
from al_lab.objectives.isd import ISD
from al_lab.objectives.sed import SED
from al_lab.objectives.supervised import Supervised
from tests.learners.conftest import Blocks
from tests.patches import Patches, buy


def attempt_of(step: int, seed: int = 0, rank: int = 0) -> int:
    """Return which attempt of a training an objective is called in, from torch's generator; 0 is the first."""
    rule = OnDivergence()
    return next(n for n in range(9) if torch.initial_seed() == Rng(rule.seed(seed, n), "step").seed(step, rank))


class BrokenAt(Supervised):
    """Has a loss of NaN on the second device alone, at one step of so many attempts."""

    def __init__(self, step: int, attempts: int = 9) -> None:
        super().__init__()
        self.step, self.attempts = step, attempts

    def forward(self, network: Any, batch: Any, step: int, total_steps: int) -> dict[str, torch.Tensor]:
        """Compute the loss, or nonsense."""
        parts = super().forward(network, batch, step, total_steps)
        rank = int(os.environ["RANK"])
        is_broken = step == self.step and rank == 1 and attempt_of(step, rank=rank) < self.attempts
        if is_broken:
            Path(sys.argv[1], "broken").touch()
        return {**parts, "loss": parts["loss"] * (float("nan") if is_broken else 1)}


OBJECTIVES = {
    "supervised": Supervised,
    "broken_at_3": functools.partial(BrokenAt, 3),
    "broken_at_5": functools.partial(BrokenAt, 5),
    "broken_once": functools.partial(BrokenAt, 3, 1),
    "isd": functools.partial(ISD, ramp={"kind": "none"}, csd={"be_mask": "none"}),
    "sed": functools.partial(SED, ramp={"kind": "none"}),
    "learning_loss": functools.partial(LearningLoss, detach_from=0.5),
    "mial": functools.partial(MultipleInstance, passes=(1, 2, 2, 1), reset_momentum=True, warmup_iters=1),
}
BRANCHES = {"learning_loss": ("learning_loss",), "mial": ("two_heads",)}


def fit(run_dir: str, devices: int, max_iters: int, objective: str = "supervised", name: str = "") -> dict[str, float]:
    """Train on the blocks (or the patches); one process or one of several, the environment says which."""
    if objective == "adaptation":
        return adapt(run_dir, devices, max_iters)
    dataset = Blocks()
    branches = BRANCHES.get(objective, ())
    network = functools.partial(TinyDetector, 2, input_px=32, widths=(8, 8, 16, 16, 16), branches=branches)
    is_supervised = objective not in ("isd", "sed", "mial")
    num = len(dataset.pool_ids) if is_supervised else 6
    batch_size = 8 if objective in ("isd", "sed", "mial", "learning_loss") else 6
    settings = TrainSettings(
        batch_size=batch_size,
        max_iters=max_iters,
        lr=0.01,
        grad_clip=1.0,
        augmentation=SSDAugmentation(),
        on_divergence={"retries": 1 if objective == "broken_once" else 0},
    )
    out = Path(run_dir) / f"{name}devices{devices}"
    return DetectionLearner(dataset, network, OBJECTIVES[objective], settings).fit(
        FitTask(
            labeled=dataset.pool_ids[:num],
            unlabeled=dataset.pool_ids[num:],
            labels_dir=Path(run_dir),
            checkpoint=out / "model.ckpt",
            scratch_dir=out,
            seed=0,
            devices=devices,
            progress=out / "progress.json",
        )
    )


def adapt(run_dir: str, devices: int, max_iters: int) -> dict[str, float]:
    """Train a segmenter on patches of which the initial set holds some pixels, more in one image than in another."""
    dataset, out = Patches(), Path(run_dir) / f"devices{devices}"
    if devices == 1:
        buy(Path(run_dir), dataset, INITIAL, {f"p/{k}": range(0, 60 * k + 1) for k in range(6)})
    network = functools.partial(TinySegmenter, 3, widths=(8, 8, 16), branch={"dim": 8}, head_lr=10.0)
    settings = TrainSettings(batch_size=8, max_iters=max_iters, lr=0.01, grad_clip=1.0)
    return SegmentationLearner(dataset, network, functools.partial(Adaptation, stop_gradient_step=3), settings).fit(
        FitTask(
            labeled=dataset.pool_ids,
            labels_dir=Path(run_dir),
            checkpoint=out / "model.ckpt",
            scratch_dir=out,
            seed=0,
            devices=devices,
        )
    )


if __name__ == "__main__":
    try:
        fit(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    finally:
        Path(sys.argv[1], f"ended{os.environ['RANK']}").touch()
