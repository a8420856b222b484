"""Groups by names: never split between roles, told from each other, and kept apart in a purchase."""

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.datasets.coco_folder import COCOFolder
from al_lab.data.datasets.folder import Folder
from al_lab.data.datasets.segmentation_folder import SegmentationFolder
from al_lab.data.datasets.voc_folder import VOCFolder
from al_lab.data.formats import coco, voc
from al_lab.data.formats.record import Record
from al_lab.data.grouping import Grouping, expression_for


@pytest.mark.parametrize(
    ("expression", "name", "group", "frame"),
    [
        (r"^(.+)_[0-9]+$", "day 1/video3_0012", "day 1/video3", 12),
        (r"^video[0-9]+", "video3_0012", "video3", 12),
        (r"^(cam[0-9])_.*_(p[0-9]+)_", "cam2_2024_p17_0003", "cam2/p17", 3),
        (r"^(?P<frame>[0-9]+)_(.+)$", "0044_patient 9", "patient 9", 44),
        (r"^(.+)/", "patient/x", "patient", None),
        (r"^nothing", "a7", "a7 (alone)", 7),
    ],
)
def test_what_a_name_tells(expression, name, group, frame):
    grouping = Grouping(expression)
    assert (grouping.group(name), grouping.frame(name)) == (group, frame)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("(", None), r"expected a regular expression, got '\('"),
        ((7, None), "dataset.group_by: expected text"),
        ((None, 3), "expected groups to keep a gap in, got dataset.min_gap=3 alone"),
        (("^(.+)_", 0), "dataset.min_gap: expected a whole number >= 1, got 0"),
        (("^(.+)_", "far"), "dataset.min_gap: expected"),
    ],
)
def test_wrong_settings(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Grouping.of(*arguments)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Six videos of 10 frames with boxes and label maps; of video 5 only 2 frames are labeled."""
    root = tmp_path_factory.mktemp("video")
    rng = np.random.default_rng(0)
    records = []
    for v in range(6):
        for f in range(10):
            name = f"video{v}_{f:03d}"
            (root / "images").mkdir(exist_ok=True)
            (root / "labels").mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).save(root / "images" / f"{name}.png")
            if v < 5 or f < 2:
                Image.fromarray(np.eye(20, dtype=np.uint8)).save(root / "labels" / f"{name}.png")
                records.append(Record(f"{name}.png", np.array([[1.0, 1, 9, 9]]), ("a",), name, (20, 20)))
                voc.write_record(root / "Annotations" / f"{name}.xml", records[-1])
    (root / "classes.txt").write_text("a\nb\n")
    return root, records


EXPRESSION = "^(.+)_[0-9]+$"


@pytest.mark.parametrize("make", [Folder, VOCFolder, COCOFolder, SegmentationFolder], ids=lambda c: c.__name__)
def test_no_group_is_split_where_nobody_says_what_the_test_set_is(video, tmp_path, make):
    root, records = video
    if make is COCOFolder:
        coco.write(tmp_path, records, ("a",))
        (tmp_path / "images").symlink_to(root / "images")
        root = tmp_path
    options = {"format": "voc"} if make is Folder else {}
    dataset = make(str(root), group_by=EXPRESSION, min_gap=4, **options)
    of = {role: {dataset.grouping.group(i) for i in ids} for role, ids in dataset.splits().items()}
    assert of["pool"] and of["test"] and not of["pool"] & of["test"]
    assert len(dataset.test_ids) in (10, 12)  # a fifth of 52 labeled ones, in whole videos
    assert all(dataset.has_truth(i) for i in dataset.test_ids)
    assert dataset.apart.most(dataset.pool_ids) == 3 * len(of["pool"])
    without = make(str(root), **options)
    videos = [{Grouping(EXPRESSION).group(i) for i in ids} for ids in (without.pool_ids, without.test_ids)]
    assert videos[0] & videos[1] and without.apart is None


def test_lists_that_split_a_group_lose_its_images_in_the_pool_and_say_so(video, tmp_path, caplog):
    root, records = video
    for split, chosen in (("train", records[:15]), ("val", records[12:22]), ("test", records[20:24])):
        for record in chosen if split != "val" else records[15:20]:
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / record.file_name).symlink_to(root / "images" / record.file_name)
            voc.write_record((tmp_path / split / record.file_name).with_suffix(".xml"), record)
    dataset = Folder(str(tmp_path), group_by="(video[0-9])")
    assert [len(ids) for ids in dataset.splits().values()] == [10, 5, 4]
    said = "5 pool images are left out: their groups are those val or test have, first 'train/video1_000'"
    assert said in caplog.text
    assert any(said in f.message for f in dataset.verify(decode=False))
    with pytest.raises(DataError, match="none: all 15 are of groups that val or test have, too"):
        Folder(str(tmp_path), group_by="(video)")


def test_one_group_and_names_without_numbers_or_matches(video):
    root = str(video[0])
    with pytest.raises(DataError, match=r"at least two groups .* dataset.test_split=none"):
        Folder(root, format="voc", group_by="video")
    assert len(Folder(root, format="voc", group_by="video", test_split="none").pool_ids) == 60
    with pytest.raises(DataError, match="matches none of 60, such as 'video0_000'"):
        Folder(root, format="voc", group_by="patient", test_split="none")
    with pytest.raises(DataError, match="a number in each name"):
        Grouping("^(x)", 5).check(["x1", "xy"], "here")
    assert Grouping("^(x)").check(["x1", "y"], "here") == ["y"]


def test_an_expression_is_suggested_for_near_copies_across_splits(tmp_path):
    rng = np.random.default_rng(0)
    for v in range(2):
        picture = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        for f, split in enumerate(("train", "train", "test")):
            (tmp_path / split).mkdir(exist_ok=True)
            path = tmp_path / split / f"shop{v}_{f}.jpg"
            picture.save(path, quality=90 - 10 * f)
            voc.write_record(path.with_suffix(".xml"), Record(path.name, np.zeros((0, 4)), (), "", (64, 64)))
    data = Folder(str(tmp_path), classes=["a"])
    (found,) = [f for f in data.verify() if "group_by" in f.remedy]
    assert found.message == "the names of 4 of the 4 pairs across splits tell that they belong together"
    expression = found.remedy.split("'")[1]
    assert Grouping(expression).group("train/shop1_0") == Grouping(expression).group("test/shop1_2") == "shop1"
    with pytest.raises(DataError, match="none: all 4"):
        Folder(str(tmp_path), classes=["a"], group_by=expression)
    narrow = Folder(str(tmp_path), classes=["a"], group_by="(.+)")
    assert any("different groups" in f.message for f in narrow.verify())
    assert expression_for([("001", "002")]) is None and expression_for([("a/x1", "a/y2")]) == "([^/]+)/[^/]+$"
