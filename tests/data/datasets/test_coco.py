import copy
import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.datasets.coco import COCO
from al_lab.data.formats import coco as coco_file
from al_lab.data.formats.coco import load_coco, parse_coco


def test_gaps_crowds_and_empty_images_are_kept(coco_content):
    content = coco_content()
    before = copy.deepcopy(content)
    index = parse_coco(content, Path("x.json"))
    assert content == before
    assert index.classes == ("cat", "dog")
    first, notes = index.annotation(0, (40, 60))
    assert first.boxes_xyxy.tolist() == [[0, 0, 60, 40], [1.5, 2.5, 4.5, 6.5]]
    assert first.labels.tolist() == [0, 1]
    assert first.crowd.tolist() == [True, False]
    assert not first.difficult.any()
    assert notes == ()
    assert index.annotation(1, (40, 60))[0].boxes_xyxy.tolist() == [[5, 6, 15, 26]]
    assert len(index.annotation(2, (40, 60))[0].labels) == 0


def test_reading_twice_gives_the_same_boxes(coco_content):
    index = parse_coco(coco_content(), Path("x.json"))
    once, twice = index.annotation(0, (40, 60))[0], index.annotation(0, (40, 60))[0]
    np.testing.assert_array_equal(once.boxes_xyxy, twice.boxes_xyxy)


def test_the_cache_gives_what_the_file_gives(tmp_path, coco_content, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(coco_content()))
    fresh = load_coco(path, tmp_path / "cache")
    monkeypatch.setattr(coco_file, "_read_json", lambda path: pytest.fail("the cache was not used"))
    cached = load_coco(path, tmp_path / "cache")
    assert cached.classes == fresh.classes
    for name in ("file_names", "image_ids", "sizes_hw", "start", "xywh", "labels", "crowd"):
        np.testing.assert_array_equal(getattr(cached, name), getattr(fresh, name))
    monkeypatch.undo()
    path.write_text(json.dumps({**coco_content(), "annotations": []}))
    assert len(load_coco(path, tmp_path / "cache").labels) == 0


def _set(key, n, field, value):
    def change(content):
        content[key][n][field] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "expected an object with 'images', 'annotations' and 'categories'"),
        (_set("annotations", 0, "image_id", 99), "expected an image for annotations[0], got image_id 99"),
        (_set("annotations", 1, "category_id", 4), "got category_id 4, not one of [3, 7]"),
        (_set("annotations", 2, "bbox", [1, 2, 3]), "'bbox' of four numbers in annotations[2]"),
        (_set("annotations", 2, "bbox", None), "'bbox' of four numbers in annotations[2]"),
        (_set("images", 1, "id", 10), "expected every image id once, got 10 twice"),
        (_set("images", 1, "file_name", "a.jpg"), "expected every file name once, got 'a.jpg' twice"),
        (_set("images", 0, "file_name", "../../etc/passwd.jpg"), "names that leave the root are refused"),
        (lambda c: c["images"][0].pop("file_name"), "expected 'id' and 'file_name' in images[0]"),
        (_set("categories", 0, "id", 3), "expected every category id once"),
        (lambda c: c["categories"][0].pop("name"), "expected 'id' and 'name' in categories[0]"),
    ],
)
def test_bad_entries_are_named(coco_content, change, message):
    content = coco_content()
    change(content)
    with pytest.raises(DataError) as error:
        parse_coco(content, Path("bad.json"))
    assert "bad.json" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("bbox", [[float("nan"), 0, 5, 5], [5, 5, -3, 2], [50, 5, 20, 5]])
def test_impossible_boxes_are_named_with_their_image(coco_content, bbox):
    content = coco_content()
    content["annotations"][0]["bbox"] = bbox
    with pytest.raises(DataError, match=r"bad\.json: image b\.jpg: expected"):
        parse_coco(content, Path("bad.json")).annotation(1, (40, 60))


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", "\x00"])
def test_what_is_no_coco_file_is_named(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.json: expected"):
        load_coco(path)


def test_the_official_layout(coco_tree):
    root = str(coco_tree({"train2017": ["a", "b", "c"], "val2017": ["d", "e"], "train2014": ["f", "g", "h"]}))
    dataset = COCO(root, check_counts=False)
    assert dataset.pool_ids == ("train2017/a", "train2017/b", "train2017/c")
    assert dataset.test_ids == ("val2017/d", "val2017/e")
    assert dataset.has_truth("train2017/c")
    assert len(dataset.truth("train2017/c").labels) == 0
    assert COCO(root, pool="annotated", check_counts=False).pool_ids == ("train2017/a", "train2017/b")
    assert COCO(root, year=2014, check_counts=False).pool_ids == ("train2014/f", "train2014/g", "train2014/h")
    assert dataset.load_image("val2017/d").shape == (40, 60, 3)
    with pytest.raises(DataError, match="expected 118287 images in train2017, got 3; .*dataset=coco_folder"):
        COCO(root)
    with pytest.raises(DataError, match="expected year 2014 or 2017"):
        COCO(root, year=2015)


def test_missing_official_images_are_named(coco_tree):
    root = coco_tree({"train2017": ["a", "b"], "val2017": ["d", "e"]})
    (root / "val2017" / "e.jpg").unlink()
    with pytest.raises(DataError, match=r"expected the 2 images of val2017, got 1 missing, first e\.jpg"):
        COCO(str(root), check_counts=False)


def test_missing_annotations_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"scripts/data\.py download coco"):
        COCO(str(tmp_path))
