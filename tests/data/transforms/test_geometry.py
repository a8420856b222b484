"""G-1 and G-2 are golden vectors of the fact sheet (5.10)."""

import numpy as np
import pytest

from al_lab.data.transforms.geometry import crop, expand, iou_with, kept_in, resized_hw, ssd_crop_rect


def test_g1_expand_moves_boxes():
    moved = expand(np.array([[0, 0, 10, 10], [5, 6, 100, 80]], np.float32), left=30, top=40)
    assert moved.tolist() == [[30, 40, 40, 50], [35, 46, 130, 120]]


def test_g2_crop_keeps_boxes_whose_center_is_inside():
    boxes, keep = crop(np.array([[0, 0, 60, 60], [100, 50, 180, 90]], np.float32), (20, 10, 120, 90))
    assert keep.tolist() == [True, False]
    assert boxes.tolist() == [[0, 0, 40, 50]]


def test_a_center_on_the_edge_is_outside():
    boxes = np.array([[10, 10, 30, 30], [11, 11, 31, 31]], np.float32)
    assert kept_in(boxes, (20, 0, 60, 60)).tolist() == [False, True]


def test_iou_with_a_rectangle():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [50, 50, 60, 60]], np.float32)
    np.testing.assert_allclose(iou_with(boxes, (0, 0, 10, 10)), [1, 25 / 175, 0])


@pytest.mark.parametrize("rule", ["legacy", "caffe"])
def test_crops_have_ssds_shapes_and_keep_an_object(rule):
    boxes = np.array([[5, 5, 40, 60], [100, 70, 130, 90]], np.float32)
    rects = [ssd_crop_rect(boxes, (100, 150), np.random.default_rng(n), rule) for n in range(300)]
    crops = [r for r in rects if r is not None]
    # whole image: about one of 6 (legacy) or 7 (caffe), a little more after failures
    assert 20 < rects.count(None) < 90
    for left, top, right, bottom in crops:
        assert 0 <= left < right <= 150
        assert 0 <= top < bottom <= 100
        assert right - left >= 44
        assert bottom - top >= 29
        assert 0.45 < (bottom - top) / (right - left) < 2.1
        assert kept_in(boxes, (left, top, right, bottom)).any()


def test_only_caffes_rule_rejects_by_iou():
    boxes = np.array([[70, 45, 80, 55]], np.float32)  # far smaller than any crop: its IoU with one stays below 0.1
    legacy = [ssd_crop_rect(boxes, (100, 150), np.random.default_rng(n), "legacy") for n in range(80)]
    caffe = [ssd_crop_rect(boxes, (100, 150), np.random.default_rng(n), "caffe") for n in range(80)]
    assert sum(r is None for r in legacy) < 27
    # What is left are the whole image and the mode without a constraint, one to one.
    assert 25 < sum(r is None for r in caffe) < 55


def test_a_crop_without_boxes_looks_at_shapes_alone():
    none = np.zeros((0, 4), np.float32)
    rects = [ssd_crop_rect(none, (100, 150), np.random.default_rng(n), "legacy") for n in range(300)]
    assert 25 < rects.count(None) < 80


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((375, 500), (600, 800)), ((500, 375), (800, 600)), ((100, 400), (250, 1000)), ((333, 500), (600, 901))],
)
def test_keep_ratio_fits_into_both_limits(size_hw, expected):
    assert resized_hw(size_hw, (600, 1000), "keep_ratio") == expected
    assert resized_hw(size_hw, (300, 320), "fixed") == (300, 320)
