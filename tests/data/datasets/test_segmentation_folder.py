import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.segmentation_folder import SegmentationFolder

CLASSES = ("sky", "road", "car")


@pytest.fixture
def folder(tmp_path, write_image):
    """Write a folder of labels: by id an array of class ids, or None for an image without a label."""

    def write(labels, classes=CLASSES, root=tmp_path / "My Photos"):
        for sample_id, ids in labels.items():
            shape = (4, 6) if ids is None else np.asarray(ids).shape
            write_image(root / "images" / f"{sample_id}.jpg", shape)
            if ids is not None:
                path = root / "labels" / f"{sample_id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(ids, np.uint8)).save(path)
        if classes:
            (root / "classes.txt").write_text("\n".join(classes) + "\n")
        return root

    return write


def ids_of(*rows):
    return np.array(rows, np.uint8)


MAP = ids_of([0, 0, 1], [1, 2, 255])


def test_split_folders_are_splits(folder):
    dataset = SegmentationFolder(str(folder({"train/a": MAP, "train/b": None, "val/c": MAP, "test/d": MAP})))
    assert (dataset.name, dataset.task, dataset.classes, dataset.metrics) == (
        "my-photos",
        "segmentation",
        CLASSES,
        ("miou",),
    )
    assert (dataset.pool_ids, dataset.val_ids, dataset.test_ids) == (("train/a", "train/b"), ("val/c",), ("test/d",))
    assert [dataset.has_truth(i) for i in dataset.pool_ids] == [True, False]
    assert dataset.truth("train/a").tolist() == MAP.tolist()
    assert dataset.source_ids == ()
    with pytest.raises(DataError, match=r"train/b .*expected an annotation, got none"):
        dataset.truth("train/b")


@pytest.mark.parametrize(
    ("present", "options", "sizes"),
    [
        (("train", "val"), {}, (1, 0, 1)),
        (("train", "val", "test"), {"val_split": "none"}, (1, 0, 1)),
        (("train", "val", "test"), {"pool_split": "val", "test_split": "none"}, (1, 0, 0)),
        (("more", "test"), {}, (1, 0, 1)),
    ],
)
def test_which_folder_is_which_split(folder, present, options, sizes):
    dataset = SegmentationFolder(str(folder({f"{split}/x": MAP for split in present})), **options)
    assert tuple(len(ids) for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)) == sizes


def test_without_split_folders_some_labeled_images_are_the_test_set(folder):
    root = folder({f"x{k}": MAP if k % 2 else None for k in range(60)})
    dataset = SegmentationFolder(str(root), test_fraction=0.5)
    assert 5 <= len(dataset.test_ids) <= 25
    assert all(dataset.has_truth(i) for i in dataset.test_ids)
    assert len(dataset.pool_ids) + len(dataset.test_ids) == 60
    assert SegmentationFolder(str(root), test_split="none").test_ids == ()


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (("0 sky", "1 road", "2 car", "7 void"), {}),
        (("2 car", "7 Void", "1 road", "0 sky"), {"classes": CLASSES}),
        (CLASSES, {"void_id": 7}),
        (None, {"classes": CLASSES, "void_id": 7}),
    ],
)
def test_names_ids_and_void(folder, lines, options):
    root = folder({"train/a": ids_of([0, 1, 2, 7, 255])}, lines)
    dataset = SegmentationFolder(str(root), **options)
    assert dataset.classes == CLASSES
    assert dataset.truth("train/a").tolist() == [[0, 1, 2, 255, 255]]


def test_source_classes_are_matched_by_name(folder, tmp_path):
    root = folder({"train/a": MAP})
    other = folder({"p": ids_of([0, 1, 2, 3])}, ("road", "boat", "sky", "void"), tmp_path / "drawn")
    dataset = SegmentationFolder(str(root), source=str(other))
    assert dataset.source_ids == ("source/p",)
    assert dataset.source_label("source/p").tolist() == [[1, 255, 0, 255]]
    assert dataset.source_classes() == {"source/p": (0, 1)}
    messages = [f.message for f in dataset.verify()]
    assert "classes the target does not have are read as void: boat" in messages
    assert "class 'car' occurs in the target's labels but in none of the source's" in messages


