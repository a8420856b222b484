"""How fast trainings and predictions go on this machine, from a minute of each."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from al_lab.campaign.assemble import check_parts
from al_lab.campaign.forecast import Training
from al_lab.campaign.forecast_speed import rows_changes
from al_lab.config.load import save_config
from al_lab.config.parts import Parts
from al_lab.core.pool import INITIAL
from al_lab.core.stage import StageContext
from al_lab.stages import jobs
from al_lab.stages.annotate import Initialize, load_pool
from al_lab.stages.train import Train

_FEW = 4  # steps of a training that is over at once
_FEW_IMAGES = 8
_UNLABELED = 64  # images, for a training that looks at some without labels


@dataclass(frozen=True)
class MeasuredSpeed:
    """What was measured, in seconds of the clock that was read.

    Attributes:
        start_s: of a training, before its first step and after its last.
        step_s: recipe to a step.
        image_s: of a predicted image.
        weights: bytes of a model's checkpoint.
    """

    start_s: float
    step_s: Mapping[str, float]
    image_s: float
    weights: int = 0
    of: Mapping[str, float] = field(default_factory=dict)  # recipe to the steps that were timed

    def training_s(self, training: Training) -> float:
        """See `Speed`."""
        return self.start_s + training.steps * self.step_s[training.recipe]

    def look_s(self, images: int, passes: int = 0) -> float:
        """See `Speed`; a pass with dropout counts as a whole look, which it is at most."""
        return images * (1 + passes) * self.image_s


def measure(parts: Any, folder: Path, seconds: float, clock: Callable[[], float] = time.monotonic) -> MeasuredSpeed:
    """Train and predict here for about so many seconds.

    The initial set is bought from the simulated oracle, in a folder of its own.

    Args:
        parts: of the campaign.
        folder: an empty one, for what comes of it.
        seconds: for each kind of training; a step that takes longer is waited for.
        clock: what counts.
    """
    config = {**parts.config, "executor": {"_target_": "al_lab.execution.inline.InlineExecutor"}}
    parts = Parts(config)
    check_parts(parts)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder)
    jobs.hold_open(folder, parts.dataset)
    context = _context(parts, folder)
    Initialize().run(context)
    context.pool = load_pool(context.dataset, folder, 0)
    changes = rows_changes(config)
    recipes: dict[str, dict[str, Any]] = {"campaign": {}, **({"rows": changes} if changes else {})}
    task = Train.task(context)
    steps: dict[str, float] = {}
    timed: dict[str, float] = {}
    start = 0.0
    for recipe, groups in recipes.items():
        here = replace(task, unlabeled=context.pool.unlabeled()[:_UNLABELED])
        start, steps[recipe], timed[recipe] = _steps(here, folder, recipe, groups, seconds, clock)
    image_s = _images(context, folder, task.checkpoint, seconds, clock)
    return MeasuredSpeed(start, steps, image_s, task.checkpoint.stat().st_size, timed)


def _context(parts: Any, folder: Path) -> StageContext:
    return StageContext(
        run_dir=folder,
        cycle=0,
        pool=load_pool(parts.dataset, folder, INITIAL),
        config=parts.config,
        dataset=parts.dataset,
        strategy=parts.strategy,
        budget=parts.budget,
        settings=parts.settings,
        oracle=parts.oracle,
        executor=parts.executor,
    )


def _steps(
    task: Any, folder: Path, recipe: str, changes: Mapping[str, Any], seconds: float, clock: Callable[[], float]
) -> tuple[float, float, int]:
    """Return the start of a training, one of its steps, and how many were timed; from two of different length."""
    took: dict[int, float] = {}

    def fit(steps: int) -> float:
        here = replace(
            task, stop_at=steps, scratch_dir=folder / f"{recipe}_{steps}", checkpoint=folder / f"{recipe}_{steps}.ckpt"
        )
        begin = clock()
        jobs.fit_with(str(folder), here.to_json(), dict(changes))
        took[steps] = clock() - begin
        here.checkpoint.replace(task.checkpoint)
        return took[steps]

    fit(1)  # what is loaded once a process counts for none
    few = fit(_FEW)
    many = max(2 * _FEW, int(seconds / max(few / _FEW, 1e-6)))
    step = (fit(many) - few) / (many - _FEW)
    return max(0.0, few - _FEW * step), max(step, 0.0), many


def _images(context: StageContext, folder: Path, checkpoint: Path, seconds: float, clock: Callable[[], float]) -> float:
    ids = tuple(context.dataset.test_ids or context.pool.unlabeled())
    look = jobs.predict if context.dataset.task == "detection" else jobs.confusion

    def timed(count: int) -> float:
        begin = clock()
        look(str(folder), str(checkpoint), ids[:count], str(folder / "looked_at.npz"))
        return clock() - begin

    timed(1)
    few = timed(min(_FEW_IMAGES, len(ids)))
    many = min(len(ids), max(2 * _FEW_IMAGES, int(seconds * _FEW_IMAGES / max(few, 1e-6))))
    return max(0.0, timed(many)) / many
