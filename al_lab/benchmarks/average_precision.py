"""VOC AP against mmdet's evaluator, COCO AP against pycocotools, on a generated test set."""

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.benchmarks.measure import Row, best_of
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.coco_ap import NAMES, CocoAP, coco_results, coco_truth
from al_lab.metrics.voc_ap import VocAP

log = logging.getLogger(__name__)

World = tuple[dict[str, Detections], dict[str, Annotation], list[str]]


def world(num_images: int, num_classes: int, num_boxes: int, seed: int = 0, *, crowds: bool = False) -> World:
    """Return predictions, truth and classes.

    1 to 5 objects an image, most found more than once, the rest of the boxes anywhere.
    """
    rng = np.random.default_rng(seed)
    drawn, truth = {}, {}
    for n in range(num_images):
        g = int(rng.integers(1, 6))
        corner = rng.uniform(0, 350, (g, 2))
        boxes, labels = (
            np.concatenate([corner, corner + rng.uniform(15, 150, (g, 2))], 1),
            rng.integers(0, num_classes, g),
        )
        flags = rng.random(g) < 0.15
        truth[f"{n:06d}"] = Annotation.make(boxes, labels, None if crowds else flags, flags if crowds else None)
        near = rng.integers(0, g, num_boxes // 4)
        away = rng.uniform(0, 350, (num_boxes - len(near), 2))
        found = np.concatenate(
            [
                boxes[near] + rng.normal(0, 8, (len(near), 4)),
                np.concatenate([away, away + rng.uniform(15, 150, away.shape)], 1),
            ]
        )
        of = np.concatenate([labels[near], rng.integers(0, num_classes, len(away))])
        drawn[f"{n:06d}"] = (
            found.astype(np.float32),
            of.astype(np.int64),
            np.concatenate([rng.beta(3, 2, len(near)), rng.beta(1, 8, len(away))]),
        )
    # No two confidences are equal: mmdet's order of equal ones is the sort's of this CPU.
    rank = np.argsort(np.argsort(np.concatenate([c for *_, c in drawn.values()])))
    predictions = {}
    for (i, (found, of, _)), ranks in zip(drawn.items(), np.split(rank, len(drawn)), strict=True):
        confidence = ((ranks + 0.5) / len(rank)).astype(np.float32)
        order = np.argsort(-confidence)
        predictions[i] = Detections(found[order], confidence[order], of[order], confidence[order, None], "sigmoid")
    return predictions, truth, [f"class {k}" for k in range(num_classes)]


def mmdet_eval_map() -> Any:
    """Return mmdet's ``eval_map``; None if mmdet is absent.

    ``mmdet.evaluation`` imports mmdet's datasets on its way (and with them imaug, which we don't install). The three
    files that compute the numbers need none of that, so their package is entered without running its ``__init__``.
    """
    spec = importlib.util.find_spec("mmdet")
    if spec is None or spec.origin is None:
        return None
    for name in ("mmdet.evaluation", "mmdet.evaluation.functional"):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
    return importlib.import_module("mmdet.evaluation.functional.mean_ap").eval_map


def run(
    full: bool = False, voc_images: int = 4952, coco_images: int = 1500, memory_images: int = 5000
) -> Iterator[Row]:
    """Yield the rows."""
    yield from _voc(*world(voc_images, 20, 100), full)
    yield from _coco(*world(5000 if full else coco_images, 80, 100, crowds=True))
    yield _coco_memory(memory_images)


def _voc(
    predictions: dict[str, Detections], truth: dict[str, Annotation], classes: list[str], full: bool
) -> Iterator[Row]:
    eval_map = mmdet_eval_map()
    if eval_map is None:
        log.warning("mmdet is not installed: no comparison with its VOC evaluator")
        return
    found = [
        [
            np.concatenate([d.boxes_xyxy[d.labels == k], d.confidence[d.labels == k, None]], 1)
            for k in range(len(classes))
        ]
        for d in predictions.values()
    ]
    objects = [
        {
            "bboxes": a.boxes_xyxy[~a.difficult],
            "labels": a.labels[~a.difficult],
            "bboxes_ignore": a.boxes_xyxy[a.difficult],
            "labels_ignore": a.labels[a.difficult],
        }
        for a in truth.values()
    ]
    # The released grid: mmdet's, in which 3/10, 6/10 and 7/10 are slightly too large.
    for name, mode in (("voc_area_ap50", "area"), ("voc07_ap50", "11points")):
        metric = VocAP([name], legacy_grid=True)
        seconds, ours = best_of(partial(metric.compute, predictions, truth, classes), 3)
        peer_seconds, peer = best_of(
            partial(eval_map, found, objects, iou_thr=0.5, logger="silent", nproc=1, eval_mode=mode),
            2 if full else 1,
        )
        difference = np.nanmax(
            np.abs(np.array([row["ap"] for row in ours.per_class]) - [float(r["ap"]) for r in peer[1]])
        )
        yield Row(
            f"{name}, {len(truth):,} images, {len(classes)} classes",
            "mmdet eval_map",
            seconds,
            peer_seconds,
            peer_seconds / seconds,
            ">= 5",
            bool(difference < 1e-6),
            f"{ours.scalars[name]:.6f} and {float(peer[0]):.6f}; largest difference of a class {difference:.1e}",
        )


def _coco(predictions: dict[str, Detections], truth: dict[str, Annotation], classes: list[str]) -> Iterator[Row]:
    if not importlib.util.find_spec("pycocotools"):
        log.warning("pycocotools is not installed: no comparison with it")
        return
    seconds, ours = best_of(lambda: CocoAP().compute(predictions, truth, classes), 2)
    peer_seconds, peer = best_of(lambda: _pycocotools(predictions, truth, classes), 1)
    theirs = {name: float(value) for name, value in zip(NAMES, peer, strict=True) if value > -1}
    same_names = theirs.keys() == ours.scalars.keys()
    difference = max(abs(value - ours.scalars.get(name, np.inf)) for name, value in theirs.items())
    yield Row(
        f"coco_ap, {len(truth):,} images, {len(classes)} classes",
        "pycocotools",
        seconds,
        peer_seconds,
        peer_seconds / seconds,
        "",
        same_names and difference < 1e-9,
        f"{ours.scalars['coco_ap']:.6f} and {peer[0]:.6f}; largest difference of {len(theirs)} numbers "
        f"{difference:.1e}",
    )


def _coco_memory(num_images: int) -> Row:
    """Compute COCO AP in a process of its own, whose memory at its peak is all that was ever needed."""
    code = (
        "import resource, time; from al_lab.benchmarks.average_precision import world; "
        "from al_lab.metrics.coco_ap import CocoAP; start = time.process_time(); "
        f"CocoAP().compute(*world({num_images}, 80, 100, crowds=True)); "
        "print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    seconds, kibibytes = (float(word) for word in done.stdout.split()[-2:])
    task = f"coco_ap, {num_images:,} images, 80 classes: peak memory"
    return Row(task, "", seconds, None, kibibytes / 2**20, "<= 2", None, "the ratio is GiB of a fresh process")


def _pycocotools(predictions: dict[str, Detections], truth: dict[str, Annotation], classes: list[str]) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = coco_truth(truth, classes)
        target.createIndex()
        evaluation = COCOeval(target, target.loadRes(coco_results(predictions, list(truth))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats[:6])
