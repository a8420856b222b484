"""Areas as tools write them: which pixels they cover, in which order, and what makes no sense."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_lab.core.errors import DataError
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED
from al_lab.data.formats import cvat, label_studio, labelme
from al_lab.data.formats.areas import fill_ellipse, fill_rings, turned_box
from al_lab.data.formats.brush import BrushError, decode_alpha, encode_alpha

CLASSES = ("road", "car")
SIZE = (6, 8)
U = UNANSWERED


def inside(ring: np.ndarray, x: float, y: float) -> bool:
    """The even-odd rule, one point at a time."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y):
            crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
    return crossings % 2 == 1


corners = st.lists(st.tuples(st.integers(-8, 40), st.integers(-8, 32)), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(corners)
def test_a_pixel_is_covered_if_its_center_lies_inside(points):
    ring = np.array(points, float) / 3
    got = fill_rings([ring], SIZE)
    assert got.shape == SIZE
    assert got.tolist() == [[inside(ring, x + 0.5, y + 0.5) for x in range(SIZE[1])] for y in range(SIZE[0])]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 80), st.integers(0, 60))
def test_polygons_that_share_edges_cover_each_pixel_once(x, y):
    middle, frame = (x / 10, y / 10), [(0, 0), (8, 0), (8, 6), (0, 6)]
    parts = [fill_rings([np.array([frame[k], frame[(k + 1) % 4], middle], float)], SIZE) for k in range(4)]
    assert (np.sum(parts, axis=0) == 1).all()


def test_a_hole_is_left_out_and_turned_shapes_turn_clockwise():
    outer, inner = np.array([(1, 1), (7, 1), (7, 5), (1, 5)], float), np.array([(2, 2), (6, 2), (6, 4), (2, 4)], float)
    assert fill_rings([outer, inner], SIZE).sum() == 24 - 8
    assert turned_box((0, 0, 2, 1), (0, 0), 90).round(6).tolist() == [[0, 0], [0, 2], [-1, 2], [-1, 0]]
    lying, standing = (fill_ellipse((4, 3), (3, 1), a, SIZE) for a in (0, 90))
    assert lying.any(0).sum() == 6 and standing.any(1).sum() == 6
    assert not fill_ellipse((4, 3), (0, 1), 0, SIZE).any()


# What label-studio-converter 0.0.59 writes for the mask below: by mask2rle, all channels alike, and by encode_rle with
# other numbers in red and green, so that words stand one by one.
PAINTED = [[False, True, False], [True, True, True]]
RUNS = [0, 0, 0, 24, 57, 27, 252, 96, 17, 255, 198, 1, 111, 252]
WORDS = [0, 0, 0, 24, 57, 27, 248, 0, 32, 4, 194, 0, 0, 16, 1, 0, 0, 1, 254, 0, 24, 0, 240, 128, 0, 8, 0, 56, 0, 0, 127]
WORDS += [128, 10, 0, 56, 0, 0, 127, 128, 12, 0, 56, 0, 0, 127, 128]


