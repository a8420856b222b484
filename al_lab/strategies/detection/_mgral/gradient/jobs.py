"""What a worker process is asked to do where images are worth something without rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ConfigError, explain
from al_lab.core.files import atomic_path
from al_lab.learners.base import Learner
from al_lab.learners.checkpoint import load_checkpoint, save_checkpoint
from al_lab.stages.jobs import open_learner, truth_of


def hold_out(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Write the gradient of a model's class loss on images whose labels are known."""
    _, dataset, learner = open_learner(run_dir, checkpoint)
    direction = _with_gradients(learner).class_gradient(truth_of(dataset, Path(run_dir), ids))  # type: ignore[attr-defined]
    save_checkpoint(Path(out), {"direction": direction})
    return {"images": len(ids)}


def weigh(run_dir: str, checkpoint: str, ids: Sequence[str], out: str, direction: str) -> dict[str, float]:
    """Write what the labels of images are expected to change along a direction."""
    _, _, learner = open_learner(run_dir, checkpoint)
    along = load_checkpoint(Path(direction), ("direction",))["direction"]
    save_gains(Path(out), dict(_with_gradients(learner).expected_changes(ids, along)))  # type: ignore[attr-defined]
    return {"images": len(ids)}


def save_gains(path: Path, gains: dict[str, float]) -> None:
    """Write id -> gain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, ids=np.asarray(list(gains), dtype=np.str_), gains=np.asarray(list(gains.values()), np.float64))


def load_gains(paths: Sequence[Path]) -> dict[str, float]:
    """Read what `save_gains` wrote, in order."""
    gains: dict[str, float] = {}
    for path in paths:
        z = load_arrays(path, {"ids": Column("U", ("N",)), "gains": Column("f", ("N",))})
        gains |= dict(zip(z["ids"].tolist(), z["gains"].tolist(), strict=True))
    return gains


def _with_gradients(learner: Learner) -> Learner:
    if not hasattr(learner, "class_gradient"):
        raise ConfigError(
            explain(
                expected="a network of ours, whose gradients can be asked for",
                got=type(learner).__name__,
                where="detector with strategy.lut.reward=gradient",
                do="set strategy.lut.reward=training, or choose detector=tiny, squeeze, lite or ssd300_voc",
            )
        )
    return learner
