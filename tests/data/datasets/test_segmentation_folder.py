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
    [
        ("png", "RGB", "no labelmap.txt or class_dict.csv"),
        ("jpg", "L", "a JPEG, which does not keep ids"),
        ("png", "I;16", "ids 0..300"),
    ],
)
def test_wrong_encodings_are_refused(folder, suffix, mode, message):
    root = folder({"train/a": None})
    values = (
        np.array([[0, 300]], np.uint16)
        if mode == "I;16"
        else np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
        if mode == "RGB"
        else np.zeros((1, 2), np.uint8)
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
            "expected a split for pool, got no 'trian'.*did you mean 'train'",
        ),
    ],
)
def test_what_can_not_be_opened(folder, labels, classes, options, message):
    with pytest.raises(DataError, match=message):
        SegmentationFolder(str(folder(labels, classes)), **options)


def test_a_folder_without_images_says_where_they_belong(tmp_path):
    with pytest.raises(
        DataError, match="expected images .*got none; set dataset.root to the folder that holds your photographs"
    ):
        SegmentationFolder(str(tmp_path))


def test_verify_names_labels_without_images(folder):
    root = folder({"train/a": MAP, "test/b": MAP})
    (root / "images" / "train" / "a.jpg").rename(root / "images" / "train" / "c.jpg")
    findings = [(f.severity, f.message) for f in SegmentationFolder(str(root)).verify()]
    assert ("warning", "a.png: a label without an image") in findings


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


# --- layouts and encodings as people have them ------------------------------------------------------------------------


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    image.save(path)


LAYOUTS = {
    "VOC": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    "masks folder": ("images/{}.jpg", "masks/{}.png"),
    "masks with a suffix": ("imgs/{}.jpg", "masks/{}_mask.png"),
    "beside, with a suffix": ("{}.jpg", "{}_seg.png"),
    "nested": ("images/site a/{}.JPG", "labels/site a/{}.png"),
    "annotations": ("images/{}.png", "annotations/{}.png"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path, write_image, name):
    photo, label = LAYOUTS[name]
    maps = {f"x{k}": np.full((4, 6), k % 3, np.uint8) for k in range(6)}
    for stem, ids in maps.items():
        write_image(tmp_path / photo.format(stem), (4, 6))
        save(tmp_path / label.format(stem), ids)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    dataset = SegmentationFolder(str(tmp_path), test_fraction=0.5)
    ids = (*dataset.pool_ids, *dataset.test_ids)
    assert sorted(i.rpartition("/")[2] for i in ids) == sorted(maps)
    for sample_id in ids:
        assert (dataset.truth(sample_id) == maps[sample_id.rpartition("/")[2]]).all()


@pytest.mark.parametrize(
    "inner", ["{split}/images/{stem}.jpg {split}/masks/{stem}.png", "{split}/{stem}.jpg {split}/{stem}_mask.png"]
)
def test_split_folders_with_images_and_maps_inside(tmp_path, write_image, inner):
    photo, label = inner.split(" ")
    for k, split in enumerate(("train", "train", "valid", "test")):
        write_image(tmp_path / photo.format(split=split, stem=f"x{k}"), MAP.shape)
        save(tmp_path / label.format(split=split, stem=f"x{k}"), MAP)
    dataset = SegmentationFolder(str(tmp_path), classes=CLASSES)
    assert [len(ids) for ids in (dataset.pool_ids, dataset.val_ids, dataset.test_ids)] == [2, 1, 1]
    assert all(dataset.has_truth(i) for i in (*dataset.pool_ids, *dataset.val_ids, *dataset.test_ids))


def test_vocs_lists_are_splits_and_instances_are_no_labels(tmp_path, write_image):
    for stem in "abc":
        write_image(tmp_path / "JPEGImages" / f"{stem}.jpg", MAP.shape)
        save(tmp_path / "SegmentationClass" / f"{stem}.png", MAP)
        save(tmp_path / "SegmentationObject" / f"{stem}.png", MAP * 0 + 9)
    for name, ids in (("train", "ab"), ("val", "c")):
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids))
    dataset = SegmentationFolder(str(tmp_path), classes=CLASSES)
    assert (dataset.pool_ids, dataset.test_ids) == (("a", "b"), ("c",))
    assert (dataset.truth("c") == MAP).all()


