"""The members of an ensemble: trained beside the campaign's own model, which is member 0, and asked together."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.core.pool import purchase_dir
from al_lab.core.rng import rng_for
from al_lab.core.stage import Stage, StageContext
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.stages.jobs import open_learner, score_with
from al_lab.stages.score import Score
from al_lab.stages.train import Train


def member_path(cycle_dir: Path, number: int) -> Path:
    """Return where the weights of a member lie; member 0 is the campaign's own model."""
    return cycle_dir / "members" / f"member_{number}.ckpt" if number else cycle_dir / "model.ckpt"


class TrainMembers(Stage):
    """Labels -> ``members/member_1.ckpt``, …: the campaign's training again, from other seeds.

    Every training is a job with a result file: what is finished is never trained again, what was cut off goes on.

    Args:
        members: of the ensemble, the campaign's own model included.
    """

    name = "train_members"

    def __init__(self, members: int) -> None:
        self.members = members

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Train them side by side.

        Returns:
            ``trainings`` and ``steps``, of all together, and ``diverged`` attempts if there were any.
        """
        tasks = [self.task(ctx, n) for n in range(1, self.members)]
        results = ctx.executor.run(
            [
                Job(
                    f"cycle {ctx.cycle:02d} train member {n}",
                    "al_lab.stages.jobs:fit",
                    {
                        "run_dir": str(ctx.run_dir),
                        "task": task.to_json(),
                        "progress": str(task.scratch_dir / "progress.json"),
                    },
                    task.checkpoint.with_suffix(".json"),
                    devices=task.devices,
                    outputs=(task.checkpoint,),
                )
                for n, task in enumerate(tasks, start=1)
            ]
        )
        for task in tasks:
            shutil.rmtree(task.scratch_dir, ignore_errors=True)
        diverged = sum(result.get("diverged", 0) for result in results)
        return {
            "trainings": len(tasks),
            "steps": sum(result.get("steps", 0) for result in results),
            **({"diverged": diverged} if diverged else {}),
        }

    def task(self, ctx: StageContext, number: int) -> FitTask:
        """Describe the training of a member: the campaign's, with a seed and (where it goes on) a past of its own."""
        own = Train.task(ctx)
        continues = own.start == "continue"
        before = purchase_dir(ctx.run_dir, ctx.cycle - 1)
        goes_on = bool(ctx.cycle) and own.start != "scratch"
        checkpoint = member_path(ctx.cycle_dir, number)
        rng = rng_for(int(ctx.config["seed"]), 0 if continues else ctx.cycle, "train")
        return dataclasses.replace(
            own,
            seed=rng.seed("member", number),
            checkpoint=checkpoint,
            scratch_dir=checkpoint.with_suffix(".training"),
            init_checkpoint=member_path(before, number) if goes_on else own.init_checkpoint,
        )

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the members' weights."""
        return [member_path(ctx.cycle_dir, n) for n in range(1, self.members)]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return what the members go on from, and the pseudo-labels they train on."""
        tasks = [self.task(ctx, n) for n in range(1, self.members)]
        paths = (p for task in tasks for p in (task.pseudo, task.init_checkpoint))
        return list(dict.fromkeys(p for p in paths if p is not None and p.is_relative_to(ctx.run_dir)))


class ScoreMembers(Score):
    """``model.ckpt``, ``members/…`` and pool -> ``candidates.npz``: the score stage, with all members asked.

    Args:
        members: of the ensemble, the campaign's own model included.
    """

    def __init__(self, members: int) -> None:
        self.members = members

    def looking(self, cycle_dir: Path) -> tuple[str, dict[str, Any]]:
        """See `Score.looking`."""
        checkpoints = [str(member_path(cycle_dir, n)) for n in range(1, self.members)]
        return "al_lab.strategies.rivals._members:score_members", {"members": checkpoints}

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return all models."""
        return [member_path(ctx.cycle_dir, n) for n in range(self.members)]


def score_members(run_dir: str, checkpoint: str, members: Sequence[str], **asked: Any) -> dict[str, float]:
    """Write the candidates a strategy proposes when several models look at some images, see `score`.

    Args:
        run_dir: the campaign's folder.
        checkpoint: of member 0.
        members: checkpoints of the others.
        asked: what `score_with` is asked.
    """
    config, dataset, learner = open_learner(run_dir, checkpoint)
    first: Any = learner  # a detector of this project: the check of the configuration lets no other here
    first.join([Path(path) for path in members])
    return score_with(learner, config, dataset, run_dir, **asked)
