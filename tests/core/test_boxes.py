import numpy as np
import pytest

from al_lab.core.boxes import pair_iou

A = np.array([[0.0, 0, 10, 4]])


@pytest.mark.parametrize(
    ("other", "value"),
    [
        ([5, 2, 15, 6], 10 / 70),
        ([0, 0, 10, 4], 1.0),
        ([2, 1, 4, 3], 4 / 40),
        ([10, 0, 20, 4], 0.0),
        ([12, 6, 20, 9], 0.0),
        ([5, 5, 15, 9], 0.0),
    ],
)
def test_overlap_of_two_boxes(other, value):
    b = np.array([other], float)
    assert pair_iou(A, b).tolist() == [pytest.approx(value)]
    assert pair_iou(b, A).tolist() == [pytest.approx(value)]


def test_the_devkits_extra_pixel_counts_in_every_side():
    b = np.array([[5.0, 2, 15, 6]])
    assert pair_iou(A, b, extra=1.0)[0] == pytest.approx(6 * 3 / (2 * 11 * 5 - 6 * 3))
    assert pair_iou(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 1, 2, 2]]), extra=1.0)[0] == pytest.approx(1 / 7)


def test_boxes_without_area_overlap_nothing():
    point = np.array([[3.0, 3, 3, 3]])
    assert pair_iou(point, point).tolist() == [0.0]
    assert pair_iou(np.repeat(A, 2, 0), np.concatenate([point, A])).tolist() == [0.0, 1.0]
