"""A dataset of colored blocks that lives in memory, and a run folder in which their labels were bought."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.core.errors import DataError
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.purchase import write_labels
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation
from al_lab.learners.base import FitTask
from al_lab.learners.detection import DetectionLearner
from al_lab.learners.settings import TrainSettings
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.supervised import Supervised


class Blocks:
    """Two classes, red and blue blocks, two an image, images of different sizes; ``empty*`` images have none."""

    name, task, classes = "blocks", "detection", ("red", "blue")

    def __init__(self, num: int = 12, broken: tuple[str, ...] = ()) -> None:
        self.pool_ids = tuple(sorted([f"block{n:02d}" for n in range(num)] + ["empty0"]))
        self.test_ids = tuple(f"test{n}" for n in range(10))
        self.val_ids: tuple[str, ...] = ()
        self.broken = broken

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        """Return a size that depends on the id."""
        return (40 + 8 * (len(sample_id) % 2), 64)

    def load_image(self, sample_id: str) -> np.ndarray:
        """Draw the image."""
        if sample_id in self.broken:
            raise DataError(f"{sample_id}.jpg: expected a readable image, got a broken one; replace the file")
        image = (
            Rng(0, "blocks", sample_id).generator().integers(90, 160, (*self.size_hw(sample_id), 3)).astype(np.uint8)
        )
        annotation = self.annotation(sample_id)
        for (x1, y1, x2, y2), label in zip(annotation.boxes_xyxy.astype(int), annotation.labels, strict=True):
            image[y1:y2, x1:x2] = (250, 20, 20) if label == 0 else (20, 20, 250)
        return image

    def annotation(self, sample_id: str) -> Annotation:
        """Return where the blocks are."""
        if sample_id.startswith("empty"):
            return Annotation.make([], [])
        rng = Rng(0, "boxes", sample_id).generator()
        height, width = self.size_hw(sample_id)
        side = rng.integers(12, 24, 2)
        x, y = rng.integers(0, [[width // 2 - 24], [height - 24]], (2, 2))
        x = x + [0, width // 2]
        return Annotation.make(np.stack([x, y, x + side, y + side], 1), rng.integers(0, 2, 2))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads on a busy machine are five times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture
def dataset() -> Blocks:
    """Return the blocks."""
    return Blocks()


@pytest.fixture
def run_dir(tmp_path: Path, dataset: Blocks) -> Path:
    """Return a run folder whose initial purchase is the whole pool."""
    write_labels(purchase_dir(tmp_path, INITIAL), {i: dataset.annotation(i) for i in dataset.pool_ids})
    return tmp_path


@pytest.fixture
def make_learner(dataset: Blocks) -> Callable[..., DetectionLearner]:
    """Return a factory of learners of a very small detector."""

    def make(objective: Callable[[], Any] = Supervised, data: Any = None, **options: Any) -> DetectionLearner:
        recipe = {"batch_size": 4, "max_iters": 8, "lr": 0.01} | options.pop("recipe", {})
        branches = options.pop("branches", ())
        network = functools.partial(TinyDetector, 2, input_px=32, widths=(8, 8, 16, 16, 16), branches=branches)
        return DetectionLearner(data or dataset, network, objective, TrainSettings(**recipe), **options)

    return make


@pytest.fixture
def make_task(run_dir: Path, dataset: Blocks) -> Callable[..., FitTask]:
    """Return a factory of tasks; ``name`` keeps their files apart."""

    def make(name: str = "a", **options: Any) -> FitTask:
        values = {
            "labeled": dataset.pool_ids,
            "labels_dir": run_dir,
            "checkpoint": run_dir / name / "model.ckpt",
            "scratch_dir": run_dir / name,
            "seed": 0,
        } | options
        return FitTask(**values)

    return make
