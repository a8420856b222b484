"""Round trips between formats: nothing is lost that the target can hold, and what it can't is said."""

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.types import Annotation
from al_lab.data.convert import BOX_FORMATS, convert
from al_lab.data.datasets.folder import Folder
from al_lab.data.datasets.segmentation_folder import SegmentationFolder
from al_lab.data.formats import voc
from al_lab.data.formats.record import Record

CLASSES = ("cat", 'a "b" <c>', "ünï cödé")
HEIGHT, WIDTH = 37, 61


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    rng = np.random.default_rng(0)
    for n, split in enumerate(("train", "train", "train", "val", "test")):
        path = root / split / f"im {n}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
        corners = rng.uniform(0, 18, (n, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(2, 18, (n, 2))], 1).astype(np.float32)
        truth = Annotation.make(boxes, rng.integers(0, 3, n), difficult=rng.random(n) < 0.4)
        voc.write_record(path.with_suffix(".xml"), Record.of(path.name, truth, CLASSES, (HEIGHT, WIDTH)))
    return Folder(str(root), classes=CLASSES)


@pytest.mark.parametrize("first", BOX_FORMATS)
@pytest.mark.parametrize("second", BOX_FORMATS)
def test_each_pair_of_formats(original, tmp_path, first, second):
    lost_once = convert(original, first, tmp_path / "a")[1]
    between = Folder(str(tmp_path / "a"), classes=CLASSES)
    lost_twice = convert(between, second, tmp_path / "b", images="copy")[1]
    final = Folder(str(tmp_path / "b"), classes=CLASSES)
    assert [between.format, final.format] == [first, second]
    names = {split: {i.rpartition("/")[2] for i in ids} for split, ids in original.splits().items()}
    assert {split: {i.rpartition("/")[2] for i in ids} for split, ids in final.splits().items()} == names
    keeps = {"voc", "cvat", "labelme"}  # the flag difficult
    by_name = {i.rpartition("/")[2]: final.truth(i) for ids in final.splits().values() for i in ids}
    flags = 0
    for sample_id in (*original.pool_ids, *original.val_ids, *original.test_ids):
        wanted, found = original.truth(sample_id), by_name[sample_id.rpartition("/")[2]]
        np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-4)
        assert found.labels.tolist() == wanted.labels.tolist()
        assert found.difficult.any() <= ({first, second} <= keeps)
        flags += int(wanted.difficult.sum())
        if {first, second} <= keeps:
            assert found.difficult.tolist() == wanted.difficult.tolist()
    assert flags > 0 and bool(lost_once) == (first not in keeps)
    assert bool(lost_twice) == (second not in keeps and first in keeps)


def test_crowds_survive_in_coco_and_cvat_and_their_loss_is_said(tmp_path):
    record = Record("a.jpg", np.array([[1.0, 2, 3, 4]]), ("cat",), "a", (9, 9), crowd=np.array([True]))
    assert {name: bool(module.write(tmp_path / name, [record], ("cat",))) for name, module in BOX_FORMATS.items()} == {
        "voc": True, "coco": False, "yolo": True, "cvat": False, "label_studio": True, "labelme": True,
    }  # fmt: skip


def test_label_maps(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "SegmentationClass").mkdir()
    for n in range(6):
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{n}.jpg")
        Image.fromarray(rng.choice([0, 1, 2, 255], (8, 9)).astype(np.uint8)).save(
            tmp_path / "SegmentationClass" / f"{n}.png"
        )
    first = SegmentationFolder(str(tmp_path), classes=CLASSES, test_fraction=0.4)
    convert(first, "masks", tmp_path / "out")
    second = SegmentationFolder(str(tmp_path / "out"))
    assert second.classes == CLASSES
    for split, ids in first.splits().items():
        for sample_id, other in zip(ids, second.splits()[split], strict=True):
            assert sample_id == other.rpartition("/")[2]
            assert (first.truth(sample_id) == second.truth(other)).all()
    with pytest.raises(ConfigError, match="one of masks for segmentation, got 'coco'"):
        convert(first, "coco", tmp_path / "no")


def test_nothing_is_overwritten_and_a_wrong_format_is_named(original, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="a new folder"):
        convert(original, "voc", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'yolo'"):
        convert(original, "yolov8", tmp_path / "x")
