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
