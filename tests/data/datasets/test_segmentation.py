import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.domains import Domain, DomainPair
from al_lab.data.datasets.segmentation import SegmentationDataset, classes_in
from al_lab.data.formats.masks import read_ids
from al_lab.data.transforms.dense import VOID
from al_lab.data.verify import statistics

CLASSES = ("sky", "road", "car")


class Plain(Domain):
    """Ids as they are, in labels/<id>.png."""

    def __init__(self, root, splits, classes=CLASSES):
        ids = [i for found in splits.values() for i in found]
        images, labels = ({i: root / folder / f"{i}.png" for i in ids} for folder in ("images", "labels"))
        super().__init__(classes, images, labels, splits)
        self.reads = 0

    def read_label(self, path):
        self.reads += 1
        return read_ids(path), ("a note",) if path.stem == "noted" else ()


@pytest.fixture
def domain(tmp_path, write_image):
    """Write a domain: label maps by id, all in "pool" but those called test…."""

    def write(name, labels, image_hw=(4, 6)):
        root = tmp_path / name
        for sample_id, ids in labels.items():
            write_image(root / "images" / f"{sample_id}.png", image_hw)
            if ids is not None:
                (root / "labels").mkdir(exist_ok=True)
                Image.fromarray(np.asarray(ids, np.uint8)).save(root / "labels" / f"{sample_id}.png")
        return Plain(root, {"pool": [i for i in labels if "test" not in i], "test": [i for i in labels if "test" in i]})

    return write


