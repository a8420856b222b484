"""Folders as people have them: what lies there is found, whatever tool wrote it."""

import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.folder import Folder
from al_lab.data.formats import coco, cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.record import Record

HEIGHT, WIDTH = 48, 64
CLASSES = ("bolt", "nut")
WRITERS = {"voc": voc, "coco": coco, "yolo": yolo, "cvat": cvat, "label_studio": label_studio, "labelme": labelme}


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    ).save(path)
    return path


def record(name: str, seed: int = 0) -> Record:
    corners = np.random.default_rng(seed).integers(1, 24, (seed % 3, 2))
    boxes = np.concatenate([corners, corners + 16], axis=1).astype(np.float64)
    names = tuple(CLASSES[k % 2] for k in range(len(boxes)))
    return Record(name, boxes, names, name, (HEIGHT, WIDTH))


def records(names) -> list[Record]:
    return [record(name, seed) for seed, name in enumerate(names, 1)]


def check(dataset: Folder, expected: list[Record]) -> None:
    """Every image has the labels that were written."""
    by_name = {r.file_name.rpartition("/")[2]: r for r in expected}
    for sample_id in (*dataset.pool_ids, *dataset.val_ids, *dataset.test_ids):
        wanted = by_name[dataset.image_path(sample_id).name]
        assert dataset.has_truth(sample_id)
        found = dataset.truth(sample_id)
        np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-4)
        assert tuple(dataset.classes[k] for k in found.labels) == wanted.names


def move(path: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(path, to))


@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_writer_writes_is_found_and_read_again(tmp_path, kind, caplog):
    names = [f"IMG ({n})ä.JPG" for n in range(8)]
    for name in names:
        draw(tmp_path / "images" / name)
    expected = records(names)
    assert WRITERS[kind].write(tmp_path, expected, CLASSES) == []
    with caplog.at_level("INFO"):
        dataset = Folder(str(tmp_path), test_fraction=0.8)
    assert (dataset.format, dataset.classes, dataset.problems) == (kind, CLASSES, ())
    assert len(dataset.pool_ids) + len(dataset.test_ids) == 8 and dataset.test_ids
    assert len([r for r in caplog.records if "read as" in r.getMessage()]) == 1
    check(dataset, expected)
    assert not [f for f in dataset.verify() if f.severity != "info"]


@pytest.mark.parametrize("where", ["annotations", "annots", "Annotations/deep", "."])
def test_xml_anywhere(tmp_path, where):
    expected = records([f"{n}.png" for n in range(6)])
    for item in expected:
        draw(tmp_path / "pictures" / item.file_name)
        target = tmp_path / "pictures" if where == "." else tmp_path / where
        voc.write_record(target / f"{Path(item.file_name).stem}.xml", item)
    dataset = Folder(str(tmp_path))
    assert dataset.format == "voc" and dataset.classes == CLASSES
    check(dataset, expected)


def test_split_folders_stay_splits_with_xml_beside_the_images(tmp_path):
    expected = []
    for n, split in enumerate(("train", "train", "train", "valid", "test")):
        item = record(f"photo{n}.jpg", n)
        draw(tmp_path / split / item.file_name)
        voc.write_record(tmp_path / split / f"photo{n}.xml", item)
        expected.append(item)
    dataset = Folder(str(tmp_path))
    assert dataset.pool_ids == ("train/photo0", "train/photo1", "train/photo2")
    assert (dataset.val_ids, dataset.test_ids) == (("valid/photo3",), ("test/photo4",))
    check(dataset, expected)
    assert Folder(str(tmp_path), test_split="valid").test_ids == ("valid/photo3",)


def test_a_coco_file_in_each_split_folder_and_the_projects_own_category(tmp_path):
    expected = []
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        items = records([f"{split}_{n}.jpg" for n in range(count)])
        expected += items
        content = coco.document(items, CLASSES)
        content["categories"] = [{"id": 0, "name": "bolt", "supercategory": "none"}] + [
            c | {"supercategory": "bolt"} for c in content["categories"]
        ]
        for item in items:
            draw(tmp_path / split / item.file_name)
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = Folder(str(tmp_path))
    assert dataset.classes == CLASSES
    assert [len(ids) for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)] == [4, 2, 2]
    check(dataset, expected)


