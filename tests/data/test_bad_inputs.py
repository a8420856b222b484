"""Fifty folders and settings that people get wrong: one sentence says what was expected, what came, where, what to do.

Each case makes a folder, opens it (or looks at it with `verify`) and names the words that have to be in the sentence.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError, DataError, LabError
from al_lab.core.rng import Rng
from al_lab.data.bought_test import BoughtTest
from al_lab.data.copied_pool import Recipe
from al_lab.data.datasets.coco_folder import COCOFolder
from al_lab.data.datasets.folder import Folder
from al_lab.data.datasets.segmentation_folder import SegmentationFolder
from al_lab.data.datasets.voc_folder import VOCFolder

Cases = list[tuple[str, Callable[[Path], Any], tuple[str, ...]]]
XML = "<annotation><size><width>12</width><height>8</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>{}</ymax></bndbox></object>"


def photographs(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_PICTURE, path)
    return root


_PICTURE = Path()


@pytest.fixture(scope="module", autouse=True)
def picture(tmp_path_factory):
    global _PICTURE
    _PICTURE = tmp_path_factory.mktemp("picture") / "p.png"
    Image.fromarray(np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)).save(_PICTURE)


def text(root: Path, name: str, content: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def verified(dataset: Any) -> None:
    """Raise what `verify` calls errors."""
    errors = [f for f in dataset.verify(decode=False) if f.severity == "error"]
    if errors:
        raise DataError("; ".join(f"{f.file}: {f.message}; {f.remedy}" for f in errors))


def voc(root: Path, xml: str, **options: Any) -> None:
    photographs(root, "a.png", "b.png")
    text(root, "b.xml", XML.format(OBJECT.format("cat", 1, 7)))
    verified(Folder(str(text(root, "a.xml", xml)), test_split="none", **options))


def coco(root: Path, **changes: Any) -> None:
    photographs(root, "images/a.png", "images/b.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}],
    } | changes
    text(root, "annotations/train.json", json.dumps(content))
    verified(COCOFolder(str(root), test_json="none"))


def yolo(root: Path, line: str, names: str = "cat\n") -> None:
    photographs(root, "images/a.png", "images/b.png")
    text(root, "labels/b.txt", "0 0.5 0.5 0.2 0.2")
    if names:
        text(root, "classes.txt", names)
    verified(Folder(str(text(root, "labels/a.txt", line)), test_split="none"))


def maps(root: Path, pixels: Any, classes: str = "sky\nroad\n", **options: Any) -> None:
    photographs(root, "images/a.png", "images/b.png")
    for name, values in (("a", pixels), ("b", np.eye(8, 12, dtype=np.uint8))):
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.asarray(values)).save(root / "labels" / f"{name}.png")
    if classes:
        text(root, "classes.txt", classes)
    dataset = SegmentationFolder(str(root), test_split="none", **options)
    for sample_id in dataset.pool_ids:
        dataset.truth(sample_id)


def lists(root: Path, content: str | bytes) -> None:
    photographs(root, "JPEGImages/a.png", "JPEGImages/b.png")
    text(root, "Annotations/a.xml", XML.format(OBJECT.format("cat", 1, 7)))
    verified(VOCFolder(str(text(root, "ImageSets/Main/train.txt", content))))


def frames(root: Path, **options: Any) -> Any:
    photographs(root, *(f"v{v}_{f}.png" for v in range(2) for f in range(3)))
    text(root, "v0_0.xml", XML.format(OBJECT.format("cat", 1, 7)))
    return Folder(str(root), **options)


def unlabeled(root: Path, **options: Any) -> Any:
    return Folder(str(photographs(root, *(f"{n}.png" for n in range(4)))), classes=["cat"], **options)


RAMP = np.zeros((8, 12), np.uint8)
LAYOUTS: Cases = [
    ("no folder", lambda r: Folder(str(r / "nowhere")), ("no such folder", "dataset.root")),
    ("nothing in it", lambda r: Folder(str(r)), ("expected images", "got none", "dataset.root")),
    ("telephone only", lambda r: Folder(str(text(r, "I.dng", b"x"))), ("1 in a format that is not read", ".jpg")),
    ("twins", lambda r: Folder(str(photographs(r, "a.png", "a.jpg"))), ("a.jpg and a.png", "rename")),
    ("no classes", lambda r: Folder(str(photographs(r, "a.png"))), ("class names", "dataset.classes='[cat,dog]'")),
    (
        "a wrong split",
        lambda r: unlabeled(r, pool_split="trian"),
        ("a split for pool", "'trian'", "dataset.pool_split"),
    ),
    ("a wrong format", lambda r: unlabeled(r, format="pascal"), ("one of voc, coco", "'pascal'", "dataset.format")),
    (
        "others' labels",
        lambda r: Folder(str(text(photographs(r, "a.png"), "z.xml", XML.format("")))),
        ("speak of none of them", "z.xml"),
    ),
    ("a class twice", lambda r: Folder(str(photographs(r, "a.png")), classes=["cat", "cat"]), ("each once", "cat")),
    ("no source", lambda r: maps(r, RAMP, source=str(r / "no")), ("no such folder", "no")),
]
VOC: Cases = [
    ("cut off", lambda r: voc(r, "<annotation><obj"), ("a.xml", "can't be parsed", "export the annotation again")),
    ("no box", lambda r: voc(r, XML.format("<object><name>cat</name></object>")), ("object 1: <bndbox/xmin>",)),
    ("a bomb", lambda r: voc(r, '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'), ("a.xml", "XML bomb")),
    ("no name", lambda r: voc(r, XML.format(OBJECT.format("", 1, 7))), ("object 1: <name>", "a class name")),
    ("a word for a number", lambda r: voc(r, XML.format(OBJECT.format("cat", "one", 7))), ("xmin", "'one'", "correct")),
    ("not a number", lambda r: voc(r, XML.format(OBJECT.format("cat", "nan", 7))), ("xmin", "finite", "correct")),
    ("swapped", lambda r: voc(r, XML.format(OBJECT.format("cat", 11, 7))), ("x1 <= x2", "object 1", "swap")),
    ("outside", lambda r: voc(r, XML.format(OBJECT.format("cat", 1, 99))), ("width 12 and height 8", "outside=clip")),
    ("an unknown class", lambda r: voc(r, XML.format(OBJECT.format("cow", 1, 7)), classes=["cat"]),
     ("'cow'", "classes.txt")),
]  # fmt: skip
COCO: Cases = [
    ("no JSON", lambda r: COCOFolder(str(text(photographs(r, "a.png"), "annotations/train.json", "{"))),
     ("train.json", "no JSON")),
    ("a list", lambda r: COCOFolder(str(text(photographs(r, "a.png"), "annotations/train.json", "[]"))),
     ("train.json", "an object with 'images'")),
    ("no images", lambda r: COCOFolder(str(text(photographs(r, "a.png"), "annotations/train.json", "{}"))),
     ("train.json", "one without 'images'")),
    ("a missing image", lambda r: coco(r, images=[{"id": 1, "file_name": "c.png"}]), ("1 missing", "'c.png'")),
    ("climbing out", lambda r: coco(r, images=[{"id": 1, "file_name": "../a.png"}]), ("images[0].file_name", "..")),
    ("an id twice", lambda r: coco(r, images=[{"id": 1, "file_name": n} for n in ("a.png", "b.png")]),
     ("every image id once", "1 twice")),
    ("three numbers", lambda r: coco(r, annotations=[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}]),
     ("annotations[0].bbox", "a list of 4")),
    ("nobody's image", lambda r: coco(r, annotations=[{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}]),
     ("annotations[0].image_id", "got 9")),
    ("a negative width", lambda r: coco(r, annotations=[{"image_id": 1, "category_id": 1, "bbox": [5, 5, -3, 2]}]),
     ("x1 <= x2", "a.png")),
    ("two for one", lambda r: COCOFolder(str(text(text(photographs(r, "a.png"), "annotations/train_1.json", "{}"),
                                              "annotations/train_2.json", "{}"))),
     ("one annotation file for pool", "dataset.pool_json")),
]  # fmt: skip
YOLO: Cases = [
    ("no names", lambda r: yolo(r, "0 0.5 0.5 0.1 0.1", names=""), ("classes.txt",)),
    ("pixels", lambda r: yolo(r, "0 50 50 10 10"), ("a.txt", "line 1")),
    ("a class too many", lambda r: yolo(r, "3 0.5 0.5 0.1 0.1"), ("a.txt", "line 1", "3")),
    ("a box too short", lambda r: yolo(r, "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1"), ("a.txt", "line 2")),
]
MAPS: Cases = [
    ("an unknown id", lambda r: maps(r, RAMP + 7), ("ids [0, 1]", "[7] in 96 pixels", "classes.txt")),
    ("another size", lambda r: maps(r, RAMP[:4]), ("height and width (8, 12)", "(4, 12)", "replace")),
    ("no class list", lambda r: maps(r, RAMP + 3, classes=""), ("class names", "classes.txt")),
    ("half numbered", lambda r: maps(r, RAMP, classes="0 sky\nroad\n"), ("'id name'", "line 2")),
    ("a void that is none", lambda r: maps(r, RAMP, void_id=700), ("dataset.void_id", "700")),
]
LISTS: Cases = [
    ("a name without image", lambda r: lists(r, "a\nz\n"), ("1", "'z'", "train.txt")),
    ("UTF-16", lambda r: lists(r, "a\nb\n".encode("utf-16")), ("train.txt", "UTF-16", "save the file as UTF-8")),
    ("a way out", lambda r: lists(r, "../a\n"), ("train.txt: line 1", "leave the root")),
]
GROUPS: Cases = [
    ("no expression", lambda r: frames(r, group_by="("), ("a regular expression", "dataset.group_by", "e.g.")),
    ("no match", lambda r: frames(r, group_by="^film"), ("which matches none of 1", "dataset.group_by", "e.g.")),
    ("one group", lambda r: frames(r, group_by="^v"), ("at least two groups", "dataset.test_split=none")),
    ("a gap alone", lambda r: frames(r, min_gap=4), ("groups to keep a gap in", "dataset.min_gap=4 alone")),
    ("a gap of nothing", lambda r: frames(r, group_by="^(v.)", min_gap=0), ("dataset.min_gap", ">= 1", "got 0")),
    ("no numbers", lambda r: Folder(str(photographs(r, "a_x.png", "b_x.png")), ["c"], group_by="^(.)_", min_gap=2),
     ("a number in each name", "'a_x'", "dataset.min_gap=group")),
]  # fmt: skip
OPTIONS: Cases = [
    ("a wrong start", lambda r: Budget(initial_by="warm"), ("budget.initial_by", "'warm'", "random")),
    ("an ugly reason", lambda r: Budget(leave_out=["ugly"]), ("budget.leave_out", "near_copies", "'ugly'")),
    ("a misspelt key", lambda r: Budget(cold_start={"weigths": 1}), ("'weigths'", "did you mean 'weights'")),
    ("a limit of no sense", lambda r: Budget(limits={"near_copies_bits": 99}), ("near_copies_bits", "99")),
    ("half a test set", lambda r: Budget(test=0.5), ("budget.test", "0.5")),
    ("all are test", lambda r: BoughtTest(unlabeled(r), 4, Rng(0)), ("budget.test", "fewer than the 4 images")),
    ("more than all", lambda r: Recipe(near_copies=1.7), ("--share", "1.7")),
]
ALL = [(f"{kind}: {name}", make, words) for kind, cases in (
    ("layout", LAYOUTS), ("voc", VOC), ("coco", COCO), ("yolo", YOLO), ("maps", MAPS), ("lists", LISTS),
    ("groups", GROUPS), ("options", OPTIONS),
) for name, make, words in cases]  # fmt: skip


def test_there_are_fifty():
    assert len(ALL) >= 50 and len({name for name, *_ in ALL}) == len(ALL)


@pytest.mark.parametrize(("make", "words"), [case[1:] for case in ALL], ids=[case[0] for case in ALL])
def test_one_sentence_says_it(tmp_path, make, words):
    with pytest.raises((DataError, ConfigError)) as caught:
        make(tmp_path)
    sentence = str(caught.value)
    assert isinstance(caught.value, LabError)
    assert [word for word in words if word not in sentence] == [], sentence
    assert len(sentence) < 700 and "Traceback" not in sentence and "object at 0x" not in sentence
