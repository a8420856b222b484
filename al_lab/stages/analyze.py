"""Say how well the bought pixels stand for the others, with the last model.

Numbers and pictures for the report, read by nothing else.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.acquisition.source_filter import BETA, TAU
from al_lab.config.build import build
from al_lab.core.files import atomic_path, read_json, write_json
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.labels import read_bought_pixels
from al_lab.core.rng import Rng
from al_lab.core.stage import Stage, StageContext
from al_lab.core.types import DenseView
from al_lab.execution.job import Job
from al_lab.metrics.coverage import class_shares, core_set_loss, density_calibration, uniform_by_density
from al_lab.metrics.miou import IGNORE
from al_lab.stages.jobs import dense, open_learner
from al_lab.stages.look import Look, density_of, look
from al_lab.stages.score import first_ids, some_images

log = logging.getLogger(__name__)

_PICTURES = 4  # images whose maps are kept, and test images whose predictions are
_PICTURE_PX = 640  # longer side of a kept prediction
_TSNE_IMAGES = 16


class Analyze(Stage):
    """Last ``model.ckpt`` and all purchases -> ``analysis.json``, ``analysis.npz``.

    A stage of segmentation's last cycle.
    """

    name = "analyze"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Look at some images of which pixels were bought; hidden labels come from the oracle, for the report alone.

        The draw depends on ``split_seed``, so strategies and seeds are compared on the same images.
        """
        kwargs = {
            "run_dir": str(ctx.run_dir),
            "checkpoint": str(ctx.cycle_dir / "model.ckpt"),
            "cycle": ctx.cycle,
            "ids": some_images(ctx, ctx.pool.labeled()),
            "test_ids": first_ids(ctx.dataset.test_ids, int(ctx.config["split_seed"]), _PICTURES),
        }
        name = f"cycle {ctx.cycle:02d} analyze"
        (scalars,) = ctx.executor.run(
            [
                Job(
                    name,
                    "al_lab.stages.analyze:analyze",
                    kwargs,
                    ctx.cycle_dir / "analyze.json",
                    outputs=tuple(self.files(ctx)),
                )
            ]
        )
        (ctx.cycle_dir / "analyze.json").unlink()  # the ledger has the scalars, and results name their run
        return scalars

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what the report reads."""
        return [ctx.cycle_dir / "analysis.json", ctx.cycle_dir / "analysis.npz"]


def analyze(run_dir: str, checkpoint: str, cycle: int, ids: Sequence[str], test_ids: Sequence[str]) -> dict[str, float]:
    """Write both files and return the numbers of the ledger.

    Args:
        run_dir: the campaign's folder.
        checkpoint: the last model.
        cycle: the last one, in which nothing is bought.
        ids: images of the pool of which something was bought.
        test_ids: images whose predictions are shown.
    """
    config, dataset, learner = open_learner(run_dir, checkpoint)
    oracle, provided = build(config["oracle"]), set(learner.provides)
    found = _Found()
    needs = ["dense_probs", *(n for n in ("pixel_features", "pixel_error") if n in provided)]
    for view in map(dense, learner.views(ids, tuple(needs)) if ids else ()):
        truth_HW = oracle.peek(dataset, view.sample_id)
        bought_HW = read_bought_pixels(Path(run_dir), view.sample_id, cycle)[1]
        rng = Rng(int(config["split_seed"]), "analyze", view.sample_id)
        found.add(look(view, truth_HW, bought_HW, rng, _densities(config["strategy"])))
        if "error" in view.extras and len(found.maps) < _PICTURES:
            found.add_map(view, str(dataset.image_path(view.sample_id)), _densities(config["strategy"]))
    options = {"flip": True} if dataset.flip_test else {}
    seen = learner.views(test_ids, ("dense_probs",), *([options] if options else [])) if test_ids else ()
    for view in map(dense, seen):
        found.add_prediction(view, str(dataset.image_path(view.sample_id)), oracle.peek(dataset, view.sample_id))
    facts = found.facts() | {
        "cycle": cycle,
        "class_names": list(dataset.classes),
        "classes": _classes(Path(run_dir), cycle),
    }
    folder = purchase_dir(Path(run_dir), cycle)
    with atomic_path(folder / "analysis.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **found.arrays(int(config["seed"])))  # type: ignore[arg-type]
    write_json(folder / "analysis.json", facts)
    return _scalars(facts)


def _densities(strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Return beta, tau and scale of the strategy that estimates densities; the paper's for any other."""
    own = {k: strategy[k] for k in ("beta", "tau", "scale") if k in strategy}
    # one of these names alone is another thing
    return own if len(own) == 3 else {"beta": BETA, "tau": TAU, "scale": "minmax"}  # noqa: PLR2004