def test_coco_files_by_split_with_images_of_one_name_in_each(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split, seed in (("train", 1), ("val", 2)):
        item = record("0001.jpg", seed)
        draw(tmp_path / f"{split}2017" / item.file_name)
        content = coco.document([item], CLASSES)
        content["images"][0]["file_name"] = f"{split}2017/0001.jpg"
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    dataset = Folder(str(tmp_path))
    assert (dataset.pool_ids, dataset.test_ids) == (("train2017/0001",), ("val2017/0001",))
    assert (len(dataset.truth("train2017/0001").labels), len(dataset.truth("val2017/0001").labels)) == (1, 2)


def yolo_split(folder: Path, names, seeds=range(1, 99)) -> list[Record]:
    items = [record(name, seed) for name, seed in zip(names, seeds, strict=False)]
    for item in items:
        draw(folder / "images" / item.file_name)
    yolo.write(folder, items, CLASSES)
    (folder / "classes.txt").unlink()
    return items


@pytest.mark.parametrize("prefix", ["../", ""])
def test_yolo_with_split_folders_and_data_yaml(tmp_path, prefix):
    expected = yolo_split(tmp_path / "train", ["a.jpg", "b.jpg", "c.jpg"]) + yolo_split(tmp_path / "valid", ["d.jpg"])
    (tmp_path / "data.yaml").write_text(
        f"train: {prefix}train/images\nval: {prefix}valid/images\nnc: 2\nnames: [{', '.join(CLASSES)}]\n"
    )
    dataset = Folder(str(tmp_path))
    assert (dataset.format, dataset.classes) == ("yolo", CLASSES)
    assert dataset.pool_ids == ("train/images/a", "train/images/b", "train/images/c")
    assert dataset.test_ids == ("valid/images/d",)
    check(dataset, expected)


def test_yolo_with_images_and_labels_side_by_side_in_splits(tmp_path):
    expected = records(["a.jpg", "b.jpg", "c.jpg"])
    for item, split in zip(expected, ("train", "train", "val"), strict=True):
        draw(tmp_path / "images" / split / item.file_name)
        yolo.write(tmp_path, [item], CLASSES)
        move(tmp_path / "labels" / f"{item.file_name[0]}.txt", tmp_path / "labels" / split / f"{item.file_name[0]}.txt")
    dataset = Folder(str(tmp_path))
    assert (dataset.pool_ids, dataset.test_ids) == (("train/a", "train/b"), ("val/c",))
    check(dataset, expected)


def test_darknet_lists_and_labels_beside_the_images(tmp_path):
    expected = records(["a.jpg", "b.jpg", "c.jpg"])
    yolo.write(tmp_path, expected, CLASSES)
    for item in expected:
        draw(tmp_path / "obj_train_data" / item.file_name)
        stem = item.file_name[0]
        move(tmp_path / "labels" / f"{stem}.txt", tmp_path / "obj_train_data" / f"{stem}.txt")
    move(tmp_path / "classes.txt", tmp_path / "obj.names")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\ndata/obj_train_data/c.jpg\n")
    (tmp_path / "val.txt").write_text("data/obj_train_data/b.jpg\n")
    dataset = Folder(str(tmp_path))
    assert (dataset.pool_ids, dataset.test_ids, dataset.classes) == (("a", "c"), ("b",), CLASSES)
    check(dataset, expected)


def test_yolo_without_names_is_a_problem_that_names_the_remedy(tmp_path):
    yolo_split(tmp_path, ["a.jpg", "b.jpg"])
    with pytest.raises(DataError, match=r"classes\.txt"):
        Folder(str(tmp_path))
    check(Folder(str(tmp_path), classes=list(CLASSES)), records(["a.jpg", "b.jpg"]))


def test_label_studio_renames_uploads_and_open_tasks_have_no_labels(tmp_path):
    names = ["IMG (1).jpg", "a#b, c.jpg", "plain.jpg", "open.jpg"]
    for name in names:
        draw(tmp_path / name)
    expected = records(names)
    label_studio.write(tmp_path, expected, CLASSES)
    (tmp_path / "config.xml").unlink()
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for n, stored in enumerate(("IMG_1.jpg", "ab_c.jpg", "plain.jpg", "open.jpg")):
        tasks[n]["data"]["image"] = f"/data/upload/1/0a1b2c3{n}-{stored}"
    tasks[3]["annotations"] = []
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    dataset = Folder(str(tmp_path), test_fraction=0)
    assert [i for i in dataset.pool_ids if not dataset.has_truth(i)] == ["open"]
    for sample_id, item in zip(("IMG (1)", "a#b, c", "plain"), expected[:3], strict=True):
        assert len(dataset.truth(sample_id).labels) == len(item.names)


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    expected = records(["a.jpg", "b.jpg"])
    for item in expected:
        draw(tmp_path / "elsewhere" / "set" / item.file_name)
        voc.write_record(tmp_path / "elsewhere" / "set" / f"{item.file_name[0]}.xml", item)
    root = tmp_path / "data"
    root.mkdir()
    os.symlink(tmp_path / "elsewhere" / "set", root / "train")
    os.symlink(root, root / "again")
    dataset = Folder(str(root))
    assert sorted((*dataset.pool_ids, *dataset.test_ids)) == ["train/a", "train/b"]


def test_photographs_alone_wait_for_labels(tmp_path):
    for name in ("x/a.jpg", "y/b.PNG"):
        draw(tmp_path / name)
    dataset = Folder(str(tmp_path), classes=["bolt"])
    assert (dataset.format, dataset.pool_ids, dataset.test_ids) == (None, ("x/a", "y/b"), ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("other.xml", "<annotation><object/></annotation>"),
        ("results.json", json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}])),
        ("other.json", "{}"),
        ("broken.json", "{"),
    ],
)
def test_never_no_annotation_while_unread_files_lie_there(tmp_path, name, content):
    draw(tmp_path / "a.jpg")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / name).write_text(content)
    with pytest.raises(DataError, match="annotation files that speak of the images") as error:
        Folder(str(tmp_path), classes=["bolt"])
    assert name in str(error.value)


