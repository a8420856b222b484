"""A stage: one step of a cycle that reads files and writes files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al_lab.core.budget import Budget
from al_lab.core.oracle import Oracle
from al_lab.core.pool import Pool, purchase_dir
from al_lab.core.rng import Rng


@dataclass
class StageContext:
    """What a stage may use.

    Attributes:
        run_dir: the campaign's folder.
        cycle: 0-based.
        pool: at the start of the stage.
        config: the resolved configuration as plain containers.
        dataset, strategy, budget, settings, oracle, executor: built from it; the settings are the trainer's.
    """

    run_dir: Path
    cycle: int
    pool: Pool
    config: Mapping[str, Any]
    dataset: Any
    strategy: Any
    budget: Budget
    settings: Any
    oracle: Oracle
    executor: Any

    @property
    def cycle_dir(self) -> Path:
        """The folder of this cycle."""
        return purchase_dir(self.run_dir, self.cycle)

    def rng(self, stage: str) -> Rng:
        """Return the randomness of a stage of this cycle.

        A function of the training seed, the cycle and the stage's name.
        """
        return Rng(int(self.config["seed"]), self.cycle, stage)


class Stage(ABC):
    """One step of a cycle. It may be run again: it overwrites its own files and ends in the same state."""

    name: str
    is_first: bool = False  # it runs before anything is labeled

    @abstractmethod
    def run(self, ctx: StageContext) -> dict[str, float]:
        """Do the work, write files, return scalars for the ledger and the trackers."""

    def files(self, ctx: StageContext) -> list[Path]:
        """Return the files whose hashes the ledger keeps: all that somebody reads later, models included."""
        return []

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the files of the run folder without which it can't run; a lost one is made again before it does.

        What was bought, and all of this cycle but its models, is looked after anyway. By default this cycle's model.
        """
        return [ctx.cycle_dir / "model.ckpt"]
