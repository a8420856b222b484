"""The contract between a campaign and whatever learns: one task in, one checkpoint out, then one view an image."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.record.predictions import load_predictions
from al_lab.core.types import Annotation, DenseView, ImageView

Start = Literal["scratch", "weights", "continue"]
_PATHS = ("labels_dir", "init_checkpoint", "checkpoint", "scratch_dir", "progress", "pseudo")


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """One training, complete enough to run in another process.

    Attributes:
        labeled: ids whose bought labels lie in ``labels_dir``; of some images perhaps only a few pixels.
        labels_dir: run folder that `al_lab.core.record.labels.read_labels` reads.
        checkpoint: where the result goes, atomically.
        scratch_dir: where the unfinished training lives (``last.ckpt``, ``train_log.csv``).
        seed: decides initial weights, batch order and augmentation; 0 is a seed.
        unlabeled: ids an objective may train on without labels.
        pseudo: boxes a model found in some of the unlabeled images (`al_lab.core.record.predictions`), for objectives
            that train on them.
        start: ``scratch`` | ``weights`` (of ``init_checkpoint``, fresh optimizer) | ``continue`` (weights, optimizer,
            schedule and step of ``init_checkpoint``). The first cycle has nothing to go on from: it is ``scratch``, or
            ``weights`` of ``trainer.init``.
        init_checkpoint: needed by ``weights`` and ``continue``.
        stop_at: step at which this training stops; the schedule's horizon stays what it was. None: at the horizon. 0:
            before the first step.
        cycle: labels bought before this cycle count.
        devices: processes that share the training, one a device.
        progress: a small JSON file rewritten every few seconds: step, total, loss, it_per_s, seconds_left.
    """

    labeled: tuple[str, ...]
    labels_dir: Path
    checkpoint: Path
    scratch_dir: Path
    seed: int
    unlabeled: tuple[str, ...] = ()
    pseudo: Path | None = None
    start: Start = "scratch"
    init_checkpoint: Path | None = None
    stop_at: int | None = None
    cycle: int = 0
    devices: int = 1
    progress: Path | None = None

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise ConfigError(
                explain(
                    expected=" | ".join(get_args(Start)),
                    got=repr(self.start),
                    where="FitTask.start",
                    do=did_you_mean(str(self.start), get_args(Start)),
                )
            )
        if self.start != "scratch" and self.init_checkpoint is None:
            raise ConfigError(
                explain(
                    expected="init_checkpoint",
                    got="none",
                    where=f"FitTask with start={self.start!r}",
                    do="name the checkpoint to go on from, or use start='scratch' (as the first cycle does)",
                )
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            k: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "FitTask":
        """Rebuild what `to_json` returned."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else Path(v) if k in _PATHS and v is not None else v
            for k, v in value.items()
        }
        return cls(**fields)


def read_pseudo(task: FitTask) -> dict[str, Annotation]:
    """Return the pseudo-labels of a task's unlabeled images; an image that was bought since has none."""
    if task.pseudo is None:
        return {}
    unlabeled = set(task.unlabeled)
    return {
        i: Annotation.make(d.boxes_xyxy, d.labels) for i, d in load_predictions([task.pseudo]).items() if i in unlabeled
    }


class Learner(ABC):
    """Something that is fitted to the labeled images and then says what it sees in others.

    Attributes:
        provides: words of a strategy's ``needs`` that `views` can answer, such as ``detections`` or
            ``image_embedding``.
    """

    provides: tuple[str, ...] = ()

    @abstractmethod
    def fit(self, task: FitTask) -> dict[str, float]:
        """Train, write ``task.checkpoint`` atomically and return scalars for the ledger.

        Called again after a kill it goes on from ``task.scratch_dir``, and a finished task returns at once.
        """

    @abstractmethod
    def load(self, checkpoint: Path) -> None:
        """Take the weights `fit` wrote."""

    @abstractmethod
    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[ImageView | DenseView]:
        """Yield one view an id, in order.

        ``options`` is what `Strategy.view_options` returned, and left out when that is empty.

        The forward is batched inside. Views do not depend on how ids are spread over processes as long as they are cut
        at multiples of ``runtime.predict_batch``.
        """
