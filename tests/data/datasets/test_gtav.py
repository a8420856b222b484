import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.gtav import GTAV


def write_label(path, ids, mode="P"):
    image = Image.fromarray(np.asarray(ids, np.uint8))
    if mode == "P":
        image = image.convert("P")
        image.putdata(np.asarray(ids).reshape(-1).tolist())
        image.putpalette([v for k in range(256) for v in (128, 255 - k, k)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path)


@pytest.fixture
def root(tmp_path, write_image):
    for name in ("00001", "00002", "00003"):
        write_image(tmp_path / "images" / f"{name}.png", (6, 9))
        write_label(tmp_path / "labels" / f"{name}.png", np.tile([7, 8, 33, 0, 34, 24, 29, 23, 22], (6, 1)))
    return tmp_path


def test_indices_of_the_palette_are_ids(root):
    domain = GTAV(str(root), check_counts=False)
    assert domain.splits["pool"] == ["00001", "00002", "00003"]
    label, notes = domain.read_label(domain.labels["00002"])
    assert label.dtype == np.uint8
    assert label[5].tolist() == [0, 1, 18, 255, 255, 11, 255, 10, 9]
    assert notes == ()


def test_ids_that_mean_nothing_are_named(root):
    write_label(root / "labels" / "00001.png", [[7, 7, 77, 77, 200]])
    label, notes = GTAV(str(root), check_counts=False).read_label(root / "labels" / "00001.png")
    assert label.tolist() == [[0, 0, 255, 255, 255]]
    assert notes == ("ids [77, 200] mean nothing in this dataset (3 pixels); they are read as void",)


def test_a_list_file_chooses(root):
    (root / "some.txt").write_text("00003.png\n00001\n")
    assert GTAV(str(root), str(root / "some.txt")).splits["pool"] == ["00003", "00001"]
    (root / "some.txt").write_text("00003\n00009\n")
    with pytest.raises(DataError, match="an image for each of 2 names, got 1 missing, first '00009'"):
        GTAV(str(root), str(root / "some.txt"))


@pytest.mark.parametrize(("mode", "message"), [("RGB", "a RGB picture"), ("1", "a 1 picture")])
def test_colors_are_no_ids(root, mode, message):
    write_label(root / "labels" / "00001.png", [[7, 8]], mode)
    with pytest.raises(DataError, match=message):
        GTAV(str(root), check_counts=False).read_label(root / "labels" / "00001.png")


def test_a_part_of_the_data_is_no_gtav(root):
    with pytest.raises(
        DataError,
        match=r"the official 24966 images, got 3; complete the data \(run 'al-lab data download gtav'\)",
    ):
        GTAV(str(root))
    with pytest.raises(DataError, match="a folder of PNG files, got no such folder"):
        GTAV(str(root / "nowhere"))


def test_the_mini_tree(shared_data):
    domain = GTAV(str(shared_data / "layout_minis" / "gta5_like"), check_counts=False)
    labels = [domain.read_label(domain.labels[i]) for i in domain.splits["pool"]]
    assert len(labels) == 4
    assert not any(notes for _, notes in labels)
    assert {0, 1, 2, 5, 8, 10, 13} <= set(np.unique([label for label, _ in labels]).tolist())
