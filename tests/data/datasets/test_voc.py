import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.datasets.voc import VOC, VOC_CLASSES
from al_lab.data.formats.voc import parse_voc, read_split


def test_one_is_taken_from_all_four_coordinates(tmp_path, write_xml):
    path = write_xml(tmp_path / "a.xml", [("dog", 1, 1, 60, 40), ("cat", 5.5, 6, 20, 30, True)])
    annotation, notes = parse_voc(path, ["cat", "dog"], (40, 60))
    assert annotation.boxes_xyxy.tolist() == [[0, 0, 59, 39], [4.5, 5, 19, 29]]
    assert annotation.labels.tolist() == [1, 0]
    assert annotation.difficult.tolist() == [False, True]
    assert not annotation.crowd.any()
    assert notes == ()


def test_zero_based_files_keep_their_numbers(tmp_path, write_xml):
    path = write_xml(tmp_path / "a.xml", [("dog", 0, 0, 60, 40)])
    annotation, _ = parse_voc(path, ["dog"], (40, 60), one_based=False)
    assert annotation.boxes_xyxy.tolist() == [[0, 0, 60, 40]]


def test_the_row_of_a_box_without_area_takes_its_label_along(tmp_path, write_xml):
    path = write_xml(tmp_path / "a.xml", [("dog", 9, 9, 9, 9, True), ("cat", 1, 1, 5, 5)])
    annotation, notes = parse_voc(path, ["cat", "dog"], (40, 60))
    assert annotation.labels.tolist() == [0]
    assert annotation.difficult.tolist() == [False]
    assert notes[0].startswith("object 1 has no area")


def test_parts_of_an_object_are_no_objects(tmp_path):
    path = tmp_path / "a.xml"
    box = "<bndbox><xmin>{0}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    path.write_text(
        f"<annotation><object><part><name>head</name>{box.format(9)}</part><name>person</name>{box.format(2)}</object></annotation>"
    )
    annotation, _ = parse_voc(path, ["person"], (40, 60))
    assert annotation.boxes_xyxy.tolist() == [[1, 1, 29, 19]]


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'
OBJECT = "<annotation><object><name>{}</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"  # noqa: E501


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "refused as a possible XML bomb"),
        ("<annotation><object>", "can't be parsed"),
        ("", "can't be parsed"),
        ("<html></html>", "whose root is <html>"),
        (OBJECT.format("dgo", 2), "expected one of 2 known classes, got 'dgo'; did you mean 'dog'?"),
        (
            OBJECT.format("dog", "nan"),
            "object 1: <bndbox/xmin>: expected a finite number of pixels, written in digits, got 'nan'",
        ),
        (
            OBJECT.format("dog", "five"),
            "object 1: <bndbox/xmin>: expected a finite number of pixels, written in digits, got 'five'",
        ),
        (
            "<annotation><object><name>dog</name></object></annotation>",
            "<bndbox/xmin>: expected a finite number of pixels, written in digits, got None",
        ),
        (OBJECT.format("dog", -5), "inside the image"),
    ],
)
def test_bad_xml_is_named(tmp_path, text, message):
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        parse_voc(path, ["cat", "dog"], (40, 60))
    assert "bad.xml" in str(error.value)
    assert message in str(error.value)


def test_lists_may_carry_flags_suffixes_and_blank_lines(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("000001 -1\n000002  1\nholiday 3.jpg\n\nsub/000004\n")
    assert read_split(path) == ["000001", "000002", "holiday 3", "sub/000004"]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\up", "C:\\x"])
def test_names_that_leave_the_root_are_refused(tmp_path, name):
    path = tmp_path / "train.txt"
    path.write_text(f"{name}\n")
    with pytest.raises(DataError, match="names that leave the root are refused"):
        read_split(path)


@pytest.fixture
def devkit(tmp_path, write_image, write_xml):
    lists = {
        "VOC2007": {"trainval": ["000005", "000007"], "test": ["000001"]},
        "VOC2012": {"trainval": ["2008_000008"]},
    }
    for year, splits in lists.items():
        for split, ids in splits.items():
            path = tmp_path / year / "ImageSets" / "Main" / f"{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{i}\n" for i in ids))
            for i in ids:
                write_image(tmp_path / year / "JPEGImages" / f"{i}.jpg")
                write_xml(tmp_path / year / "Annotations" / f"{i}.xml", [("sofa", 1, 1, 9, 9)])
    return tmp_path


def test_the_official_layout(devkit):
    dataset = VOC(str(devkit), check_counts=False)
    assert dataset.pool_ids == ("VOC2007/000005", "VOC2007/000007", "VOC2012/2008_000008")
    assert dataset.test_ids == ("VOC2007/000001",)
    assert dataset.classes == VOC_CLASSES
    assert len(dataset.classes) == 20
    assert dataset.size_hw("VOC2007/000001") == dataset.load_image("VOC2007/000001").shape[:2] == (40, 60)
    assert dataset.truth("VOC2012/2008_000008").labels.tolist() == [VOC_CLASSES.index("sofa")]
    assert dataset.describe()["num_pool"] == 3


def test_the_official_counts_are_checked(devkit):
    with pytest.raises(DataError, match="expected 5011 names in VOC2007/trainval, got 2; .*dataset=voc_folder"):
        VOC(str(devkit))


def test_a_missing_image_is_named(devkit):
    (devkit / "VOC2012" / "JPEGImages" / "2008_000008.jpg").unlink()
    with pytest.raises(DataError, match=r"1 missing, first 2008_000008\.jpg"):
        VOC(str(devkit), check_counts=False)


def test_a_missing_devkit_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"al-lab data download voc"):
        VOC(str(tmp_path / "nowhere"))


def test_overlapping_splits_are_refused(devkit):
    with pytest.raises(DataError, match="no image in both pool and test, got 1 shared, first 'VOC2007/000001'"):
        VOC(str(devkit), pool=["VOC2007/trainval", "VOC2007/test"], check_counts=False)


def test_truth_hands_out_copies(devkit):
    dataset = VOC(str(devkit), check_counts=False)
    dataset.truth("VOC2007/000001").boxes_xyxy[:] = 0
    np.testing.assert_array_equal(dataset.truth("VOC2007/000001").boxes_xyxy, [[0, 0, 8, 8]])


def test_an_unknown_id_is_refused(devkit):
    dataset = VOC(str(devkit), check_counts=False)
    with pytest.raises(DataError, match="expected the id of a sample, got '000005'"):
        dataset.image_path("000005")
