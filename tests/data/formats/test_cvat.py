"""CVAT for images 1.1."""

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.cvat import read


def read_all(tmp_path, images):
    path = tmp_path / "annotations.xml"
    path.write_text(
        f"<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version>{images}</annotations>"
    )
    return list(read(path))


def test_boxes_are_taken_as_they_are(tmp_path):
    (record,) = read_all(
        tmp_path,
        '<image id="0" name="set/a.jpg" width="200" height="50"><tag label="day"/>'
        '<box label="cat" xtl="1.5" ytl="2" xbr="30.25" ybr="40" occluded="0"/>'
        '<box label="dog" xtl="0" ytl="0" xbr="9" ybr="9"><attribute name="difficult">true</attribute></box></image>',
    )
    np.testing.assert_allclose(record.boxes_xyxy, [[1.5, 2, 30.25, 40], [0, 0, 9, 9]])
    assert (record.file_name, record.names, record.size_hw) == ("set/a.jpg", ("cat", "dog"), (50, 200))
    assert record.difficult.tolist() == [False, True]
    assert record.notes == ()


def test_other_shapes_are_read_as_the_boxes_around_them(tmp_path):
    (record,) = read_all(
        tmp_path,
        '<image id="0" name="a.jpg" width="200" height="100"><polygon label="x" points="1,2;5,3;4,9"/>'
        '<ellipse label="x" cx="50" cy="40" rx="10" ry="5"/><mask label="x" left="3" top="4" width="5" '
        'height="6" rle="1"/>'
        '<box label="x" xtl="40" ytl="40" xbr="60" ybr="50" rotation="90"/></image>',
    )
    np.testing.assert_allclose(
        record.boxes_xyxy, [[1, 2, 5, 9], [40, 35, 60, 45], [3, 4, 8, 10], [45, 35, 55, 55]], atol=1e-9
    )
    assert "3 polygons or other shapes" in record.notes[0]


@pytest.mark.parametrize(
    "shape",
    [
        '<box label="x" xtl="1" ytl="2" xbr="3"/>',
        '<box label="x" xtl="1" ytl="2" xbr="nan" ybr="4"/>',
        '<box label="" xtl="1" ytl="2" xbr="3" ybr="4"/>',
        '<box label="x" xtl="1" ytl="2" xbr="3" ybr="4" rotation="left"/>',
        '<polygon label="x" points="1,2;3"/>',
        '<polygon label="x"/>',
    ],
)
def test_what_makes_no_sense_is_named_with_its_image(tmp_path, shape):
    with pytest.raises(DataError, match=r"annotations\.xml: image b\.jpg"):
        read_all(tmp_path, f'<image name="b.jpg" width="9" height="9">{shape}</image>')


def test_an_image_without_a_name_and_another_kind_of_xml_are_sentences(tmp_path):
    with pytest.raises(DataError, match="image 1: expected a 'name'"):
        read_all(tmp_path, "<image/>")
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match="CVAT"):
        list(read(tmp_path / "a.xml"))
