"""COCO AP against pycocotools, an independent implementation."""

import contextlib
import io

import numpy as np
import pytest

from al_lab.core.types import Annotation, Detections
from al_lab.metrics.coco_ap import NAMES, CocoAP, coco_results, coco_truth

CLASSES = list("abcd")


def by_pycocotools(predictions: dict, truth: dict) -> tuple[np.ndarray, list[float]]:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        target = coco.COCO()
        target.dataset = coco_truth(truth, CLASSES)
        target.createIndex()
        evaluation = cocoeval.COCOeval(target, target.loadRes(coco_results(predictions, list(truth))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return evaluation.stats[:6], [float(precision[:, :, k].mean()) for k in range(len(CLASSES))]


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed: int, random_world) -> None:
    predictions, truth = random_world(seed, crowds=True)
    result = CocoAP().compute(predictions, truth, CLASSES)
    stats, per_class = by_pycocotools(predictions, truth)
    assert tuple(result.scalars) == NAMES
    np.testing.assert_allclose(list(result.scalars.values()), stats, atol=1e-10)
    rows = [r for r in result.per_class if r["metric"] == "coco_ap"]
    np.testing.assert_allclose([r["ap"] for r in rows[:3]], per_class[:3], atol=1e-10)
    assert np.isnan(rows[3]["ap"])
    assert [r["num_gt"] for r in rows] == [
        sum(int(((a.labels == k) & ~a.crowd).sum()) for a in truth.values()) for k in range(4)
    ]


def test_a_size_without_objects_has_no_number() -> None:
    truth = {"a": Annotation.make([[0, 0, 99, 99]], [0])}
    result = CocoAP().compute({"a": Detections.none(1, "sigmoid")}, truth, ["x"])
    assert set(NAMES) - set(result.scalars) == {"coco_ap_small", "coco_ap_medium"}


def test_a_perfect_detector_and_a_blind_one() -> None:
    truth = {"a": Annotation.make([[0, 0, 50, 50], [60, 60, 90, 99]], [0, 1]), "b": Annotation.make([], [])}
    boxes = truth["a"].boxes_xyxy
    perfect = Detections(boxes, np.ones(2, np.float32), np.array([0, 1]), np.ones((2, 2), np.float32), "sigmoid")
    none = Detections.none(2, "sigmoid")
    assert CocoAP(["coco_ap"]).compute({"a": perfect, "b": none}, truth, ["x", "y"]).scalars == {
        "coco_ap": pytest.approx(1.0)
    }
    assert CocoAP(["coco_ap"]).compute({"a": none, "b": none}, truth, ["x", "y"]).scalars == {"coco_ap": 0.0}


def drawn(world: dict, weights: np.ndarray) -> dict:
    return {f"{i}/{k}": world[i] for i, n in zip(world, weights, strict=True) for k in range(n)}


@pytest.mark.parametrize("seed", range(4))
def test_images_drawn_again_are_what_pycocotools_makes_of_them(seed: int, random_world) -> None:
    predictions, truth = random_world(seed, 12, crowds=True, ties=seed > 1)
    weights = np.stack([np.ones(12, int), np.arange(12) % 3, np.zeros(12, int)])
    values = CocoAP().resampled(predictions, truth, CLASSES, weights)
    assert set(values) == set(NAMES)
    for draw in range(1 if seed > 1 else 2):  # copies of an image with equal confidences have no order of their own
        stats, _ = by_pycocotools(drawn(predictions, weights[draw]), drawn(truth, weights[draw]))
        found = [-1.0 if np.isnan(values[name][draw]) else values[name][draw] for name in NAMES]
        np.testing.assert_allclose(found, stats, atol=1e-10)
    assert all(np.isnan(v[2]) for v in values.values())  # nothing was drawn


def test_only_the_hundred_most_confident_of_an_image_and_class_count() -> None:
    truth = {"a": Annotation.make([[0, 0, 50, 50], [60, 60, 90, 99]], [0, 0])}
    stray = np.tile([[200, 200, 220, 220]], (99, 1)) + np.arange(99)[:, None]
    boxes = np.concatenate([[[0, 0, 50, 50]], stray, [[60, 60, 90, 99]]]).astype(np.float32)
    confidence = np.linspace(0.9, 0.1, 101).astype(np.float32)
    found = {"a": Detections(boxes, confidence, np.zeros(101, np.int64), confidence[:, None], "sigmoid")}
    metric, ones = CocoAP(["coco_ap50"]), np.ones((1, 1), int)
    scalar = metric.compute(found, truth, ["x"]).scalars["coco_ap50"]
    assert metric.resampled(found, truth, ["x"], ones)["coco_ap50"] == pytest.approx([scalar])
    assert scalar == pytest.approx(51 / 101)
