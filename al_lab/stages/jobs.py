"""What a worker process is asked to do. Arguments are JSON; arrays travel as files."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.acquisition.pseudo import pseudo_labels
from al_lab.config.build import build
from al_lab.config.load import load_config
from al_lab.core.budget import PARTS, Budget
from al_lab.core.files import read_json
from al_lab.core.pool import Pool
from al_lab.core.record.labels import read_labels, read_pixel_labels
from al_lab.core.record.predictions import save_predictions
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext, Strategy, context_for
from al_lab.core.types import Candidates, DenseView, Detections, ImageView
from al_lab.data.bought_test import with_test
from al_lab.execution.machine import check_gpu
from al_lab.learners.base import FitTask, Learner
from al_lab.learners.build import build_learner
from al_lab.learners.foreign.embedded import with_embedding
from al_lab.metrics.build import build_metrics
from al_lab.metrics.result import MetricResult
from al_lab.metrics.segmentation import Measured, segmentation_results
from al_lab.stages.entropies import image_entropies

JUDGED = "judged_"  # columns of shards of candidates that are for the report
_open: dict[Path, tuple[dict[str, Any], Any, int]] = {}  # run folder -> configuration, dataset, when it was written


def hold_open(run_dir: Path, dataset: Any) -> None:
    """Let jobs of this process use a dataset that is built already."""
    _open.clear()
    _open[run_dir] = (load_config(run_dir), dataset, _written(run_dir))


def open_run(run_dir: str | Path) -> tuple[dict[str, Any], Any]:
    """Return the configuration and the dataset of a run.

    Both are built once a worker, an index of 100,000 annotations takes a while.
    """
    path = Path(run_dir)
    if path not in _open or _open[path][2] != _written(path):
        config = load_config(path)
        _open.clear()
        _open[path] = (config, with_test(build(config["dataset"]), config, path), _written(path))
    return _open[path][:2]


def _written(run_dir: Path) -> int:
    return (run_dir / "config.yaml").stat().st_mtime_ns


def open_learner(run_dir: str, checkpoint: str) -> tuple[dict[str, Any], Any, Learner]:
    """Return configuration, dataset and trained learner of a run."""
    config, dataset = open_run(run_dir)
    learner = _learner(config, dataset)
    learner.load(Path(checkpoint))
    return config, dataset, learner


def _learner(config: dict[str, Any], dataset: Any) -> Learner:
    check_gpu()
    return with_embedding(build_learner(config, dataset), config, dataset)


def fit(run_dir: str, task: dict[str, Any], progress: str | None = None) -> dict[str, float]:
    """Train as a `FitTask` says; ``progress`` is where the executor looks for news of it."""
    return fit_with(run_dir, task | {"progress": progress}, {})


def fit_with(run_dir: str, task: dict[str, Any], changes: dict[str, Any]) -> dict[str, float]:
    """Train as a `FitTask` says, with whole groups of the configuration replaced."""
    config, dataset = open_run(run_dir)
    return _learner(config | changes, dataset).fit(FitTask.from_json(task))


def fit_and_measure(
    run_dir: str,
    task: dict[str, Any],
    changes: dict[str, Any],
    ids: Sequence[str],
    keep: bool = False,
    early_stop: float | None = None,
    progress: str | None = None,
) -> dict[str, Any]:
    """Train in another way than the campaign does and measure the result on some images.

    Args:
        run_dir: the campaign's folder.
        task: a `FitTask`.
        changes: whole groups of the configuration to replace, such as ``objective`` and ``trainer``.
        ids: images to measure on: of the pool, then their labels must have been bought; or of the test or validation
            set.
        keep: the weights are needed afterwards; otherwise they are deleted.
        early_stop: stop after this fraction of the schedule.
        progress: where the executor looks for news.

    Returns:
        ``metrics`` (name to value), ``per_class`` (class to AP, or IoU, of the first metric), ``seconds``;
        ``diverged``, the number of attempts that did, if there were any.
    """
    start = time.monotonic()
    config, dataset = open_run(run_dir)
    config = config | changes
    learner = _learner(config, dataset)
    fit_task = FitTask.from_json(task | {"progress": progress})
    if early_stop is not None:
        total = build(config["trainer"]).schedule(len(fit_task.labeled)).total_steps
        fit_task = dataclasses.replace(fit_task, stop_at=max(1, round(early_stop * total)))
    scalars = learner.fit(fit_task)
    measured = _measure(learner, fit_task.checkpoint, run_dir, dataset, ids)
    if not keep:
        fit_task.checkpoint.unlink(missing_ok=True)
    shutil.rmtree(fit_task.scratch_dir, ignore_errors=True)
    diverged = {"diverged": scalars["diverged"]} if "diverged" in scalars else {}
    return measured | {"seconds": time.monotonic() - start} | diverged


def measure(run_dir: str, checkpoint: str, ids: Sequence[str]) -> dict[str, Any]:
    """Measure a model on some images, see `fit_and_measure`."""
    _, dataset, learner = open_learner(run_dir, checkpoint)
    return _measure(learner, Path(checkpoint), run_dir, dataset, ids)


def _measure(learner: Learner, checkpoint: Path, run_dir: str, dataset: Any, ids: Sequence[str]) -> dict[str, Any]:
    learner.load(checkpoint)
    measured = _of_pixels if dataset.task == "segmentation" else _of_boxes
    results = measured(learner, Path(run_dir), dataset, ids)
    first = next(iter(results[0].scalars))
    return {
        "metrics": {name: float(v) for r in results for name, v in r.scalars.items()},
        "per_class": {
            row["class"]: float(row["ap"])
            for row in results[0].per_class
            if row["metric"] == first and np.isfinite(row["ap"])
        },
    }


def _of_boxes(learner: Learner, run_dir: Path, dataset: Any, ids: Sequence[str]) -> list[MetricResult]:
    predictions = {
        v.sample_id: v.detections
        for v in learner.views(ids, ("detections",))
        if isinstance(v, ImageView) and v.detections is not None
    }
    truth = truth_of(dataset, run_dir, ids)
    return [metric.compute(predictions, truth, dataset.classes) for metric in build_metrics(dataset.metrics)]


def _of_pixels(learner: Learner, run_dir: Path, dataset: Any, ids: Sequence[str]) -> list[MetricResult]:
    in_pool = set(ids) & set(dataset.pool_ids)

    def truth(sample_id: str) -> np.ndarray:
        return read_pixel_labels(run_dir, sample_id, None) if sample_id in in_pool else dataset.truth(sample_id)

    found = Measured.joined([of_image for _, of_image in _measured(learner, dataset, ids, truth)])
    return segmentation_results(found, dataset.classes, dataset.metrics)


def _measured(
    learner: Learner, dataset: Any, ids: Sequence[str], truth: Callable[[str], np.ndarray]
) -> Iterator[tuple[str, Measured]]:
    """Yield what the dataset's metrics are made of, image by image, void left out."""
    options = {"flip": True} if dataset.flip_test else {}
    for view in learner.views(ids, ("dense_probs",), *([options] if options else [])):
        predicted = dense(view).probs.argmax(0).byte().cpu().numpy()
        true = truth(view.sample_id)
        yield view.sample_id, Measured.of_image(true, predicted, len(dataset.classes), dataset.metrics)


