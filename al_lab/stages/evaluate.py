"""Measure the trained model on the test set, once a cycle."""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.files import write_json, write_text
from al_lab.core.record.csv_file import csv_text
from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.stage import Stage, StageContext
from al_lab.metrics.build import build_metrics
from al_lab.metrics.outcomes import Outcomes
from al_lab.metrics.resampling import resamples
from al_lab.metrics.result import MetricResult
from al_lab.metrics.segmentation import Measured, resampled_segmentation, segmentation_results
from al_lab.stages.sharding import remove_shards, run_sharded

log = logging.getLogger(__name__)


class Evaluate(Stage):
    """``model.ckpt`` -> ``metrics.json``, ``per_class.csv``, predictions.

    The metrics on test images drawn again are written, too (``resampled.json``), and what became of every detection
    (``outcomes.npz``), from which they can be drawn again later, without truth or boxes.
    """

    name = "evaluate"

    def run(self, ctx: StageContext) -> dict[str, float]:
        """Predict the test images in parallel and compute the dataset's metrics."""
        ids = ctx.dataset.test_ids
        if not ids:
            log.info("evaluation is skipped: dataset %r has no test set", ctx.dataset.name)
            results = []
        elif ctx.dataset.task == "detection":
            results = self._detection(ctx, ids)
        else:
            results = self._segmentation(ctx, ids)
        scalars = {name: float(value) for result in results for name, value in result.scalars.items()}
        write_json(ctx.cycle_dir / "metrics.json", scalars)
        write_text(ctx.cycle_dir / "per_class.csv", _per_class_csv(results))
        return scalars

    def files(self, ctx: StageContext) -> list[Path]:
        """Return what the report reads."""
        names = ("metrics.json", "per_class.csv", "predictions.npz", "outcomes.npz", "resampled.json")
        return [path for name in names if (path := ctx.cycle_dir / name).is_file()]

    def inputs(self, ctx: StageContext) -> list[Path]:
        """Return the model, if there is something to test it on."""
        return super().inputs(ctx) if ctx.dataset.test_ids else []

    @staticmethod
    def _detection(ctx: StageContext, ids: tuple[str, ...]) -> list[MetricResult]:
        checkpoint = ctx.cycle_dir / "model.ckpt"
        predictions = load_predictions(paths := run_sharded(ctx, "predict", "predict", ids, checkpoint, ".npz"))
        save_predictions(ctx.cycle_dir / "predictions.npz", predictions)
        remove_shards(paths)
        truth = {i: ctx.dataset.truth(i) for i in ids}
        metrics = build_metrics(ctx.dataset.metrics)
        results = [metric.compute(predictions, truth, ctx.dataset.classes) for metric in metrics]
        weights_BN = resamples(len(truth))
        drawn = [metric.resampled(predictions, truth, ctx.dataset.classes, weights_BN) for metric in metrics]
        _write_resampled(ctx, ids, {name: values for part in drawn for name, values in part.items()})
        Outcomes.of(predictions, truth, len(ctx.dataset.classes)).save(ctx.cycle_dir / "outcomes.npz")
        return results

    @staticmethod
    def _segmentation(ctx: StageContext, ids: tuple[str, ...]) -> list[MetricResult]:
        paths = run_sharded(ctx, "confusion", "confusion", ids, ctx.cycle_dir / "model.ckpt", ".npz")
        measured = Measured.joined([Measured.load(path) for path in paths])
        remove_shards(paths)
        classes, names = ctx.dataset.classes, ctx.dataset.metrics
        results = segmentation_results(measured, classes, names)
        _write_resampled(ctx, ids, resampled_segmentation(measured, classes, names, resamples(len(ids))))
        return results


def _write_resampled(ctx: StageContext, ids: Sequence[str], values: Mapping[str, np.ndarray]) -> None:
    """Write metrics on test images drawn again, with what tells which images these are."""
    metrics = {name: [v if math.isfinite(v) else None for v in found.tolist()] for name, found in values.items()}
    images = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    write_json(ctx.cycle_dir / "resampled.json", {"images": images, "metrics": metrics})


def _per_class_csv(results: list[MetricResult]) -> str:
    rows = [row for result in results for row in result.per_class]
    columns = list(rows[0]) if rows else ["class", "ap", "num_gt", "num_det", "metric"]
    return csv_text(columns, ([row.get(c) for c in columns] for row in rows))
