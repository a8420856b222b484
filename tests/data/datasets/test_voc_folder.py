import logging

import pytest

from al_lab.core.errors import DataError
from al_lab.data.datasets.dataset import folder_name
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.formats.splits import in_test_share

DOG = [("dog", 2, 2, 20, 20)]
SIX = {f"{n:03d}": DOG for n in range(6)}


def test_train_val_and_test_lists_are_used(voc_tree):
    root = voc_tree(SIX, {"train": ["000", "001", "002"], "val": ["003"], "test": ["004"], "trainval": ["000", "003"]})
    dataset = VOCFolder(str(root))
    assert (dataset.pool_ids, dataset.val_ids, dataset.test_ids) == (("000", "001", "002"), ("003",), ("004",))
    assert dataset.name == "photos"
    assert dataset.classes == ("cat", "dog")
    assert "1 images are in no split that is used" in dataset.verify()[0].message


@pytest.mark.parametrize(
    ("lists", "options", "splits"),
    [
        ({"train": [0, 1], "val": [2]}, {}, ([0, 1], [], [2])),  # val is the only test set there is
        ({"train": [0, 1], "val": [2]}, {"test_split": "none"}, ([0, 1], [2], [])),
        ({"trainval": [0, 1, 2], "val": [2], "test": [3]}, {}, ([0, 1, 2], [], [3])),  # trainval contains val
        ({"train": [0], "trainval": [0, 1], "val": [1], "test": [2]}, {"pool_split": "trainval"}, ([0, 1], [], [2])),
        ({"test": [4, 5]}, {}, ([0, 1, 2, 3], [], [4, 5])),
        ({"mine": [1, 2], "theirs": [3]}, {"pool_split": "mine", "test_split": "theirs"}, ([1, 2], [], [3])),
    ],
)
def test_which_list_becomes_what(voc_tree, lists, options, splits):
    root = voc_tree(SIX, {name: [f"{n:03d}" for n in ids] for name, ids in lists.items()})
    dataset = VOCFolder(str(root), **options)
    found = [[int(i) for i in ids] for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)]
    assert found == list(splits)


def test_without_lists_the_split_is_a_function_of_the_ids(voc_tree):
    many = {f"{n:03d}": DOG for n in range(40)}
    first = VOCFolder(str(voc_tree(many)))
    assert set(first.pool_ids) | set(first.test_ids) == set(many)
    assert 0 < len(first.test_ids) < 20
    more = VOCFolder(str(voc_tree({f"{n:03d}": DOG for n in range(40, 60)})))
    assert set(first.test_ids) <= set(more.test_ids)
    assert set(first.pool_ids) <= set(more.pool_ids)


def test_the_share_of_the_automatic_test_split_is_about_the_fraction():
    assert 170 < sum(in_test_share(str(n), 0.2) for n in range(1000)) < 230


def test_photographs_nobody_labeled_are_a_pool(tmp_path, write_image):
    for n in range(3):
        write_image(tmp_path / "My Photos!" / "holiday" / f"{n}.JPG")
    dataset = VOCFolder(str(tmp_path / "My Photos!"), classes=["cat"])
    assert dataset.pool_ids == ("holiday/0", "holiday/1", "holiday/2")
    assert dataset.test_ids == dataset.val_ids == ()
    assert not dataset.has_truth("holiday/0")
    assert dataset.name == "my-photos"
    with pytest.raises(DataError, match="oracle=folder"):
        dataset.truth("holiday/0")
    messages = [f.message for f in dataset.verify()]
    assert messages == ["no test images: evaluation will be skipped", "3 of 3 pool images have no annotation"]


def test_partly_labeled_photographs_keep_the_unlabeled_ones_in_the_pool(voc_tree):
    root = voc_tree({f"{n:03d}": DOG if n % 2 else None for n in range(40)})
    dataset = VOCFolder(str(root))
    assert all(dataset.has_truth(i) for i in dataset.test_ids)
    assert dataset.test_ids
    assert sum(not dataset.has_truth(i) for i in dataset.pool_ids) == 20


