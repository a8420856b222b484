"""Which densities lower the bound of a choice, on the model that a run has now: tau x scale x population, and k-center.

Density Matters tunes beta and tau "until the bound falls" (Theorem 2: max_k delta_s(k)); beta changes no order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.config.build import build
from al_lab.core.budget import Budget, alpha_for
from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.files import read_json
from al_lab.core.pool import Pool, purchase_dir
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.stages.estimator import POPULATIONS, SPREADS, try_densities
from al_lab.stages.jobs import dense, open_learner, open_run
from al_lab.stages.score import first_ids

TAUS, TRIED = (0.15, 0.25, 0.5, 1.0, 2.0), SPREADS
_NEEDS = ("dense_probs", "pixel_features", "pixel_error")


@dataclass(frozen=True)
class Trial:
    """One way to divide, means over images.

    Attributes:
        scale, tau: of `coverage_density`; None: k-center.
        rank: of densities, see `neighbor_rank`; NaN where there are none.
        ratio: 90 % to 10 % quantile of densities.
        bound: population -> (I,) max_k delta_s(k) of each image, in one order of images for all trials.
        mean_distance: population -> mean distance to the nearest center.
    """

    scale: str | None
    tau: float | None
    rank: float
    ratio: float
    bound: Mapping[str, np.ndarray]
    mean_distance: Mapping[str, float]

    def against(self, other: "Trial", population: str) -> tuple[float, float]:
        """Return by how much its bound is larger, and the standard error of that over images."""
        gap = self.bound[population] - other.bound[population]
        return float(gap.mean()), float(gap.std(ddof=1) / len(gap) ** 0.5) if len(gap) > 1 else float("nan")

    @property
    def overrides(self) -> str:
        """What to write on the command line."""
        return (
            "strategy.weighted=false"
            if self.scale is None
            else f"strategy.scale={self.scale} strategy.tau={self.tau:g}"
        )


@dataclass(frozen=True)
class Tuning:
    """What `tune` returns: k-center first; the images looked at, and of which cycle's model."""

    trials: Sequence[Trial]
    ids: Sequence[str]
    cycle: int
    pixels: Sequence[int]

    def best(self, population: str) -> Trial:
        """Return the trial of the smallest mean bound; of equal ones the first."""
        return min(self.trials, key=lambda trial: float(trial.bound[population].mean()))


def tune(
    run_dir: Path,
    *,
    cycle: int | None = None,
    images: int = 8,
    taus: Sequence[float] = TAUS,
    scales: Sequence[str] = TRIED,
) -> Tuning:
    """Buy again, without labels and for nothing, what the next query of a run would buy, in every way.

    Candidates are the paper's (smallest margins, alpha by budget), with what was bought in an image before.

    Args:
        run_dir: of a segmentation run whose network has a density branch and that buys pixels of each image.
        cycle: whose model; None: the last that is there.
        images: how many of the pool, the same for every run of a dataset.
        taus: to be tried.
        scales: to be tried.

    Raises:
        ConfigError: for a run that this can't be asked of.
        DataError: without a model.
    """
    config, dataset = open_run(run_dir)
    folder = purchase_dir(run_dir, _last(run_dir) if cycle is None else cycle)
    _, _, learner = open_learner(str(run_dir), str(_model(folder)))
    budget: Budget = build(config["budget"])
    lacking = set(_NEEDS) - set(learner.provides) if dataset.task == "segmentation" else set(_NEEDS)
    if lacking or budget.unit != "pixel" or budget.scope != "image" or not budget.cycles:
        got = f"lacking {', '.join(sorted(lacking))}" if lacking else f"unit={budget.unit} scope={budget.scope}"
        raise ConfigError(
            explain(
                expected="a segmentation run with a density branch that buys pixels of each image",
                got=got,
                where=str(run_dir),
                do="run strategy=density (or random) with segmenter.branch.estimator=dmc5 and budget=2.2pct first",
            )
        )
    at = int(folder.name.removeprefix("cycle_"))
    pool = Pool.from_json(read_json(folder / "pool.json"), dataset.pool_ids, run_dir)
    ids = first_ids(list(pool.unlabeled()), int(config["split_seed"]), images)
    step = min(at, budget.cycles - 1)
    ways = [(None, None), *((scale, tau) for scale in scales for tau in taus)]
    found: list[list[dict[str, Any]]] = [[] for _ in ways]
    counts = []
    for view in map(dense, learner.views(ids, _NEEDS)):
        count = budget.allowance(step, len(pool)).in_image(view.size_hw)
        rng = Rng(int(config["split_seed"]), "tune", view.sample_id)
        seen = DenseView(**{**vars(view), "bought": pool.bought_mask(view.sample_id)})
        alpha = alpha_for(budget.share_of(view.size_hw))
        for rows, facts in zip(found, try_densities(seen, count, alpha, ways, rng), strict=True):
            rows.append(facts)
        counts.append(count)
    trials = [_joined(way, rows) for way, rows in zip(ways, found, strict=True)]
    return Tuning(trials, ids, at, counts)


def _last(run_dir: Path) -> int:
    found = [int(p.parent.name.removeprefix("cycle_")) for p in run_dir.glob("cycle_*/model.ckpt")]
    return max(found, default=0)


def _model(folder: Path) -> Path:
    path = folder / "model.ckpt"
    if not path.is_file():
        raise DataError(
            explain(expected="a trained model", got="none", where=str(path), do="give the folder of a run, or --cycle")
        )
    return path


def _joined(way: tuple[Any, Any], rows: Sequence[Mapping[str, Any]]) -> Trial:
    ranks = np.array([row["rank"] for row in rows])
    of = {name: [row["bounds"][name] for row in rows] for name in POPULATIONS}
    return Trial(
        *way,
        rank=float(np.nanmean(ranks)) if np.isfinite(ranks).any() else float("nan"),
        ratio=float(np.mean([row["ratio"] for row in rows])),
        bound={name: np.array([b["largest_radial"] for b in found]) for name, found in of.items()},
        mean_distance={name: float(np.mean([b["mean_distance"] for b in found])) for name, found in of.items()},
    )