def test_a_source_with_other_names_is_refused(folder, tmp_path):
    root, other = folder({"a": MAP}), folder({"a": MAP}, ("cat", "dog", "bird"), tmp_path / "pets")
    with pytest.raises(DataError, match=r"expected some of the classes sky, road, car, got cat, dog, bird"):
        SegmentationFolder(str(root), source=str(other))


def test_an_unknown_id_is_refused(folder):
    dataset = SegmentationFolder(str(folder({"train/a": ids_of([0, 9, 9, 12])})))
    with pytest.raises(DataError, match=r"a\.png: expected ids \[0, 1, 2\] or void \[255\], got \[9, 12\] in 3 pixels"):
        dataset.truth("train/a")


@pytest.mark.parametrize(
    ("suffix", "mode", "message"),
    [("png", "RGB", "a RGB picture"), ("jpg", "L", "a JPEG, which does not keep ids"), ("png", "I;16", "ids 0..300")],
)
def test_wrong_encodings_are_refused(folder, suffix, mode, message):
    root = folder({"train/a": None})
    values = (
        np.array([[0, 300]], np.uint16)
        if mode == "I;16"
        else np.zeros((1, 2, 3) if mode == "RGB" else (1, 2), np.uint8)
    )
    (root / "labels" / "train").mkdir(parents=True)
    Image.fromarray(values).save(root / "labels" / "train" / f"a.{suffix}")
    with pytest.raises(DataError, match=message):
        SegmentationFolder(str(root)).truth("train/a")


@pytest.mark.parametrize(
    ("labels", "classes", "options", "message"),
    [
        ({"a": MAP}, None, {}, "neither dataset.classes nor classes.txt"),
        ({"a": MAP}, ("sky", "sky"), {}, "line 2: expected every id and name once, got 'sky'"),
        (
            {"train/a": MAP},
            CLASSES,
            {"pool_split": "trian"},
            "expected a folder for pool, got no 'trian'.*did you mean 'train'",
        ),
    ],
)
def test_what_can_not_be_opened(folder, labels, classes, options, message):
    with pytest.raises(DataError, match=message):
        SegmentationFolder(str(folder(labels, classes)), **options)


def test_a_folder_without_images_says_where_they_belong(tmp_path):
    with pytest.raises(
        DataError, match="images: expected images .*got none; put photographs into images/, and label maps"
    ):
        SegmentationFolder(str(tmp_path))


def test_verify_names_labels_without_images(folder):
    root = folder({"train/a": MAP, "test/b": MAP})
    (root / "images" / "train" / "a.jpg").rename(root / "images" / "train" / "c.jpg")
    findings = [(f.severity, f.message) for f in SegmentationFolder(str(root)).verify()]
    assert ("warning", "train/a: a label without an image") in findings


def test_real_photographs_and_drawings(shared_data):
    dataset = SegmentationFolder(str(shared_data / "camvid_320"), source=str(shared_data / "procstreet_320"))
    assert dataset.describe() | {"classes": len(dataset.classes)} == {
        # fmt: skip
        "name": "camvid_320",
        "task": "segmentation",
        "classes": 11,
        "num_pool": 367,
        "num_val": 101,
        "num_test": 233,
        "num_source": 800,
    }
    assert dataset.classes[0] == "sky"
    assert "void" not in dataset.classes
    assert dataset.verify(decode=False) == []
    labels = [dataset.truth(i) for i in dataset.test_ids[:5]] + [
        dataset.source_label(i) for i in dataset.source_ids[:5]
    ]
    assert {label.shape for label in labels} == {(240, 320)}
    assert set(np.unique(labels)) <= {*range(11), 255}