def test_classes_are_read_from_annotations_when_no_one_says_them(voc_tree):
    root = voc_tree({"a": [("zebra", 1, 1, 5, 5)], "b": [("ant", 1, 1, 5, 5)]}, classes=None)
    assert VOCFolder(str(root)).classes == ("ant", "zebra")
    assert VOCFolder(str(root), classes=["zebra", "ant"]).classes == ("zebra", "ant")


def test_no_class_names_at_all_are_refused(voc_tree):
    root = voc_tree({"a": None, "b": []}, classes=None)
    with pytest.raises(DataError, match=r"expected class names, .* dataset\.classes='\[cat,dog\]'"):
        VOCFolder(str(root))


def test_repeated_class_names_are_refused(voc_tree):
    with pytest.raises(DataError, match="line 2: expected every id and name once, got 'dog'"):
        VOCFolder(str(voc_tree(SIX, classes=("dog", "dog"))))


def test_a_list_that_is_not_there_is_named(voc_tree):
    root = voc_tree(SIX, {"train": ["000"], "test": ["001"]})
    with pytest.raises(DataError, match=r"expected a split for pool, got no 'trian'; did you mean 'train'\?"):
        VOCFolder(str(root), pool_split="trian")


def test_an_image_that_a_list_names_must_exist(voc_tree):
    root = voc_tree(SIX, {"train": ["000", "099"]})
    (found,) = VOCFolder(str(root)).blockers()
    assert found.file.endswith("train.txt") and found.message == "1 of 2 names have no image, first '099'"


def test_a_name_twice_in_a_list_counts_once_and_is_said(voc_tree):
    dataset = VOCFolder(str(voc_tree(SIX, {"train": ["000", "000"]})))
    assert dataset.pool_ids == ("000",) and dataset.test_ids == ()  # a list alone is the pool: nothing is cut off it
    assert "1 names occur twice, first '000'; once counts" in [f.message for f in dataset.verify()]


def test_two_files_with_one_id_are_refused(voc_tree, write_image):
    root = voc_tree(SIX)
    write_image(root / "JPEGImages" / "000.png")
    with pytest.raises(DataError, match=r"000\.jpg and 000\.png, both id '000'"):
        VOCFolder(str(root))


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="got none; set dataset.root"):
        VOCFolder(str(tmp_path))
    with pytest.raises(DataError, match="got no such folder"):
        VOCFolder(str(tmp_path / "typo"))


def test_verify_names_every_trap_and_truth_raises_or_warns(voc_tree, write_image, write_xml, caplog):
    root = voc_tree({"ok": DOG, "flat": [("dog", 9, 9, 9, 9), ("cat", 1, 1, 9, 9)], "far": [("dog", 5, 5, 99, 20)],
                     "zero": [("cat", 0, 1, 9, 9)], "who": [("cow", 1, 1, 9, 9)], "size": DOG, "cut": DOG}, {"train": [
                     "ok", "flat", "far", "zero", "who", "size", "cut"]})  # fmt: skip
    write_xml(root / "Annotations" / "size.xml", DOG, size_hw=(60, 40))
    write_xml(root / "Annotations" / "orphan.xml", DOG)
    cut = write_image(root / "JPEGImages" / "cut.jpg", (200, 300))
    cut.write_bytes(cut.read_bytes()[:2000])
    dataset = VOCFolder(str(root))
    findings = {(f.severity, f.file.rpartition("/")[2]): f for f in dataset.verify()}
    assert set(findings) == {("info", ""), ("warning", "orphan.xml"), ("warning", "flat.xml"), ("error", "far.xml"), ("warning", "zero.xml"),  # noqa: E501
                             ("error", "who.xml"), ("warning", "size.xml"), ("error", "cut.jpg")}  # fmt: skip
    assert all(f.remedy for f in findings.values())
    assert "one_based=false" in findings["warning", "zero.xml"].remedy
    assert "EXIF" in findings["warning", "size.xml"].message
    with caplog.at_level(logging.WARNING):
        assert len(dataset.truth("flat").labels) == len(dataset.truth("flat").labels) == 1
    assert [r.getMessage().count("flat.xml") for r in caplog.records if "orphan" not in r.getMessage()] == [1]
    with pytest.raises(DataError, match=r"far\.xml: expected a box inside"):
        dataset.truth("far")


