"""VOC AP: the fact sheet's vectors A-1..A-10, and a loop written independently after the devkit's text."""

import numpy as np
import pytest

from al_lab.core.boxes import pair_iou
from al_lab.core.errors import ConfigError, DataError
from al_lab.core.types import Annotation, Detections
from al_lab.metrics.voc_ap import VocAP, area_ap, eleven_point_ap, recall_precision, true_positives

LEGACY = np.arange(0.0, 1.1, 0.1)


@pytest.mark.parametrize(
    ("hits", "num_gt", "tolerant", "legacy", "area"),
    [
        ([1, 0, 1, 1, 0], 4, 0.613636, 0.613636, 0.625),
        # The sheet prints .509091 without a star, but its recall ends at exactly 3/5, the point that only the
        # legacy
        # grid misses.
        ([1, 1, 0, 0, 1], 5, 6.2 / 11, 0.509091, 0.520),
        ([1], 1, 1, 1, 1),
        ([0, 0], 3, 0, 0, 0),
        ([1, 1, 1, 0, 1, 1], 10, 0.515152, 0.5, 0.466667),
        ([1, 1, 1], 10, 0.363636, 0.272727, 0.3),
        ([1] * 6, 10, 0.636364, 0.545455, 0.6),
        ([1] * 7, 10, 0.727273, 0.636364, 0.7),
    ],
)
def test_sequences_of_hits(hits: list[int], num_gt: int, tolerant: float, legacy: float, area: float) -> None:
    is_true = np.array(hits, bool)
    recall, precision = recall_precision(is_true, ~is_true, num_gt)
    assert eleven_point_ap(recall, precision) == pytest.approx(tolerant, abs=1e-6)
    assert eleven_point_ap(recall, precision, LEGACY) == pytest.approx(legacy, abs=1e-6)
    assert area_ap(recall, precision) == pytest.approx(area, abs=1e-6)


def one_image(boxes: list, confidence: list[float], objects: list, difficult: list[bool]) -> tuple[dict, dict]:
    n = len(confidence)
    xyxy, p = np.array(boxes, np.float32).reshape(n, 4), np.array(confidence, np.float32)
    found = Detections(xyxy, p, np.zeros(n, np.int64), p[:, None], "sigmoid")
    return {"a": found}, {"a": Annotation.make(objects, [0] * len(objects), difficult)}


def test_a8_no_detections() -> None:
    world = one_image([], [], [[0, 0, 9, 9]], [False])
    assert VocAP().compute(*world, ["x"]).scalars == {"voc07_ap50": 0.0, "voc_area_ap50": 0.0}
    assert VocAP(legacy_empty=True).compute(*world, ["x"]).scalars["voc07_ap50"] == -1.0


def test_a9_difficult_objects_are_neither_found_nor_missed() -> None:
    a, b = [0, 0, 10, 10], [50, 50, 70, 70]
    world = one_image([b, a, a, [30, 30, 35, 35]], [0.9, 0.8, 0.7, 0.6], [a, b], [False, True])
    result = VocAP().compute(*world, ["x"])
    assert result.scalars == {"voc07_ap50": 1.0, "voc_area_ap50": 1.0}
    assert result.per_class[0] == {"class": "x", "ap": 1.0, "num_gt": 1, "num_det": 4, "metric": "voc07_ap50"}
    recall, precision = recall_precision(np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool), 1)
    np.testing.assert_allclose(recall, [0, 1, 1, 1])
    np.testing.assert_allclose(precision, [0, 1, 0.5, 1 / 3])


def test_a10_iou_with_and_without_the_devkits_pixel() -> None:
    a, b = np.array([[0, 0, 9, 9.0]]), np.array([[5, 0, 14, 9.0]])
    assert pair_iou(a, b)[0] == pytest.approx(0.28571429, abs=1e-8)
    assert pair_iou(a, b, 1.0)[0] == pytest.approx(1 / 3, abs=1e-8)


def test_an_overlap_of_exactly_one_half_is_no_hit() -> None:
    world = one_image([[0, 0, 10, 5]], [0.9], [[0, 0, 10, 10]], [False])
    assert VocAP().compute(*world, ["x"]).scalars["voc_area_ap50"] == 0.0
    assert VocAP(devkit_plus_one=True).compute(*world, ["x"]).scalars["voc_area_ap50"] == 1.0


