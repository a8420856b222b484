"""labelme's JSON."""

import json

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.labelme import read

RECTANGLE = {"label": "cat", "shape_type": "rectangle", "points": [[30, 40], [10, 20]]}


def read_shapes(tmp_path, *shapes, **document):
    path = tmp_path / "a.json"
    whole = {"imagePath": "..\\photos\\a.jpg", "imageHeight": 50, "imageWidth": 200, "shapes": list(shapes)}
    path.write_text(json.dumps(whole | document))
    return read(path)


def test_rectangles_are_boxes_whatever_corner_came_first(tmp_path):
    record = read_shapes(tmp_path, RECTANGLE, RECTANGLE | {"label": "dog", "flags": {"difficult": True}})
    np.testing.assert_allclose(record.boxes_xyxy, [[10, 20, 30, 40]] * 2)
    assert (record.file_name, record.names, record.size_hw, record.notes) == ("a.jpg", ("cat", "dog"), (50, 200), ())
    assert record.difficult.tolist() == [False, True]
    assert read_shapes(tmp_path, imageHeight=None).size_hw is None


def test_other_shapes_are_read_as_the_boxes_around_them(tmp_path):
    polygon = {"label": "x", "shape_type": "polygon", "points": [[1, 2], [5, 3], [4, 9]]}
    circle = {"label": "x", "shape_type": "circle", "points": [[50, 40], [53, 44]]}
    record = read_shapes(tmp_path, polygon, circle)
    np.testing.assert_allclose(record.boxes_xyxy, [[1, 2, 5, 9], [45, 35, 55, 45]])
    assert "2 polygons, circles or other shapes" in record.notes[0]


@pytest.mark.parametrize(
    "shape",
    [
        RECTANGLE | {"points": []},
        RECTANGLE | {"points": [[1, 2, 3], [4, 5, 6]]},
        RECTANGLE | {"points": [[1, None], [4, 5]]},
        RECTANGLE | {"points": "1,2"},
        RECTANGLE | {"label": ""},
        RECTANGLE | {"label": None},
        7,
    ],
)
def test_what_makes_no_sense_is_named_with_its_shape(tmp_path, shape):
    with pytest.raises(DataError, match=r"a\.json: shapes\[1\]"):
        read_shapes(tmp_path, RECTANGLE, shape)
