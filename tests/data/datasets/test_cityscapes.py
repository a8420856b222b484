import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import ConfigError, DataError
from al_lab.data.datasets.cityscapes import Cityscapes
from al_lab.data.datasets.domains import CITYSCAPES_IDS, SHARED_16

ALL_IDS = np.arange(34, dtype=np.uint8).reshape(2, 17)


def add_frame(root, write_image, split, city, number, ids=ALL_IDS):
    stem = f"{city}/{city}_{number:06d}_000019"
    write_image(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", np.asarray(ids).shape)
    label = root / "gtFine" / split / f"{stem}_gtFine_labelIds.png"
    label.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(ids, np.uint8)).save(label)
    return label


@pytest.fixture
def root(tmp_path, write_image):
    for split, city, number in (("train", "aachen", 0), ("train", "zurich", 3), ("val", "lindau", 1)):
        add_frame(tmp_path, write_image, split, city, number)
    return tmp_path


def test_frames_of_all_cities_and_their_ids(root):
    domain = Cityscapes(str(root), check_counts=False)
    assert domain.splits == {"pool": ["train/aachen/aachen_000000_000019", "train/zurich/zurich_000003_000019"],
                             "test": ["val/lindau/lindau_000001_000019"]}  # fmt: skip
    assert all(domain.images[i].is_file() and domain.has_label(i) for ids in domain.splits.values() for i in ids)


@pytest.mark.parametrize(("num_classes", "names"), [(19, tuple(CITYSCAPES_IDS)), (16, SHARED_16)])
def test_raw_ids_become_train_ids(root, num_classes, names):
    """Density Matters fact sheet, 2.2."""
    domain = Cityscapes(str(root), num_classes, check_counts=False)
    label, notes = domain.read_label(domain.labels["val/lindau/lindau_000001_000019"])
    assert {int(raw): names[k] for raw, k in enumerate(label.reshape(-1)) if k != 255} == {
        CITYSCAPES_IDS[name]: name for name in names
    }
    assert [names[k] for k in range(3)] == ["road", "sidewalk", "building"]
    assert names[-1] == "bicycle"
    assert len(names) == num_classes
    assert notes == ()


def test_train_ids_under_the_name_of_raw_ids_are_noted(root, write_image):
    label = add_frame(root, write_image, "val", "lindau", 2, [[0, 1, 18, 255]])
    _, notes = Cityscapes(str(root), check_counts=False).read_label(label)
    assert "labelTrainIds" in notes[-1]


def test_wrong_numbers_are_refused(root):
    with pytest.raises(ConfigError, match="19 or 16 classes, got 13"):
        Cityscapes(str(root), 13)
    with pytest.raises(DataError, match="the official 2975 frames, got 2"):
        Cityscapes(str(root))
    with pytest.raises(DataError, match="in folders of cities, got no such folder"):
        Cityscapes(str(root), pool="trian", check_counts=False)


def test_the_mini_tree_and_a_genuine_frame(shared_data):
    domain = Cityscapes(str(shared_data / "layout_minis" / "cityscapes_like"), check_counts=False)
    assert [len(ids) for ids in domain.splits.values()] == [4, 2]
    for path in (domain.labels[i] for ids in domain.splits.values() for i in ids):
        expected = np.asarray(Image.open(str(path).replace("labelIds", "labelTrainIds")))
        assert np.array_equal(domain.read_label(path)[0], expected)
    genuine = next((shared_data / "format_fixtures" / "cityscapes_mmseg").rglob("*_gtFine_labelIds.png"))
    expected = np.asarray(Image.open(str(genuine).replace("labelIds", "labelTrainIds")))
    assert (domain.read_label(genuine)[0] == expected).mean() > 0.995  # the two were shrunk one after the other
    with pytest.raises(DataError, match="instances instead of classes"):
        domain.read_label(genuine.with_name(genuine.name.replace("labelIds", "instanceIds")))