def truth_of(dataset: Any, run_dir: Path, ids: Sequence[str]) -> dict[str, Any]:
    """Return the labels of images: those that were bought, or of the test or validation set its own."""
    in_pool = set(ids) & set(dataset.pool_ids)
    return dict(read_labels(run_dir, ids)) if in_pool else {i: dataset.truth(i) for i in ids}


def found_in(view: ImageView | DenseView) -> Detections:
    """Return the boxes of a view that was asked for them.

    Raises:
        TypeError: if the learner does not give them.
    """
    if not isinstance(view, ImageView) or view.detections is None:
        raise TypeError(
            f"asked for detections of {view.sample_id!r}, the learner gave {type(view).__name__} without any"
        )
    return view.detections


def dense(view: ImageView | DenseView) -> DenseView:
    """Return a view that was asked for class probabilities of pixels.

    Raises:
        TypeError: if the learner does not give them.
    """
    if not isinstance(view, DenseView):
        raise TypeError(f"asked for dense_probs of {view.sample_id!r}, the learner gave {type(view).__name__}")
    return view


def predict(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Write what a model detects in some images."""
    _, _, learner = open_learner(run_dir, checkpoint)
    found = {v.sample_id: found_in(v) for v in learner.views(ids, ("detections",))}
    save_predictions(Path(out), found)
    return {"images": len(ids)}


def confusion(run_dir: str, checkpoint: str, ids: Sequence[str], out: str) -> dict[str, float]:
    """Write what a segmenter's metrics are made of on test images: confusion matrices, and borders if asked for."""
    _, dataset, learner = open_learner(run_dir, checkpoint)
    found = dict(_measured(learner, dataset, ids, dataset.truth))
    Measured.joined([found[i] for i in ids]).save(Path(out))
    return {"images": len(ids)}


def score(run_dir: str, checkpoint: str, **asked: Any) -> dict[str, float]:
    """Write the candidates a strategy proposes in some images; ``asked`` is what `score_with` is asked."""
    config, dataset, learner = open_learner(run_dir, checkpoint)
    return score_with(learner, config, dataset, run_dir, **asked)


def score_with(
    learner: Learner,
    config: dict[str, Any],
    dataset: Any,
    run_dir: str,
    *,
    cycle: int,
    ids: Sequence[str],
    out: str,
    pseudo_tau: float | None = None,
    changes: dict[str, Any] | None = None,
    judged: Sequence[str] = (),
) -> dict[str, float]:
    """Write the candidates a strategy proposes in some images, as a learner sees them.

    With ``pseudo_tau`` the pseudo-labels found in the same pass are written, too. ``changes`` replaces whole groups of
    the configuration: another strategy looks through the same model. Of the images ``judged`` the strategy's `judge` is
    written, as columns ``judged_…`` that are NaN elsewhere.
    """
    config = config | (changes or {})
    strategy: Strategy = build(config["strategy"])
    budget: Budget = build(config["budget"])
    pool = Pool.from_json(
        read_json(Path(run_dir) / f"cycle_{cycle:02d}" / "pool.json"), dataset.pool_ids, Path(run_dir)
    )
    # The embedding costs next to nothing beside the forward, and the report draws the pool with it.
    also = ("image_embedding", *(strategy.also if dataset.task == "detection" else ()))
    needs = dict.fromkeys((*strategy.needs_for(budget.unit), *(word for word in also if word in learner.provides)))
    options = _drawn(strategy.view_options(), int(config["seed"]), cycle)
    if pseudo_tau is not None and not {"detections", "class_probs"} & set(needs):
        needs["detections"] = None
        options = options | {"min_confidence": pseudo_tau}
    parts, pseudo = [], {}
    for view in learner.views(ids, tuple(needs), *([options] if options else [])):
        part = propose(strategy, view, pool, config, cycle, budget, dataset)
        if judged:
            found = (
                strategy.judge(*_shown(strategy, view, pool, config, cycle, budget, dataset))
                if view.sample_id in judged
                else {}
            )
            part = _with_judgement(part, strategy, found)
        if pseudo_tau is not None and view.sample_id not in pool.whole:
            assert view.size_hw is not None
            pseudo[view.sample_id] = pseudo_labels(found_in(view), view.size_hw, pseudo_tau)
        if view.embedding is not None and "embedding" not in part.info:
            part = dataclasses.replace(part, info={**part.info, "embedding": view.embedding[None]})
        if isinstance(view, ImageView) and view.detections is not None:
            part = dataclasses.replace(part, info={**part.info, **image_entropies(view.detections)})
        parts.append(part)
    Candidates.concat(parts).save(Path(out))
    if pseudo_tau is not None:
        save_predictions(pseudo_path(Path(out)), {i: d for i, d in pseudo.items() if len(d)})
    return {"images": len(ids), "candidates": sum(len(p) for p in parts)}


def _drawn(options: dict[str, Any], seed: int, cycle: int) -> dict[str, Any]:
    """Return a strategy's view options; passes with dropout are drawn from (seed, cycle), whoever makes them."""
    if "passes" not in options:
        return options
    return options | {"passes": options["passes"] | {"seed": Rng(seed, cycle, "passes").seed()}}


def pseudo_path(candidates: Path) -> Path:
    """Return where the pseudo-labels lie that were found with these candidates."""
    return candidates.with_suffix(".pseudo.npz")


def propose(
    strategy: Strategy,
    view: ImageView | DenseView,
    pool: Pool,
    config: dict[str, Any],
    cycle: int,
    budget: Budget,
    dataset: Any,
) -> Candidates:
    """Ask a strategy about one image, with what was bought in it, what may be, and what the dataset shows filled in."""
    return strategy.propose(*_shown(strategy, view, pool, config, cycle, budget, dataset))


def _with_judgement(part: Candidates, strategy: Strategy, found: Mapping[str, float]) -> Candidates:
    columns = {f"{JUDGED}{name}": np.array([found.get(name, np.nan)]) for name in strategy.judges}
    return dataclasses.replace(part, info={**part.info, **columns})


def _shown(
    strategy: Strategy,
    view: ImageView | DenseView,
    pool: Pool,
    config: dict[str, Any],
    cycle: int,
    budget: Budget,
    dataset: Any,
) -> tuple[ImageView | DenseView, ProposeContext]:
    """Return what a strategy is told of one image."""
    i, quota, share = view.sample_id, None, 0.0
    if isinstance(view, DenseView):
        shown = strategy.shown_for(budget.unit)
        view = dataclasses.replace(
            view,
            bought=pool.bought_mask(i),
            segments=dataset.segment_map(i) if "segments" in shown else None,
            image=dataset.load_image(i) if "image" in shown else None,
        )
        if budget.unit in PARTS:
            quota = budget.allowance(cycle, len(pool)).in_image(view.size_hw, strategy.radius_px)
            share = budget.share_of(view.size_hw) if budget.unit == "pixel" and budget.scope == "image" else 0.0
    is_labeled = i in pool.whole
    ctx = context_for(int(config["seed"]), cycle, i, budget.unit, quota=quota, is_labeled=is_labeled, share=share)
    return view, ctx