@dataclass
class _Found:
    """Gathers what single images came to; pixels of all images are pooled."""

    looks: list[Look] = field(default_factory=list)
    maps: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, look: Look) -> None:
        """Take an image of the pool."""
        self.looks.append(look)

    def add_map(self, view: DenseView, image: str, densities: Mapping[str, Any]) -> None:
        """Keep errors and densities, at the features' own size."""
        k = len(self.maps)
        self.pictures |= {
            f"error_{k}": view.extras["error"].float().cpu().numpy(),
            f"density_{k}": density_of(view, densities).float().cpu().numpy(),
        }
        self.maps.append({"id": view.sample_id, "image": image})

    def add_prediction(self, view: DenseView, image: str, truth_HW: np.ndarray | None) -> None:
        """Keep a test image's classes and its truth, small."""
        k = len(self.predictions)
        predicted_HW = view.probs.argmax(0).byte().cpu().numpy()
        row: dict[str, Any] = {"id": view.sample_id, "image": image}
        self.pictures[f"predicted_{k}"] = _small(predicted_HW)
        if truth_HW is not None:
            self.pictures[f"truth_{k}"] = _small(truth_HW)
            valid = truth_HW != IGNORE
            row["accuracy"] = float((predicted_HW == truth_HW)[valid].mean()) if valid.any() else None
        self.predictions.append(row)

    def facts(self) -> dict[str, Any]:
        """Return the content of ``analysis.json`` but for the classes."""
        loss, bought, density, radial, density_random, radial_random = (
            np.concatenate([getattr(look, k) for look in self.looks] or [np.zeros(0)])
            for k in ("loss", "loss_bought", "density", "radial", "density_random", "radial_random")
        )
        losses = (
            {"loss": None}
            if not len(loss) or not len(bought)
            else {
                "loss": {
                    "all": float(np.mean(loss, dtype=np.float64)),
                    "bought": float(np.mean(bought, dtype=np.float64)),
                    "core_set": core_set_loss(loss, bought),
                }
            }
        )
        return {
            "images": [look.row for look in self.looks],
            **losses,
            "calibration": self._calibration(density, radial),
            "calibration_random": self._calibration(density_random, radial_random),
            "maps": self.maps,
            "predictions": self.predictions,
        }

    @staticmethod
    def _calibration(density: np.ndarray, radial: np.ndarray) -> dict[str, Any] | None:
        if not len(density):
            return None
        rows = uniform_by_density(density, Rng(0, "calibration").generator())
        fit = density_calibration(density[rows], radial[rows]) if len(np.unique(density[rows])) > 1 else None
        return {
            "density": density[rows].tolist(),
            "radial": radial[rows].tolist(),
            "centers": len(density),
            "fit": None if fit is None else {"slope": fit.slope, "intercept": fit.intercept, "r2": fit.r2},
        }

    def arrays(self, seed: int) -> dict[str, np.ndarray]:
        """Return the content of ``analysis.npz``: the pictures, and the t-SNE of the features of some pixels."""
        seen = [look for look in self.looks if len(look.features)][:_TSNE_IMAGES]
        if not seen:
            return self.pictures
        features, labels, is_bought = (
            np.concatenate([getattr(look, k) for look in seen]) for k in ("features", "labels", "is_bought")
        )
        return self.pictures | {
            "tsne_points": _tsne(features, seed),
            "tsne_labels": labels.astype(np.uint8),
            "tsne_bought": is_bought.astype(bool),
        }


def _tsne(features: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE  # noqa: PLC0415 - imports for a second, and every worker imports this file

    perplexity = min(30.0, max(2.0, (len(features) - 1) / 3))
    return TSNE(n_components=2, perplexity=perplexity, init="random", random_state=seed).fit_transform(
        features.astype(np.float32)
    )


def _small(label_HW: np.ndarray) -> np.ndarray:
    """Return every n-th pixel of every n-th row, so that the longer side is at most `_PICTURE_PX`."""
    step = -(-max(label_HW.shape) // _PICTURE_PX)
    return label_HW[::step, ::step].astype(np.uint8)


def _purchases(run_dir: Path, cycle: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for folder in (purchase_dir(run_dir, c) for c in range(INITIAL, cycle)):
        if (folder / "oracle_stats.json").is_file():
            yield read_json(folder / "oracle_stats.json"), read_json(folder / "cost.json")


def _classes(run_dir: Path, cycle: int) -> dict[str, Any] | None:
    """Return Fig. 5's numbers over all purchases; None if nothing was bought."""
    stats = list(_purchases(run_dir, cycle))
    pixels = sum(int(cost["pixels"]) for _, cost in stats)
    if not pixels:
        return None
    counts = np.sum([s["bought"] for s, _ in stats], axis=0)
    pool = next((s["pool"] for s, _ in stats if s["pool"] is not None), [0] * len(counts))
    shares = class_shares(counts, np.asarray(pool), pixels)
    return {
        "bought": shares.bought.tolist(),
        "pool": shares.pool.tolist(),
        "entropy": shares.entropy,
        "wasted": shares.wasted,
        "pixels": pixels,
    }


def _scalars(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the means and the rest of Table 4 as the trackers want them."""
    covered = [row for row in facts["images"] if "radius" in row]
    out = {
        k: float(np.mean([row[k] for row in covered])) for k in ("radius", "largest_radial", "mean_distance") if covered
    }
    out |= {} if facts["loss"] is None else {"core_set_loss": facts["loss"]["core_set"]}
    fit = (facts["calibration"] or {}).get("fit")
    out |= {} if fit is None else {"calibration_r2": fit["r2"], "calibration_slope": fit["slope"]}
    ranks = [row["neighbor_rank"] for row in covered if row.get("neighbor_rank") is not None]
    out |= {"neighbor_rank": float(np.mean(ranks))} if ranks else {}
    return out | ({} if facts["classes"] is None else {k: facts["classes"][k] for k in ("entropy", "wasted")})