TABLES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:10,20,30::\nroad:128,64,128::\nvoid:0,0,0::\n",
    "class_dict.csv": "name,r,g,b\nsky,10,20,30\nroad,128,64,128\nunlabelled,0,0,0\n",
    "classes.txt": "0 sky 10 20 30\n4 road 128 64 128\n9 void 0 0 0\n",
}


@pytest.mark.parametrize("table", TABLES)
def test_colors_mean_what_the_table_says(tmp_path, write_image, table):
    write_image(tmp_path / "images" / "a.jpg", (1, 3))
    save(tmp_path / "masks" / "a.png", [[(10, 20, 30), (128, 64, 128), (0, 0, 0)]])
    (tmp_path / table).write_text(TABLES[table])
    dataset = SegmentationFolder(str(tmp_path), test_split="none")
    assert dataset.classes == ("sky", "road")
    assert dataset.truth("a").tolist() == [[0, 1, 255]]
    save(tmp_path / "masks" / "a.png", [[(10, 20, 30), (127, 64, 128), (0, 0, 0)]])
    with pytest.raises(DataError, match=r"got the color 127,64,128, which it lacks, in 1 pixels"):
        SegmentationFolder(str(tmp_path), test_split="none").truth("a")


@pytest.mark.parametrize("names", [None, ("wall", "crack")])
def test_masks_of_0_and_255_are_background_and_foreground_and_it_is_said(folder, names, caplog):
    binary = {f"train/{k}": ids_of([0, 255, 0], [255, 255, 0]) for k in range(3)}
    dataset = SegmentationFolder(str(folder(binary, names)))
    assert dataset.classes == (names or ("background", "foreground"))
    assert dataset.truth("train/1").tolist() == [[0, 1, 0], [1, 1, 0]]
    assert "masks hold only 0 and 255" in caplog.text
    assert any("255 is read as" in f.message and f.severity == "warning" for f in dataset.verify())


@pytest.mark.parametrize(
    ("values", "void_id", "names", "classes"),
    [
        ((0, 255, 0), None, ("crack",), ("background", "crack")),
        ((0, 1, 255), None, ("crack",), ("background", "crack")),
        ((0, 1, 255), None, None, ("background", "foreground")),
        ((0, 255, 128), 128, ("wall", "crack"), ("wall", "crack")),
        ((0, 1, 9), 9, None, ("background", "foreground")),
    ],
)
def test_masks_of_one_class_with_and_without_void(folder, values, void_id, names, classes):
    dataset = SegmentationFolder(
        str(folder({f"train/{k}": ids_of([*values]) for k in range(3)}, names)), void_id=void_id
    )
    assert dataset.classes == classes
    assert dataset.truth("train/1").tolist() == [[0, 1, 0 if values[2] == 0 else 255]]


def test_the_one_class_may_be_given_by_the_command(folder):
    dataset = SegmentationFolder(
        str(folder({f"train/{k}": ids_of([0, 255, 0]) for k in range(2)}, None)), classes=["rust"]
    )
    assert dataset.classes == ("background", "rust") and dataset.truth("train/0").tolist() == [[0, 1, 0]]


def test_a_class_with_id_255_is_a_class(folder):
    root = folder({"train/a": ids_of([0, 128, 255])}, ("0 wall", "128 rust", "255 crack"))
    dataset = SegmentationFolder(str(root))
    assert dataset.classes == ("wall", "rust", "crack")
    assert dataset.truth("train/a").tolist() == [[0, 1, 2]]


def test_void_id_none_says_that_255_is_a_mistake(folder):
    root = folder({"train/a": ids_of([0, 1, 2, 255])})
    with pytest.raises(DataError, match=r"or void \[\], got \[255\]"):
        SegmentationFolder(str(root), void_id="none").truth("train/a")


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (ids_of([255, 255, 255]), "no pixel of the 2 test labels has a class"),
        (ids_of([1, 1, 255]), "every labeled pixel of the 2 test labels is 'road'"),
    ],
)
def test_a_test_set_that_measures_nothing_is_named_before_the_first_training(folder, test, sentence):
    dataset = SegmentationFolder(str(folder({"train/a": MAP, "test/b": test, "test/c": test})))
    assert [f.message for f in dataset.blockers()] == [f.message for f in dataset.verify() if f.severity == "error"]
    (found,) = dataset.blockers()
    assert sentence in found.message
    assert SegmentationFolder(str(folder({"test/c": MAP}))).blockers() == []
