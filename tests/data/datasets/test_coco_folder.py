import json

import pytest

from al_lab.core.errors import DataError
from al_lab.data.datasets.coco_folder import COCOFolder


def test_train_and_val_become_pool_and_test(coco_tree):
    dataset = COCOFolder(str(coco_tree({"train": ["a", "b"], "val": ["c", "d"]})))
    assert dataset.pool_ids == ("train/a", "train/b")
    assert dataset.test_ids == ("val/c", "val/d")
    assert dataset.val_ids == ()
    assert dataset.classes == ("cat", "dog")
    assert dataset.name == "coco_photos"
    assert dataset.verify() == []


def test_with_a_test_file_val_stays_outside_the_pool(coco_tree):
    root = coco_tree({"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]})
    dataset = COCOFolder(str(root))
    assert (dataset.val_ids, dataset.test_ids) == (("val/c", "val/d"), ("test/e", "test/f"))
    chosen = COCOFolder(str(root), pool_json="annotations/instances_val.json", val_json="none", test_json="none")
    assert (chosen.pool_ids, chosen.val_ids, chosen.test_ids) == (("val/c", "val/d"), (), ())


def test_a_single_file_is_split_by_its_ids(coco_tree):
    stems = [f"{n:03d}" for n in range(40)]
    dataset = COCOFolder(str(coco_tree({"photos": stems})))
    assert 0 < len(dataset.test_ids) < 20
    assert len(dataset.pool_ids) + len(dataset.test_ids) == 40


def test_photographs_in_no_file_join_the_pool_unlabeled(coco_tree, write_image):
    root = coco_tree({"train": ["a", "b"], "val": ["c", "d"]})
    new = write_image(root / "train" / "new.png")
    dataset = COCOFolder(str(root))
    assert dataset.pool_ids == ("train/a", "train/b", "train/new")
    assert dataset.image_path("train/new") == new
    assert not dataset.has_truth("train/new")
    assert dataset.has_truth("train/b")


def test_photographs_without_any_file_are_a_pool(tmp_path, write_image):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    dataset = COCOFolder(str(tmp_path), classes=["cat"])
    assert dataset.pool_ids == ("a",)
    assert dataset.test_ids == ()
    with pytest.raises(DataError, match="expected class names"):
        COCOFolder(str(tmp_path))
    with pytest.raises(DataError, match="expected at least one image in the pool"):
        COCOFolder(str(tmp_path / "empty"), classes=["cat"])


def test_a_size_that_is_not_the_images_is_a_finding(coco_tree):
    root = coco_tree({"train": ["a", "b"], "val": ["c", "d"]})
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"][0] |= {"height": 60, "width": 40}
    path.write_text(json.dumps(content))
    findings = COCOFolder(str(root)).verify()
    assert [f.severity for f in findings] == ["warning"]
    assert "train/a: height x width is 60 x 40 in the file, but 40 x 60" in findings[0].message


def test_bad_choices_are_named(coco_tree):
    root = coco_tree({"train": ["a", "b"], "train_extra": ["c", "d"]})
    with pytest.raises(
        DataError, match=r"one annotation file for pool, got instances_train\.json, instances_train_extra\.json"
    ):
        COCOFolder(str(root))
    with pytest.raises(DataError, match=r"instances_trian\.json .*did you mean 'instances_train\.json'"):
        COCOFolder(str(root), pool_json="annotations/instances_trian.json")
    with pytest.raises(DataError, match=r"dataset\.root=.*: expected a folder"):
        COCOFolder(str(root / "nowhere"))


def test_an_image_that_the_file_names_must_exist(coco_tree):
    root = coco_tree({"train": ["a", "b"], "val": ["c", "d"]})
    (root / "train" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"got 1 missing, first 'b\.jpg'; .*dataset\.image_dir"):
        COCOFolder(str(root))


def test_files_must_agree_on_the_classes(coco_tree):
    root = coco_tree({"train": ["a", "b"], "val": ["c", "d"]})
    path = root / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "wolf"
    path.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"instances_val\.json: expected the categories \['cat', 'dog'\], got \['cat', 'wolf'\]"
    ):
        COCOFolder(str(root))


def test_real_photographs(shared_data):
    dataset = COCOFolder(str(shared_data / "coco156_320"))
    assert (len(dataset.pool_ids), len(dataset.test_ids), len(dataset.classes)) == (88, 68, 80)
    truths = [dataset.truth(i) for i in dataset.pool_ids]
    assert sum(len(t.labels) for t in truths) == 690
    assert sum(int(t.crowd.sum()) for t in truths) == 8
    assert sum(not len(t.labels) for t in truths) == 2
    assert max(int(t.labels.max(initial=0)) for t in truths) <= 79
    assert sum(len(dataset.truth(i).labels) for i in dataset.test_ids) == 484