def band(*classes, hw=(4, 6)):
    """A map of vertical bands."""
    return np.repeat(np.array(classes, np.uint8), -(-hw[1] // len(classes)))[None, : hw[1]].repeat(hw[0], 0)


def pair(domain, source=None, target=None, **options):
    target = domain("target", target or {"a": band(0, 1, 2), "test": band(0, 1, 2)})
    return DomainPair(target, domain("source", source) if source else None, **options)


def test_source_images_are_beside_the_pool_and_never_in_it(domain):
    dataset = pair(domain, {"x": band(0, 1), "a": band(2, VOID)}, source_hw=[8, 8], target_hw=[6, 12])
    assert dataset.source_ids == ("source/a", "source/x")
    assert (dataset.pool_ids, dataset.test_ids) == (("a",), ("test",))
    assert (dataset.source_hw, dataset.target_hw) == ((8, 8), (6, 12))
    assert dataset.load_image("source/a").shape == (4, 6, 3)
    assert not np.array_equal(dataset.load_image("source/a"), dataset.load_image("a"))
    assert dataset.size_hw("source/x") == (4, 6)
    assert dataset.source_label("source/a").tolist() == band(2, VOID).tolist()
    assert dataset.truth("a").tolist() == band(0, 1, 2).tolist()
    assert dataset.describe()["num_source"] == 2
    with pytest.raises(DataError, match="the id of a source image, got 'a'.*are bought"):
        dataset.source_label("a")
    with pytest.raises(DataError, match="expected the id of a sample, got 'source/z'"):
        dataset.image_path("source/z")


def test_source_free_has_no_source_ids(domain):
    dataset = pair(domain)
    assert dataset.source_ids == ()
    assert "num_source" not in dataset.describe()
    assert dataset.source_classes() == {}
    with pytest.raises(DataError, match="got 'source/x'"):
        dataset.load_image("source/x")


def test_the_two_domains_have_the_same_classes(domain):
    target, source = domain("target", {"a": band(0)}), domain("source", {"a": band(0)})
    source.classes = ("sky", "road")
    with pytest.raises(DataError, match="same classes, here the target's 3, got 2: sky, road"):
        DomainPair(target, source)
    source.classes, source.splits = CLASSES, {"pool": []}
    with pytest.raises(DataError, match="at least one source image, got none"):
        DomainPair(target, source)


class Odd(SegmentationDataset):
    def image_path(self, sample_id):
        raise NotImplementedError

    def _parse(self, sample_id):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_ids": ["x"]}, "'source/' in front of source ids, and of them alone, got 'x'"),
        ({"pool_ids": ["source/x"]}, "of them alone, got 'source/x'"),
        ({"target_hw": [640]}, r"\[height, width\] in pixels, or null, got \[640\]"),
        ({"source_hw": [0, 4]}, r"dataset.source_hw"),
        ({"classes": [str(k) for k in range(255)]}, "fewer than 255 classes"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(DataError, match=message):
        Odd(**{"name": "odd", "classes": CLASSES, "pool_ids": ["a"]} | options)


def test_a_label_of_another_size_than_its_image(domain):
    labels = {"a": band(0, 1, hw=(3, 6)), "test": band(0, 1)}
    with pytest.raises(DataError, match=r"a label of the image's height and width \(4, 6\), got \(3, 6\); replace one"):
        pair(domain, target=labels).truth("a")
    with pytest.raises(DataError, match=r"\(source/a\).*give the size both are resized to, dataset.source_hw"):
        pair(domain, labels).source_label("source/a")
    assert pair(domain, labels, source_hw=(8, 8)).source_label("source/a").shape == (3, 6)


def test_notes_are_logged_once_a_file(domain, caplog):
    dataset = pair(domain, {"noted": band(0)})
    for _ in range(2):
        dataset.source_label("source/noted")
    assert [r.getMessage() for r in caplog.records] == [
        f"{dataset.annotation_file('source/noted')}: source/noted: a note"
    ]


def test_source_classes_are_counted_once_for_all_processes(domain, tmp_path):
    source = {"x": band(0, 1), "y": band(VOID, 2), "z": band(VOID)}
    first = pair(domain, source, cache_dir=str(tmp_path / "cache"))
    expected = {"source/x": (0, 1), "source/y": (2,), "source/z": ()}
    assert first.source_classes() == first.source_classes() == expected
    assert first._domains[1].reads == 3
    again = DomainPair(*first._domains, cache_dir=str(tmp_path / "cache"))
    assert again.source_classes() == expected
    assert again._domains[1].reads == 3
    Image.fromarray(band(2, 1, 0)).save(again.annotation_file("source/x"))  # another file: counted anew
    assert DomainPair(*first._domains, cache_dir=str(tmp_path / "cache")).source_classes()["source/x"] == (0, 1, 2)


def test_classes_of_a_label():
    assert classes_in(np.array([[3, 1, 255], [1, 1, 0]], np.uint8)) == (0, 1, 3)


def verified(dataset, **options):
    return [(f.severity, f.message) for f in dataset.verify(**options)]


def test_verify_finds_nothing_in_good_data(domain):
    assert verified(pair(domain, {"x": band(0, 1, 2)})) == []


def test_verify_looks_at_each_label(domain):
    almost_void = np.full((4, 60), VOID, np.uint8)
    almost_void[0, :4] = (0, 0, 1, 2)
    source = {"noted": band(0, 1, 2), "one": band(1), "void": almost_void, "none": None, "size": band(0, 1, hw=(3, 6))}
    found = verified(pair(domain, source, source_hw=(8, 8)))
    assert ("error", "1 of 5 source images have no label, first 'source/none'") in found
    assert ("warning", "source/noted: a note") in found
    assert ("warning", "source/one: every labeled pixel is 'road'") in found
    assert ("warning", "source/void: 98.3 % of the pixels are void") in found
    assert ("warning", "source/size: height and width are (3, 6) in the label, but (4, 6) in the image") in found
    assert ("error", "source/size: height and width are (3, 6) in the label, but (4, 6) in the image") in verified(
        pair(domain, source)
    )


def test_verify_compares_the_classes_of_the_domains(domain):
    found = verified(pair(domain, {"x": band(0, 2)}, {"a": band(0, 1), "test": band(0, 1)}))
    assert found == [("warning", "class 'road' occurs in the target's labels but in none of the source's"),
                     ("warning", "class 'car' occurs in the source's labels but in none of the target's")]  # fmt: skip
    assert ("info", "class 'road' occurs in no test label") in verified(
        pair(domain, target={"a": band(0, 1, 2), "test": band(0, 2)})
    )
    assert ("warning", "class 'car' occurs in no label") in verified(
        pair(domain, target={"a": band(0, 1), "test": band(0, 1)})
    )


def test_verify_by_headers_reads_no_label(domain):
    dataset = pair(domain, {"one": band(1), "size": band(0, hw=(3, 6))})
    assert verified(dataset, decode=False) == [
        ("error", "source/size: height and width are (3, 6) in the label, but (4, 6) in the image")
    ]
    assert dataset._domains[1].reads == 0


def test_statistics_count_pixels(domain):
    dataset = pair(domain, {"x": band(0, VOID), "y": None, "z": band(0)}, {"a": band(0, 1), "test": band(7)})
    stats = statistics(dataset)
    assert list(stats) == ["pool", "test", "source"]
    assert stats["source"] == {
        "images": 3, "unlabeled": 1, "unreadable": 0, "pixels": 36, "void": 12, "classes": {"sky": 36, "road": 0, "car": 0},  # noqa: E501
        "images_with": {"sky": 2, "road": 0, "car": 0}, "height": [4, 4, 4], "width": [6, 6, 6]}  # fmt: skip
    assert stats["pool"]["classes"] == {"sky": 12, "road": 12, "car": 0}