@pytest.mark.parametrize("packed", [RUNS, WORDS])
def test_strokes_are_read_as_the_converter_packs_them(packed):
    assert decode_alpha(packed, (2, 3)).tolist() == PAINTED


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_brush_strokes_come_back(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    assert (decode_alpha(encode_alpha(mask), mask.shape) == mask).all()


def test_a_stroke_longer_than_its_longest_run():
    mask = np.ones((200, 300), bool)
    mask[:, :30] = False
    assert (decode_alpha(encode_alpha(mask), mask.shape) == mask).all()


@pytest.mark.parametrize("cut", [0, 5, 8, 20])
def test_a_stroke_that_was_cut_off_is_refused(cut):
    packed = encode_alpha(np.eye(5, dtype=bool))
    with pytest.raises(BrushError):
        decode_alpha(packed[:cut], (5, 5))
    with pytest.raises(BrushError, match="words"):
        decode_alpha(packed, (5, 6))


# --- Label Studio -----------------------------------------------------------------------------------------------------


def region(kind: str, **value: object) -> dict:
    name = value.pop("name", "car")
    return {
        "type": f"{kind}labels",
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "image_rotation": 0,
        "value": value | ({f"{kind}labels": [name]} if name else {}),
    }


def studio(folder: Path, *regions: dict, **annotation: object) -> label_studio.AreaRecord:
    path = folder / "export.json"
    done = {"was_cancelled": False, "lead_time": 12.5, "result": list(regions)} | annotation
    path.write_text(json.dumps([{"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [done]}]))
    (record,) = label_studio.read_areas(path)
    return record


def test_label_studios_regions_lie_in_the_order_of_drawing(tmp_path):
    stroke = np.zeros(SIZE, bool)
    stroke[0, :3] = True
    record = studio(
        tmp_path,
        region("rectangle", x=0, y=0, width=100, height=50, rotation=0, name="road"),
        region("polygon", points=[[25, 0], [75, 0], [75, 100], [25, 100]]),
        region("brush", format="rle", rle=encode_alpha(stroke), name="none"),
        region("ellipse", x=100, y=100, radiusX=12.5, radiusY=16.7, rotation=0),
        region("keypoint", x=6.25, y=91, width=0.5, name="road"),
        region("brush", rle=[], name=None),
        {"type": "choices", "value": {"choices": ["sunny"]}},
    )
    assert (record.size_hw, record.is_done, record.seconds) == (SIZE, True, 12.5)
    assert record.labels(CLASSES, SIZE).map_HW.tolist() == [
        [NO_CLASS] * 3 + [1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [U, U, 1, 1, 1, 1, U, U],
        [U, U, 1, 1, 1, 1, U, U],
        [U, U, 1, 1, 1, 1, U, 1],
    ]
    (point,) = record.points
    assert (point.name, int(point.x), int(point.y)) == ("road", 0, 5)
    assert record.notes == ("1 regions without a label, or of a kind that is not read, are left out",)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (region("brush", rle=[1, 2, 3]), r"\[0\].annotations\[0\].result\[0\].value.rle: expected a stroke of 53 bits"),
        (region("brush", rle=[1, 300]), r"value.rle\[1\]: expected a whole number in 0..255, got 300"),
        (region("polygon", points=[[1, float("nan")]]), "a finite number of pixels"),
        (region("polygon", points=[[1, 2]], name="cow"), "expected one of 2 known classes, or 'none', got 'cow'"),
        (region("rectangle", x=1, y=1, width=1, height=1) | {"image_rotation": 90}, "a rotated one"),
    ],
)
def test_what_label_studio_says_wrong_is_named(tmp_path, broken, said):
    with pytest.raises(DataError, match=said):
        studio(tmp_path, broken).labels(CLASSES, SIZE)


def test_a_task_that_was_skipped_or_never_opened_is_not_done(tmp_path):
    assert studio(tmp_path, was_cancelled=True).is_done is False


# --- CVAT -------------------------------------------------------------------------------------------------------------


def cvat_record(folder: Path, *shapes: str) -> label_studio.AreaRecord:
    path = folder / "annotations.xml"
    path.write_text(
        f'<annotations><image id="0" name="a.jpg" width="8" height="6">{"".join(shapes)}</image></annotations>'
    )
    (record,) = cvat.read_areas(path)
    return record


def test_cvats_higher_shapes_lie_on_top(tmp_path):
    record = cvat_record(
        tmp_path,
        '<polygon label="car" points="2,0;6,0;6,6;2,6" z_order="1"/>',
        '<mask label="road" rle="2, 3, 1, 2" left="1" top="1" width="4" height="2" z_order="2"/>',
        '<box label="road" xtl="0" ytl="3" xbr="8" ybr="6" z_order="0"/>',
        '<polyline label="car" points="1,1;2,2"/>',
        '<points label="car" points="7.5,0.5"/>',
    )
    assert record.labels(CLASSES, SIZE).map_HW.tolist() == [
        [U, U, 1, 1, 1, 1, U, U],
        [U, U, 1, 0, 0, 1, U, U],
        [U, 0, 1, 0, 0, 1, U, U],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
    ]
    assert [(p.name, p.x, p.y) for p in record.points] == [("car", 7.5, 0.5)]
    assert record.notes == ("1 lines or other shapes cover no pixels and are left out",)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ('<mask label="car" rle="2, 3" left="1" top="1" width="4" height="2"/>', "4 x 2, and runs that sum to 5"),
        ('<mask label="car" rle="1, -3" left="1" top="1" width="4" height="2"/>', "rle"),
        ('<mask label="car" rle="90" left="1" top="1" width="9" height="10"/>', "a mask inside the image of 8 x 6"),
        ('<mask label="car" rle="8" top="1" width="4" height="2"/>', "object 1: left"),
        ('<ellipse label="car" cx="1" cy="x" rx="1" ry="1"/>', "object 1: cy"),
    ],
)
def test_what_cvat_says_wrong_is_named(tmp_path, shape, said):
    with pytest.raises(DataError, match=f"annotations.xml: image a.jpg.*{said}"):
        cvat_record(tmp_path, shape).labels(CLASSES, SIZE)


# --- labelme ----------------------------------------------------------------------------------------------------------


def me(folder: Path, *shapes: dict) -> label_studio.AreaRecord:
    path = folder / "a.json"
    path.write_text(
        json.dumps({"imagePath": "../a.jpg", "imageHeight": 6, "imageWidth": 8, "imageData": None, "shapes": shapes})
    )
    return labelme.read_areas(path)


def test_labelmes_shapes_lie_in_their_order(tmp_path):
    record = me(
        tmp_path,
        {"label": "road", "shape_type": "rectangle", "points": [[8, 6], [0, 3]]},
        {"label": "car", "shape_type": "polygon", "points": [[2, 0], [6, 0], [6, 6], [2, 6]]},
        {"label": "road", "shape_type": "circle", "points": [[4, 3], [4, 4]]},
        {"label": "car", "shape_type": "linestrip", "points": [[4, 3], [4, 4]]},
        {"label": "road", "shape_type": "point", "points": [[7.5, 0.5]]},
    )
    assert (record.file_name, record.size_hw) == ("a.jpg", SIZE)
    assert record.labels(CLASSES, SIZE).map_HW.tolist() == [
        [U, U, 1, 1, 1, 1, U, U],
        [U, U, 1, 1, 1, 1, U, U],
        [U, U, 1, 0, 0, 1, U, U],
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
    ]
    assert len(record.points) == 1 and record.notes == ("1 lines cover no pixels and are left out",)
    with pytest.raises(DataError, match="a mask; draw it as a polygon"):
        me(tmp_path, {"label": "car", "shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "iVBO"})
