"""al_lab from Python: run a campaign, open a run folder, rank a pool.

Importing this is quick; torch comes with the first run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_lab.core.errors import ConfigError, ResumeError, explain
from al_lab.core.files import read_json
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.predictions import load_predictions
from al_lab.core.record.purchase import read_queries

if TYPE_CHECKING:
    from al_lab.core.types import Detections, Query
    from al_lab.metrics.outcomes import Outcomes

__all__ = ["OpenRun", "compose", "open_run", "rank", "run"]


@dataclass(frozen=True)
class OpenRun:
    """A run folder, finished or under way; everything is read from its files when it is asked for.

    Attributes:
        path: the folder.
        status: ``finished``, ``already finished`` or ``awaiting`` (labels) of a campaign that was just run; else "".
    """

    path: Path
    status: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration it was started with."""
        from al_lab.config.load import load_config  # noqa: PLC0415 - Hydra takes half a second

        return load_config(self.path)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row for each evaluated cycle: what was labeled and spent, and the dataset's metrics."""
        path = self.path / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    @property
    def selections(self) -> dict[int, list[Query]]:
        """What was bought, by cycle, in order; the initial set is cycle -1. A query names an image, or pixels of it."""
        return {
            cycle: list(read_queries(purchase_dir(self.path, cycle)))
            for cycle in [INITIAL, *self._cycles]
            if (purchase_dir(self.path, cycle) / "queries.json").is_file()
        }

    @property
    def cost(self) -> dict[str, float]:
        """Images, boxes, pixels and hours of labeling that all purchases cost together."""
        total: dict[str, float] = {}
        for cycle in [INITIAL, *self._cycles]:
            path = purchase_dir(self.path, cycle) / "cost.json"
            for name, value in read_json(path).items() if path.is_file() else ():
                total[name] = total.get(name, 0) + value
        return total

    def predictions(self, cycle: int | None = None) -> dict[str, Detections]:
        """Return what a cycle's detector found in the test images, by sample id; by default the last cycle's.

        Raises:
            ResumeError: if no cycle, or not this one, has predictions.
        """
        return load_predictions([self._file("predictions.npz", cycle, "an evaluated cycle of a detector")])

    def outcomes(self, cycle: int | None = None) -> Outcomes:
        """Return what became of every detection in the test images: enough to draw these images again.

        Raises:
            ResumeError: if no cycle, or not this one, has them; runs of earlier versions have none.
        """
        from al_lab.metrics.outcomes import Outcomes  # noqa: PLC0415 - the metrics take a second to import

        return Outcomes.load(self._file("outcomes.npz", cycle, "an evaluated cycle of a detector"))

    @property
    def _cycles(self) -> list[int]:
        return sorted(int(p.name[6:]) for p in self.path.glob("cycle_*") if p.name[6:].isdigit())

    def _file(self, name: str, cycle: int | None, expected: str) -> Path:
        cycles = self._cycles if cycle is None else [cycle]
        found = [path for c in cycles if (path := purchase_dir(self.path, c) / name).is_file()]
        if not found:
            got = f"no {name}" + ("" if cycle is None else f" in cycle {cycle}")
            raise ResumeError(
                explain(
                    expected=expected, got=got, where=str(self.path), do="run the campaign further, or name a cycle"
                )
            )
        return found[-1]


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration of a command, resolved and as plain containers.

    Args:
        overrides: as on the command line, such as ``["strategy=entropy", "seed=1"]``; a value is one string, however
            many quotes a shell would need.

    Raises:
        LabError: for an override that means nothing.
    """
    from al_lab.cli.arguments import arranged  # noqa: PLC0415 - Hydra takes half a second
    from al_lab.config import load  # noqa: PLC0415

    words = arranged(overrides)
    flags = [word for word in words if word.startswith("-")]
    if flags:
        do = "call run() once for each job of a sweep"
        raise ConfigError(explain(expected="key=value", got=flags[0], where="overrides", do=do))
    return load.compose(words) | {"overrides": words}


def run(overrides: Sequence[str] = ()) -> OpenRun:
    """Run a campaign, or go on with the one that the same overrides began, as ``al-lab`` does on the command line.

    Args:
        overrides: as on the command line.

    Raises:
        LabError: for everything a user can mend; what is committed stays.
    """
    from al_lab.config.checks import check_data  # noqa: PLC0415
    from al_lab.config.load import name_run, validate  # noqa: PLC0415

    config = compose(overrides)
    parts = validate(config)
    run_dir = name_run(config)
    check_data(parts)
    from al_lab.campaign.loop import run_campaign  # noqa: PLC0415 - torch takes seconds

    outcome = run_campaign(parts, run_dir)
    return OpenRun(Path(outcome["run_dir"]), outcome["status"])


def open_run(path: str | Path) -> OpenRun:
    """Open a run folder.

    Raises:
        ResumeError: if it is none.
    """
    found = OpenRun(Path(path))
    _ = found.config
    return found


def rank(
    of: OpenRun | str | Path, ids: Sequence[str] | None = None, cycle: int | None = None
) -> list[tuple[str, float]]:
    """Return images and what the run's strategy says each is worth by the model of a cycle, the best first.

    Utilities are of single images (of an image's best candidate, where parts of images are bought): what strategies
    that choose whole batches, such as ``core_set`` or ``mgral``, do with them is not seen here.

    Args:
        of: a run, or its folder.
        ids: images of its dataset; by default those that are not labeled in that cycle.
        cycle: whose model looks; by default the last that was trained.

    Raises:
        ResumeError: if there is no model.
    """
    opened = of if isinstance(of, OpenRun) else open_run(of)
    checkpoint = opened._file("model.ckpt", cycle, "a trained model")
    from al_lab.config.build import build  # noqa: PLC0415
    from al_lab.core.pool import Pool  # noqa: PLC0415
    from al_lab.core.types import Candidates  # noqa: PLC0415
    from al_lab.execution.job import resolve  # noqa: PLC0415
    from al_lab.stages.jobs import open_run as open_files  # noqa: PLC0415 - torch takes seconds
    from al_lab.stages.score import scoring  # noqa: PLC0415

    number = int(checkpoint.parent.name[6:])
    if ids is None:
        dataset = open_files(opened.path)[1]
        ids = Pool.from_json(read_json(checkpoint.parent / "pool.json"), dataset.pool_ids, opened.path).unlabeled()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "candidates.npz")
        fn, more = scoring(build(opened.config["strategy"])).looking(checkpoint.parent)
        resolve(fn)(str(opened.path), str(checkpoint), cycle=number, ids=list(ids), out=str(out), **more)
        candidates = Candidates.load(out)
    best: dict[str, float] = {}
    for sample, utility in zip(candidates.sample.tolist(), candidates.utility.tolist(), strict=True):
        sample_id = candidates.sample_ids[sample]
        best[sample_id] = max(utility, best.get(sample_id, utility))
    return sorted(best.items(), key=lambda kv: (-kv[1], kv[0]))
