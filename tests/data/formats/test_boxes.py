import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.boxes import clean_boxes


def test_boxes_are_cut_by_up_to_a_pixel_without_a_word():
    boxes, rows, notes = clean_boxes([[-1, 0, 20, 41], [3, 4, 60.5, 30]], (40, 60), "f")
    assert boxes.tolist() == [[0, 0, 20, 40], [3, 4, 60, 30]]
    assert boxes.dtype == np.float32
    assert rows.tolist() == [0, 1]
    assert notes == ()


def test_a_box_without_area_is_left_out_and_named():
    boxes, rows, notes = clean_boxes([[5, 5, 5, 9], [1, 1, 2, 2]], (40, 60), "f")
    assert boxes.tolist() == [[1, 1, 2, 2]]
    assert rows.tolist() == [1]
    assert notes == ("object 1 has no area ([5, 5, 5, 9]) and is left out",)


def test_clip_cuts_boxes_that_leave_the_image_and_says_so():
    boxes, _, notes = clean_boxes([[50, 5, 90, 9]], (40, 60), "f", outside="clip")
    assert boxes.tolist() == [[50, 5, 60, 9]]
    assert "1 box(es) leave the image" in notes[0]


def test_no_boxes_are_no_problem():
    boxes, rows, notes = clean_boxes(np.zeros((0, 4)), (40, 60), "f")
    assert boxes.shape == (0, 4)
    assert len(rows) == len(notes) == 0


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([np.nan, 0, 5, 5], "finite numbers"),
        ([0, 0, np.inf, 5], "finite numbers"),
        ([9, 0, 5, 5], "x1 <= x2 and y1 <= y2, got object 2 with xyxy [9, 0, 5, 5]"),
        ([0, 0, 62, 5], "inside the image of width 60 and height 40"),
        ([70, 50, 80, 60], "dataset.outside=clip"),
    ],
)
def test_impossible_boxes_are_refused(box, message):
    with pytest.raises(DataError) as error:
        clean_boxes([[1, 1, 2, 2], box], (40, 60), "some.xml")
    assert str(error.value).startswith("some.xml: expected ")
    assert message in str(error.value)
