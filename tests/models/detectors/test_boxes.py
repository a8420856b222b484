"""Geometry of anchors: the fact sheet's vectors M-1..M-6 and what a matching must never do."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import pad_boxes
from al_lab.models.detectors.boxes import (
    BACKGROUND,
    IGNORED,
    BoxCoder,
    Matching,
    has_area,
    iou,
    match,
    to_centers,
    to_corners,
)

SSD = Matching()
RETINA = Matching(0.5, 0.4, True, True)
ANCHORS = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2], [0.25, 0.75, 0.5, 0.5]])


def assign(boxes: list, priors: torch.Tensor, matching: Matching = SSD, **kwargs: torch.Tensor) -> list[list[int]]:
    """Match one list of boxes per image."""
    padded, _ = pad_boxes([torch.tensor(b).reshape(-1, 4) for b in boxes], [torch.zeros(len(b)) for b in boxes])
    return match(padded, has_area(padded), priors, matching, **kwargs).tolist()


def test_iou_equals_the_golden_matrix() -> None:
    a = torch.tensor([[0, 0, 0.5, 0.5], [0.1, 0.2, 0.4, 0.6]])
    b = torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.1, 0.2, 0.4, 0.6], [0.6, 0.6, 0.9, 0.9]])
    expected = torch.tensor([[0.14285714, 0.32142857, 0], [0.16535433, 1, 0]])  # M-1
    torch.testing.assert_close(iou(a, b), expected, atol=1e-7, rtol=1e-6)


def test_iou_of_boxes_without_area_is_zero() -> None:
    box = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert iou(box, box).item() == 0


def test_encoding_equals_the_golden_numbers() -> None:
    anchor, box = torch.tensor([0.5, 0.5, 0.2, 0.4]), torch.tensor([0.45, 0.30, 0.75, 0.66])
    code = BoxCoder()
    deltas = code.encode(box, anchor)
    torch.testing.assert_close(deltas, torch.tensor([5, -0.5, 2.02732554, -0.52680258]))  # M-3
    torch.testing.assert_close(code.decode(deltas, anchor), box)
    decoded = code.decode(torch.tensor([1, -0.5, 0.2, -0.3]), anchor)
    torch.testing.assert_close(decoded, torch.tensor([0.41591892, 0.29164709, 0.62408108, 0.66835291]))


def test_decoding_an_exploded_head_stays_finite() -> None:
    assert torch.isfinite(BoxCoder().decode(torch.full((4,), 1e4), ANCHORS[0])).all()


def test_corners_and_centers_are_inverse() -> None:
    torch.testing.assert_close(to_centers(to_corners(ANCHORS)), ANCHORS)


def test_ssd_matching_forces_the_best_anchor() -> None:
    boxes = torch.tensor([[0.05, 0.05, 0.5, 0.5], [0.45, 0.45, 0.62, 0.62]])
    assert assign([boxes.tolist()], ANCHORS) == [[0, BACKGROUND, 1, BACKGROUND]]  # M-4: anchor 2 at IoU .485
    deltas = BoxCoder().encode(boxes, ANCHORS[[0, 2]])
    expected = torch.tensor([[0.5, 0.5, -0.52680258, -0.52680258], [1.75, 1.75, -0.81259465, -0.81259465]])
    torch.testing.assert_close(deltas, expected)


def test_ssd_matching_forces_at_any_overlap() -> None:
    assert assign([[[0.05, 0.05, 0.5, 0.5], [0.60, 0.60, 0.64, 0.64]]], ANCHORS) == [
        [0, 1, BACKGROUND, BACKGROUND]
    ]  # M-5


def test_overlap_of_exactly_the_threshold_is_positive() -> None:
    anchors = torch.tensor([[1.0, 0.5, 2.0, 1.0], [0.5, 0.5, 1.0, 1.0]])
    assert assign([[[0, 0, 1, 1]]], anchors, Matching(forced=False)) == [[0, 0]]  # M-6: IoU .5 and 1


def test_on_conflict_the_later_box_wins() -> None:
    box = [0.0, 0.0, 0.5, 0.5]
    assert assign([[box, box, box]], ANCHORS)[0][0] == 2


def test_images_are_matched_independently_of_each_other() -> None:
    many = [[0.05, 0.05, 0.5, 0.5], [0.45, 0.45, 0.62, 0.62], [0.6, 0.6, 0.9, 0.9]]
    together = assign([many, [], many[:1]], ANCHORS)
    assert together == [assign([many], ANCHORS)[0], [BACKGROUND] * 4, assign([many[:1]], ANCHORS)[0]]


def test_blocks_of_images_give_the_same_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [[[0.1 * i, 0.1, 0.1 * i + 0.4, 0.6]] for i in range(5)]
    whole = assign(boxes, ANCHORS)
    monkeypatch.setattr("al_lab.models.detectors.boxes._BLOCK", 1)
    assert assign(boxes, ANCHORS) == whole


def test_a_box_without_area_is_matched_with_nothing() -> None:
    assert assign([[[0.3, 0.3, 0.3, 0.6]]], ANCHORS) == [[BACKGROUND] * 4]


def test_a_box_outside_all_anchors_forces_nothing() -> None:
    assert assign([[[2.0, 2.0, 3.0, 3.0]]], ANCHORS) == [[BACKGROUND] * 4]
    assert assign([[[2.0, 2.0, 3.0, 3.0]]], ANCHORS, RETINA) == [[BACKGROUND] * 4]


def test_retinanet_ignores_between_the_thresholds() -> None:
    anchors = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.5, 0.5, 1.0, 0.45], [0.5, 0.5, 1.0, 0.3]])
    assert assign([[[0, 0, 1, 1]]], anchors, RETINA) == [[0, IGNORED, BACKGROUND]]


def test_retinanet_forces_all_anchors_tied_for_best() -> None:
    anchors = torch.tensor([[0.3, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    middle = [[0.35, 0.45, 0.45, 0.55]]
    assert assign([middle], anchors, RETINA) == [[0, 0]]
    assert sorted(assign([middle], anchors, SSD)[0]) == [BACKGROUND, 0]


def test_background_inside_a_crowd_is_ignored_and_positives_stay() -> None:
    crowd = torch.tensor([[[0.0, 0.0, 0.6, 1.0]]])
    out = assign([[[0.0, 0.0, 0.5, 0.5]]], ANCHORS, ignored=crowd)
    assert out == [[0, BACKGROUND, IGNORED, IGNORED]]
    two = torch.tensor([[[0.0, 0.0, 0.6, 1.0], [0.9, 0.9, 1.0, 1.0]]])  # one of them is enough
    assert assign([[[0.0, 0.0, 0.5, 0.5]]], ANCHORS, ignored=two) == [[0, BACKGROUND, IGNORED, IGNORED]]


def test_unusable_anchors_learn_nothing() -> None:
    usable = torch.tensor([[False, True, True, True]])
    assert assign([[[0.0, 0.0, 0.5, 0.5]]], ANCHORS, usable=usable)[0][0] == IGNORED


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="neg_iou <= pos_iou"):
        Matching(pos_iou=0.4, neg_iou=0.5)


def test_boxes_without_width_or_without_height_are_left_out() -> None:
    boxes = [[0.3, 0.3, 0.3, 0.6], [0.3, 0.3, 0.6, 0.3], [0.3, 0.3, 0.3, 0.3], [0.6, 0.6, 0.3, 0.9], [0, 0, 0.1, 0.1]]
    padded, labels = pad_boxes([torch.tensor(boxes), torch.zeros(0, 4)], [torch.arange(5), torch.zeros(0)])
    assert has_area(padded).tolist() == [[False, False, False, False, True], [False] * 5]
    torch.testing.assert_close(padded[0], torch.tensor(boxes))
    assert labels.tolist() == [[0, 1, 2, 3, 4], [0] * 5]


def test_the_two_marks_are_no_index_and_not_the_same() -> None:
    assert (BACKGROUND, IGNORED) == (-1, -2)