def test_verify_finds_copies_across_splits(voc_tree):
    root = voc_tree(SIX, {"train": ["000", "001"], "test": ["002"]})
    (root / "JPEGImages" / "002.jpg").write_bytes((root / "JPEGImages" / "001.jpg").read_bytes())
    dataset = VOCFolder(str(root))
    assert [f.message for f in dataset.verify() if f.severity == "warning"] == [
        "002 (test) is the same file as 001 (pool)"
    ]
    assert not [f for f in dataset.verify(decode=False) if f.severity == "warning"]


def test_photographs_that_nobody_reads_are_not_passed_over_in_silence(voc_tree, caplog):
    root = voc_tree(SIX)
    for name in ("IMG_1.HEIC", "IMG_2.heic", "raw.CR2"):
        (root / "JPEGImages" / name).write_bytes(b"x")
    VOCFolder(str(root))
    said = [r.getMessage() for r in caplog.records if "not read" in r.getMessage()]
    assert said == [
        f"{root / 'JPEGImages'}: 3 photographs are in a format that is not read (first IMG_1.HEIC) and are left out; "
        "pip install pi-heif reads them, or convert them to .jpg"
    ]


def test_names_of_folders():
    assert folder_name("/data/My Photos (2)") == "my-photos-2"
    assert folder_name("/data/voc5_320/") == "voc5_320"
    assert folder_name("/") == "folder"


def test_real_blood_cells(shared_data, caplog):
    dataset = VOCFolder(str(shared_data / "bccd"))
    assert [len(ids) for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)] == [205, 87, 72]
    assert dataset.classes == ("Platelets", "RBC", "WBC")
    everyone = (*dataset.pool_ids, *dataset.val_ids, *dataset.test_ids)
    assert sum(len(dataset.truth(i).labels) for i in everyone) == 4886  # 4,888 in the files, two of them of no area
    assert sorted(r.getMessage().rpartition("BloodImage_")[2][:5] for r in caplog.records) == ["00338", "00343"]


def test_real_photographs(shared_data):
    dataset = VOCFolder(str(shared_data / "voc5_320"))
    assert [len(ids) for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)] == [1207, 300, 500]
    assert sum(len(dataset.truth(i).labels) for i in dataset.test_ids) == 1225
    assert dataset.load_image("000001").shape[:2] == dataset.size_hw("000001") == (320, 214)


def test_lists_count_before_anything_is_labeled(voc_tree):
    root = voc_tree(dict.fromkeys(SIX), {"train": ["000", "001"], "mine": ["002"]})
    dataset = VOCFolder(str(root), test_split="mine")
    assert (dataset.pool_ids, dataset.test_ids) == (("000", "001"), ("002",))


def test_with_class_names_listed_no_annotation_is_read_before_somebody_asks(voc_tree):
    root = voc_tree(SIX)
    for path in (root / "Annotations").iterdir():
        path.write_text("<annotation>")
    dataset = VOCFolder(str(root), test_split="none")
    assert dataset.blockers() == [] and all(map(dataset.has_truth, dataset.pool_ids))
    (root / "classes.txt").unlink()
    assert len(VOCFolder(str(root), ["cat"], test_split="none").blockers()) == 0
    with pytest.raises(DataError, match="expected class names"):
        VOCFolder(str(root))
