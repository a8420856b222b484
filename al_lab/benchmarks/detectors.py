"""What every detector must do: its loss falls, it learns eight photographs by heart, it goes on bit for bit, it looks.

`check` does it for one detector of the configuration on eight labeled images; nothing here is a claim about accuracy.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_lab.config.build import build
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.purchase import write_labels
from al_lab.core.types import Annotation
from al_lab.learners.base import FitTask, Learner
from al_lab.learners.build import build_learner
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.metrics.build import build_metrics

IMAGES = 8
_AP = "voc_area_ap50"


@dataclass(frozen=True)
class Result:
    """What was seen of one detector.

    Attributes:
        first, last: mean training loss of the first and the last tenth of the steps.
        ap50: on the very images it learned, in percent.
        resumes: two halves of a training have the weights of a whole one, bit for bit.
        flips: boxes compared with those of the flipped image; what a strategy's ``flip_probs`` needs.
        embedding: numbers of the image embedding, and of a box's.
        steps: of the training.
    """

    first: float
    last: float
    ap50: float
    resumes: bool
    flips: int
    embedding: tuple[int, int]
    steps: int


def check(config: dict[str, Any], steps: int, resume_steps: int = 4) -> Result:
    """Train a detector on eight images and look at them.

    Args:
        config: resolved; its dataset's first eight images of the pool that have boxes are labeled.
        steps: of the training.
        resume_steps: of the trainings that are compared; even.
    """
    dataset = build(config["dataset"])
    ids = [i for i in dataset.pool_ids if len(dataset.truth(i).labels)][:IMAGES]
    truth = {i: dataset.truth(i) for i in ids}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        write_labels(purchase_dir(run_dir, INITIAL), truth)
        learner = build_learner(_with_steps(config, steps), dataset)
        task = _task(run_dir, ids, "whole")
        learner.fit(task)
        log = np.genfromtxt(task.scratch_dir / "train_log.csv", delimiter=",", names=True)
        losses = np.atleast_1d(log["loss"])
        tenth = max(1, len(losses) // 10)
        learner.load(task.checkpoint)
        options = {"flip": {"count_thresh": 0.3, "matching": "iou"}}
        views: list[Any] = list(learner.views(ids, _needs(learner), options))
        return Result(
            float(losses[:tenth].mean()),
            float(losses[-tenth:].mean()),
            100 * _ap50(dataset.classes, views, truth),
            _resumes(config, dataset, run_dir, ids, resume_steps),
            sum(len(v.flip_detections or ()) for v in views),
            (len(views[0].embedding), views[0].extras["box_embedding"].shape[1]),
            steps,
        )


def _needs(learner: Learner) -> tuple[str, ...]:
    return tuple(w for w in learner.provides if w != "anchors")


def _with_steps(config: dict[str, Any], steps: int) -> dict[str, Any]:
    trainer = {**config["trainer"], "max_iters": steps, "max_epochs": None, "augmentation": None}
    trainer["milestones"] = [int(0.8 * steps)] if steps > 10 else []
    trainer["warmup_iters"] = min(int(trainer.get("warmup_iters") or 0), steps // 4)
    return {**config, "trainer": trainer}


def _task(run_dir: Path, ids: Sequence[str], name: str, **options: Any) -> FitTask:
    return FitTask(
        labeled=tuple(ids),
        labels_dir=run_dir,
        checkpoint=run_dir / name / "model.ckpt",
        scratch_dir=run_dir / name,
        seed=0,
        **options,
    )


def _resumes(config: dict[str, Any], dataset: Any, run_dir: Path, ids: Sequence[str], steps: int) -> bool:
    """Train in one go, and in two of which the second goes on from what the first one wrote."""
    learner = build_learner(_with_steps(config, steps), dataset)
    whole, half = _task(run_dir, ids, "at_once"), _task(run_dir, ids, "half", stop_at=steps // 2)
    rest = _task(run_dir, ids, "rest", start="continue", init_checkpoint=half.checkpoint)
    for task in (whole, half, rest):
        learner.fit(task)
    a, b = (load_checkpoint(task.checkpoint)["state_dict"] for task in (whole, rest))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _ap50(classes: Sequence[str], views: Sequence[Any], truth: dict[str, Annotation]) -> float:
    (metric,) = build_metrics([_AP])
    found = {v.sample_id: v.detections for v in views}
    return metric.compute(found, truth, classes).scalars[_AP]
