"""Objects as rows that can be added up, and the distances of such sums, by hand."""

import numpy as np
import pytest

from al_lab.core.types import Annotation
from al_lab.data.lint.objects import Objects, class_distance, rows_of, shares, side_distance, typical_side
from al_lab.data.predictions.table import Predictions


def predictions(is_fraction=False):
    """Two images: one with a sure 0 and a doubtful 1, one with a 1; a third that no file speaks of."""
    scale = 0.01 if is_fraction else 1
    boxes = scale * np.array([[0, 0, 8, 2], [0, 0, 16, 16], [2, 2, 6, 6]], np.float32)
    sure = np.array([0.9, 0.2, 0.5], np.float32)
    return Predictions(("a", "b"), np.array([0, 2, 3]), boxes, np.full(3, is_fraction), sure, np.array([0, 1, 1]), 3)


def test_predicted_objects_weigh_their_confidence():
    found = Objects.predicted(predictions(), ["b", "gone", "a"])
    assert found.image.tolist() == [0, 2, 2] and found.label.tolist() == [1, 0, 1] and not found.is_known
    assert found.weight == pytest.approx([0.5, 0.9, 0.2]) and found.side.tolist() == [4, 4, 16]
    rows = rows_of(found, 3, shows=0.3)
    assert rows.class_NC.toarray() == pytest.approx(np.array([[0, 0.5, 0], [0, 0, 0], [0.9, 0.2, 0]]))
    assert rows.shows_NC.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]  # a doubtful box shows nothing
    assert rows.side_NB.sum(0).nonzero()[0].tolist() == [4, 8]  # half octaves: 2 and 4 octaves above a pixel
    assert rows.count_NK.toarray().argmax(1).tolist() == [0, 0, 1]  # 0.5, 0 and 1.1 objects are expected


def test_sides_are_shares_where_all_boxes_are():
    found = Objects.predicted(predictions(is_fraction=True), ["a"])
    assert found.in_shares and found.side == pytest.approx([0.04, 0.16])
    known = Objects.known([Annotation.make([[0, 0, 8, 2]], [1])], lambda _: (50, 200))
    assert known.in_shares and known.side == pytest.approx([0.04]) and known.is_known
    sums = [rows_of(o, 3, 0.3).side_NB.sum(0) for o in (found, known)]
    assert typical_side(sums[1], True) == pytest.approx(0.04, rel=0.2)
    mixed = predictions()
    mixed.is_fraction[0] = True
    assert np.isnan(Objects.predicted(mixed, ["a"]).side).tolist() == [True, False]  # of what nobody knows the size of


def test_known_objects_count_one_and_an_image_may_have_none():
    found = Objects.known([Annotation.make([], []), Annotation.make([[0, 0, 3, 3], [0, 0, 0, 0]], [2, 2])])
    rows = rows_of(found, 3, 0.3)
    assert rows.class_NC.toarray().tolist() == [[0, 0, 0], [0, 0, 2]]
    assert rows.shows_NC.toarray().tolist() == [[0, 0, 0], [0, 0, 1]] and rows.side_NB.sum() == 2


def test_distances_by_hand():
    assert class_distance(np.array([[2, 2, 0], [0, 0, 5], [1, 0, 0]]), np.array([10, 10, 0])).tolist() == [0, 1, 0.5]
    side = np.zeros((2, 24))
    side[0, 10], side[1, 12] = 3, 7
    assert side_distance(side, side[0]).tolist() == [0, 1]  # two half octaves: twice as large
    assert typical_side(side, False)[1] == pytest.approx(2 * typical_side(side, False)[0])
    assert shares(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]
