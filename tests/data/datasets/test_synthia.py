import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.datasets.synthia import Synthia


def write_png16(path, channels):
    """Write (H, W) or (H, W, 3) integers as a 16-bit PNG, which Pillow can't."""
    pixels = np.asarray(channels, ">u2")
    height, width = pixels.shape[:2]
    color = 2 if pixels.ndim == 3 else 0
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ):
            stream.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def label_of(classes, instances=7):
    classes = np.asarray(classes)
    return np.stack([classes, np.full_like(classes, instances), np.zeros_like(classes)], -1)


@pytest.fixture
def tree(tmp_path, write_image):
    write_image(tmp_path / "RGB" / "0000000.png", (2, 9))
    path = tmp_path / "GT" / "LABELS" / "0000000.png"
    write_png16(path, label_of([[3, 4, 2, 21, 5, 7, 15, 9, 6], [1, 10, 17, 8, 19, 12, 11, 22, 0]]))
    return Synthia(str(tmp_path), check_counts=False), path


def test_the_class_is_in_red_of_sixteen_bits(tree):
    domain, path = tree
    label, notes = domain.read_label(path)
    assert label.tolist() == [list(range(9)), [9, 10, 11, 12, 13, 14, 15, 255, 255]]
    assert notes == ()
    assert len(domain.classes) == 16
    assert not np.asarray(Image.open(path)).any()  # why Pillow can't be asked


def test_a_file_saved_again_by_an_8_bit_reader_is_refused(tree):
    domain, path = tree
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(
        DataError,
        match="expected a 16-bit RGB PNG with the class in R, got a PNG of 8-bit RGB pixels .*the original archive",
    ):
        domain.read_label(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[3, 4]], "a PNG of I;16B pixels"),
        (label_of([[3, 4]])[..., ::-1], "ids in B"),
        (label_of([[0, 0]]), "zeros in R all over"),
        (label_of([[300, 4]]), "ids up to 511"),
    ],
)
def test_other_encodings_are_refused(tree, content, message):
    domain, path = tree
    write_png16(path, content)
    with pytest.raises(DataError, match=message):
        domain.read_label(path)


def test_a_broken_file_is_named(tree):
    domain, path = tree
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"0000000\.png: expected a readable image, got a broken one"):
        domain.read_label(path)


def test_ids_that_mean_nothing_are_named(tree):
    domain, path = tree
    write_png16(path, label_of([[3, 77]]))
    label, notes = domain.read_label(path)
    assert label.tolist() == [[0, 255]]
    assert "ids [77] mean nothing" in notes[0]


def test_a_part_of_the_data_is_no_synthia(tree):
    domain, path = tree
    with pytest.raises(DataError, match="the official 9400 images, got 1"):
        Synthia(str(path.parents[2]))


def test_the_mini_tree_and_genuine_samples(shared_data):
    domain = Synthia(str(shared_data / "layout_minis" / "synthia_like"), check_counts=False)
    found = {k for i in domain.splits["pool"] for k in np.unique(domain.read_label(domain.labels[i])[0]).tolist()}
    assert found == {0, 1, 2, 5, 7, 8, 9, 10, 12, 15}
    samples = sorted((shared_data / "format_fixtures" / "datumaro").rglob("GT/LABELS/**/*.png"))
    assert samples
    assert [domain.read_label(path)[0].shape for path in samples] == [(1, 5)] * len(samples)
    with pytest.raises(DataError, match="8-bit RGB"):
        domain.read_label(shared_data / "layout_minis" / "synthia_like" / "GT" / "COLOR" / "0000000.png")