def test_all_bad_files_are_named_in_one_go(tmp_path):
    expected = records([f"{n}.png" for n in range(5)])
    for item in expected:
        draw(tmp_path / item.file_name)
        voc.write_record(tmp_path / f"{item.file_name[0]}.xml", item)
    (tmp_path / "0.xml").write_text("<annotation><object>")
    (tmp_path / "3.xml").write_text("<annotation><object><name> </name></object></annotation>")
    dataset = Folder(str(tmp_path))
    assert [Path(f.file).name for f in dataset.problems] == ["0.xml", "3.xml"]
    named = {Path(f.file).name for f in dataset.verify() if f.severity == "error"}
    assert named == {"0.xml", "3.xml"}


def test_the_other_formats_are_said_and_can_be_chosen(tmp_path):
    expected = records(["a.jpg", "b.jpg", "c.jpg"])
    for item in expected:
        draw(tmp_path / "images" / item.file_name)
    voc.write(tmp_path, expected, CLASSES)
    coco.write(tmp_path, expected[:2], CLASSES)
    assert Folder(str(tmp_path)).format == "voc"
    assert any("1 COCO JSON files are not read" in f.message for f in Folder(str(tmp_path)).verify())
    assert Folder(str(tmp_path), format="coco").format == "coco"
    with pytest.raises(DataError, match=r"dataset\.format=yolo"):
        Folder(str(tmp_path), format="yolo")


def test_label_maps_beside_the_photographs_are_no_photographs(tmp_path):
    item = record("a.jpg", 1)
    draw(tmp_path / "JPEGImages" / item.file_name)
    draw(tmp_path / "SegmentationClass" / "a.png")
    voc.write(tmp_path, [item], CLASSES)
    assert Folder(str(tmp_path), test_fraction=0).pool_ids == ("a",)
