"""Label Studio's JSON."""

import json

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.formats.label_studio import file_name_of, labeling_config, read

SIZE = {"original_width": 200, "original_height": 50}


def region(kind="rectanglelabels", label="cat", **value):
    box = {"x": 10, "y": 20, "width": 30, "height": 40}
    return {"type": kind, **SIZE, "value": {kind: [label], **(box | value)}}


def task(*annotations, image="/data/upload/3/1a2b3c4d-IMG_1.jpg", **data):
    return {"id": 7, "data": {"image": image, **data}, "annotations": list(annotations)}


def read_all(tmp_path, *tasks):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    return list(read(path))


def test_percent_become_pixels(tmp_path):
    (record,) = read_all(tmp_path, task({"result": [region()], "lead_time": 12.5}, al_lab_id="pool/IMG (1)"))
    np.testing.assert_allclose(record.boxes_xyxy, [[20, 10, 80, 30]])
    assert (record.names, record.size_hw, record.is_done, record.seconds) == (("cat",), (50, 200), True, 12.5)
    assert (record.file_name, record.key) == ("1a2b3c4d-IMG_1.jpg", "pool/IMG (1)")


def test_open_skipped_and_empty_are_three_things(tmp_path):
    still_open, skipped, empty = read_all(
        tmp_path, task(), task({"was_cancelled": True, "result": []}), task({"result": []})
    )
    assert (still_open.is_done, still_open.is_skipped) == (False, False)
    assert (skipped.is_done, skipped.is_skipped) == (False, True)
    assert (empty.is_done, empty.is_skipped, empty.names) == (True, False, ())


def test_the_newest_finished_annotation_counts(tmp_path):
    old = {"updated_at": "2026-01-02", "result": [region(label="old")]}
    new = {"updated_at": "2026-03-01", "result": [region(label="new")]}
    cancelled = {"updated_at": "2026-05-01", "was_cancelled": True, "result": [region(label="no")]}
    (record,) = read_all(tmp_path, task(new, old, cancelled))
    assert record.names == ("new",)


def test_other_shapes_are_read_as_the_boxes_around_them(tmp_path):
    polygon = region("polygonlabels", points=[[0, 0], [50, 10], [10, 100]])
    ellipse = region("ellipselabels", x=50, y=50, radiusX=10, radiusY=20)
    turned = region(x=50, y=0, width=10, height=40, rotation=90)  # about its upper left corner, clockwise
    brush = {"type": "brushlabels", "value": {"format": "rle"}}
    (record,) = read_all(tmp_path, task({"result": [polygon, ellipse, turned, brush]}))
    np.testing.assert_allclose(record.boxes_xyxy, [[0, 0, 100, 50], [80, 15, 120, 35], [80, 0, 100, 20]], atol=1e-9)
    assert record.notes == ("3 polygons or ellipses were read as the boxes around them",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 1},
        {"data": {"text": "hello"}, "annotations": []},
        task({"result": "none"}),
        task({"result": [region(x="left")]}),
        task({"result": [region(x=float("nan"))]}),
        task({"result": [region(rectanglelabels=["cat", "dog"])]}),
        task({"result": [region(rectanglelabels=[""])]}),
        task({"result": [region() | {"original_width": 0}]}),
        5,
    ],
)
def test_what_makes_no_sense_is_named_with_its_task(tmp_path, wrong):
    with pytest.raises(DataError, match=r"export\.json: \[1\]"):
        read_all(tmp_path, task(), wrong)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/1a2b3c4d-a.jpg", "1a2b3c4d-a.jpg"),
        ("/data/local-files/?d=photos/b%20c.png", "b c.png"),
        ("https://example.org/x/c.jpg?size=2", "c.jpg"),
        ("s3://bucket/d/e.jpg", "e.jpg"),
        ("images\\f.jpg", "f.jpg"),
    ],
)
def test_the_file_in_an_address(address, name):
    assert file_name_of(address) == name


def test_class_names_are_quoted_in_the_interface():
    assert '<Label value="a &quot;b&quot; &lt;c&gt;"/>' in labeling_config(
        ['a "b" <c>']
    ) or "<Label value='a \"b\" &lt;c&gt;'/>" in labeling_config(['a "b" <c>'])
