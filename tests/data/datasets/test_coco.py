import copy
import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError, DataErrors
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


@pytest.mark.parametrize(
    ("said", "is_crowd"), [("0", False), ("1", True), (0.0, False), (False, False), ("true", True)]
)
def test_flags_are_read_as_they_are_meant(coco_content, said, is_crowd):
    content = coco_content()
    for entry in content["annotations"]:
        entry["iscrowd"] = said
    assert (parse_coco(content, Path("x.json")).crowd == is_crowd).all()


@pytest.mark.parametrize("name_of", [lambda n: f"img-{n}", lambda n: str(n), lambda n: n + 2**70, lambda n: n + 0.0])
def test_ids_are_whatever_links_the_lists(coco_content, name_of):
    plain, content = parse_coco(coco_content(), Path("x.json")), coco_content()
    for entries, fields in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["image_id", "category_id"])):
        for entry in content[entries]:
            entry.update({field: name_of(entry[field]) for field in fields})
    found = parse_coco(content, Path("x.json"))
    assert found.classes == plain.classes
    for name in ("file_names", "start", "xywh", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_a_damaged_cache_is_made_again(tmp_path, coco_content, caplog):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(coco_content()))
    fresh = load_coco(path, tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:300])
    assert load_coco(path, tmp_path / "cache").classes == fresh.classes
    assert "is read instead" in caplog.text
    assert cached.stat().st_size > 300


def test_reading_twice_gives_the_same_boxes(coco_content):
    index = parse_coco(coco_content(), Path("x.json"))
    once, twice = index.annotation(0, (40, 60))[0], index.annotation(0, (40, 60))[0]
    np.testing.assert_array_equal(once.boxes_xyxy, twice.boxes_xyxy)


def test_the_cache_gives_what_the_file_gives(tmp_path, coco_content, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(coco_content()))
    fresh = load_coco(path, tmp_path / "cache")
    monkeypatch.setattr(coco_file, "parse_coco", lambda *_: pytest.fail("the cache was not used"))
    cached = load_coco(path, tmp_path / "cache")
    assert cached.classes == fresh.classes
    for name in ("file_names", "sizes_hw", "start", "xywh", "labels", "crowd"):
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
        (
            lambda c: c.pop("categories"),
            "an object with 'images', 'annotations' and 'categories'), got one without 'categories'",
        ),
        (
            _set("annotations", 0, "image_id", 99),
            "annotations[0].image_id: expected the id of an entry of 'images', got 99",
        ),
        (
            _set("annotations", 1, "category_id", 4),
            "annotations[1].category_id: expected the id of an entry of 'categories', got 4",
        ),
        (
            _set("annotations", 2, "bbox", [1, 2, 3]),
            "annotations[2].bbox: expected a list of 4, each a finite number of pixels",
        ),
        (
            _set("annotations", 2, "bbox", None),
            "annotations[2].bbox: expected a list of 4, each a finite number of pixels",
        ),
        (_set("images", 1, "id", 10), "expected every image id once, got 10 twice"),
        (_set("images", 1, "file_name", "a.jpg"), "expected every file name once, got 'a.jpg' twice"),
        (_set("images", 0, "file_name", "../../etc/passwd.jpg"), "names that leave the root are refused"),
        (lambda c: c["images"][0].pop("file_name"), "images[0].file_name: expected text, got no such field"),
        (
            _set("annotations", 0, "bbox", [float("nan"), 0, 5, 5]),
            "bbox[0]: expected a finite number of pixels, got nan",
        ),
        (_set("annotations", 0, "iscrowd", "2"), "annotations[0].iscrowd: expected 0, 1, true or false, got '2'"),
        (_set("annotations", 0, "image_id", None), "annotations[0].image_id: expected a number or text, got None"),
        (_set("images", 0, "height", float("inf")), "images[0].height: expected a whole number"),
        (_set("images", 0, "file_name", "x" * 300 + ".jpg"), "expected a file name that disks can hold"),
        (lambda c: c.update(annotations=None), "annotations: expected a list, got None"),
        (_set("categories", 0, "name", None), "categories[0].name: expected a class name"),
        (_set("categories", 0, "name", ""), "categories[0].name: expected a class name"),
        (lambda c: c["categories"][0].update(name=c["categories"][1]["name"]), "expected every category name once"),
        (_set("categories", 0, "id", 3), "expected every category id once"),
        (lambda c: c["categories"][0].pop("name"), "categories[0].name: expected a class name, got no such field"),
    ],
)
def test_bad_entries_are_named(coco_content, change, message):
    content = coco_content()
    change(content)
    with pytest.raises(DataError) as error:
        parse_coco(content, Path("bad.json"))
    assert "bad.json" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("bbox", [[5, 5, -3, 2], [50, 5, 20, 5]])
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
    with pytest.raises(DataError, match=r"al-lab data download coco"):
        COCO(str(tmp_path))


def test_all_bad_entries_are_named_in_one_pass(coco_content):
    content = coco_content()
    content["images"].append({"id": 900, "file_name": 7})
    content["images"].append({"id": content["images"][0]["id"], "file_name": "other.jpg"})
    content["categories"].append({"id": 77, "name": ""})
    good = dict(content["annotations"][0])
    content["annotations"] += [
        good | {"bbox": [1, 2, 3]},
        good | {"image_id": 901},
        good | {"image_id": 900},  # of an entry that is named already
        good | {"category_id": 78},
        "no object",
    ]
    with pytest.raises(DataErrors, match=r"and 6 more in this file; al-lab data verify names all\)") as caught:
        parse_coco(content, Path("x.json"))
    words = ("file_name", "image id once", "name", "bbox", "image_id", "category_id", "an object")
    assert len(caught.value.sentences) == len(words)
    assert all(word in s for word, s in zip(words, caught.value.sentences, strict=True))