def by_loops(predictions: dict, truth: dict, label: int) -> tuple[float, float]:
    """One class, one detection at a time; returns (11-point, area)."""
    entries = [
        (-float(d.confidence[n]), order, i, d.boxes_xyxy[n].astype(float))
        for order, i in enumerate(truth)
        for d in [predictions[i]]
        for n in range(len(d))
        if d.labels[n] == label
    ]
    entries.sort(key=lambda e: e[:2])
    taken, true, false, curve = set(), 0, 0, []
    num_gt = sum(
        int(k == label and not d and not c)
        for a in truth.values()
        for k, d, c in zip(a.labels, a.difficult, a.crowd, strict=True)
    )
    for _, _, i, (x1, y1, x2, y2) in entries:
        best, owner = 0.0, None
        for n, (gx1, gy1, gx2, gy2) in enumerate(truth[i].boxes_xyxy.astype(float)):
            if truth[i].labels[n] != label:
                continue
            w, h = min(x2, gx2) - max(x1, gx1), min(y2, gy2) - max(y1, gy1)
            inter = w * h if w > 0 and h > 0 else 0.0
            overlap = inter / ((x2 - x1) * (y2 - y1) + (gx2 - gx1) * (gy2 - gy1) - inter)
            if overlap > best:
                best, owner = overlap, n
        if best > 0.5:
            if truth[i].difficult[owner] or truth[i].crowd[owner]:
                continue
            if (i, owner) in taken:
                false += 1
            else:
                taken.add((i, owner))
                true += 1
        else:
            false += 1
        curve.append((true / num_gt, true / (true + false)))
    eleven = sum(max([p for r, p in curve if r >= k / 10 - 1e-12], default=0.0) for k in range(11)) / 11
    area, before = 0.0, 0.0
    for n, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[n:])
        before = recall
    return eleven, area


@pytest.mark.parametrize("seed", range(6))
def test_equals_loops(seed: int, random_world) -> None:
    predictions, truth = random_world(seed, crowds=seed % 2 == 1, ties=seed > 2)
    result = VocAP().compute(predictions, truth, list("abcd"))
    expected = np.array([by_loops(predictions, truth, k) for k in range(3)])
    for name, column in (("voc07_ap50", 0), ("voc_area_ap50", 1)):
        rows = [r["ap"] for r in result.per_class if r["metric"] == name]
        # class d has no object, and no part in the mean
        np.testing.assert_allclose(rows, [*expected[:, column], np.nan], atol=1e-12)
        assert result.scalars[name] == pytest.approx(expected[:, column].mean())


def test_bad_input_is_named(random_world) -> None:
    predictions, truth = random_world(0)
    with pytest.raises(DataError, match="predictions of every test image.*none of 'i3'"):
        VocAP().compute({i: d for i, d in predictions.items() if i != "i3"}, truth, list("abcd"))
    with pytest.raises(DataError, match=r"labels in 0\.\.1.*detection labels"):
        VocAP().compute(predictions, truth, list("ab"))
    with pytest.raises(DataError, match="at least one object"):
        VocAP().compute(predictions, {i: Annotation.make([], []) for i in truth}, list("abcd"))
    with pytest.raises(ConfigError, match="did you mean 'voc07_ap50'"):
        VocAP(["voc07_ap5"])


def test_an_image_drawn_twice_counts_twice(random_world) -> None:
    predictions, truth = random_world(3)
    classes = list("abcd")
    weights = np.stack([np.ones(len(truth), int), np.arange(len(truth)) % 3])
    values = VocAP().resampled(predictions, truth, classes, weights)
    drawn = [f"{i}/{k}" for i, n in zip(truth, weights[1], strict=True) for k in range(n)]
    twice = [{name: world[name.rsplit("/", 1)[0]] for name in drawn} for world in (predictions, truth)]
    for name, scalar in VocAP().compute(predictions, truth, classes).scalars.items():
        assert values[name][0] == pytest.approx(scalar)
        assert values[name][1] == pytest.approx(VocAP().compute(*twice, classes).scalars[name])


def test_true_positives_image_by_image() -> None:
    a, b, far = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [50.0, 50, 60, 60]
    first = Detections(*_rows([(a, 0.9, 0), (a, 0.8, 0), (b, 0.7, 1), (far, 0.6, 0)]))
    second = Detections(*_rows([(b, 0.5, 0), (a, 0.4, 1)]))
    truth = [Annotation.make([a, b], [0, 1]), Annotation.make([b, a], [0, 1], difficult=[True, False])]
    is_true, is_false = true_positives([first, second, Detections.none(2, "sigmoid")], [*truth, truth[0]], 2, 0.5)
    assert is_true.tolist() == [True, False, True, False, False, True]
    assert is_false.tolist() == [False, True, False, True, False, False]  # a difficult object's is neither
    assert [len(x) for x in true_positives([], [], 2, 0.5)] == [0, 0]


def _rows(boxes: list[tuple[list[float], float, int]]) -> tuple[np.ndarray, ...]:
    confidence = np.array([b[1] for b in boxes], np.float32)
    places = np.array([b[0] for b in boxes], np.float32)
    return places, confidence, np.array([b[2] for b in boxes], np.int64), confidence[:, None]
