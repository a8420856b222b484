from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from al_lab.core.errors import DataError
from al_lab.data.formats import images
from al_lab.data.formats.images import IMAGE_SUFFIXES, load_rgb, read_size_hw, small_rgb


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_every_pixel_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image = load_rgb(path)
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    assert image.min() >= 248


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path, orientation, suffix):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # bright top left quarter
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        # fmt: skip
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if inverse[orientation] is not None:
        stored = stored.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    stored.save(path, exif=exif)
    image = load_rgb(path)
    assert image.shape == (16, 32, 3)
    assert read_size_hw(path) == (16, 32)
    assert image[4, 8].min() > 250
    assert image[12, 24].max() < 5
    assert image[4, 24].max() < 5


def test_sixteen_bit_grayscale_keeps_its_high_byte(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.full((4, 5), 0x8012, np.uint16)).save(path)
    assert load_rgb(path).tolist() == np.full((4, 5, 3), 0x80).tolist()


def test_float_pixels_are_refused(tmp_path):
    path = tmp_path / "x.tiff"
    Image.fromarray(np.zeros((4, 5), np.float32)).save(path)
    with pytest.raises(DataError, match=r"x\.tiff: expected an image of 8 or 16 bits"):
        load_rgb(path)


def test_a_cut_off_image_is_named(tmp_path, write_image):
    path = write_image(tmp_path / "cut.jpg", (200, 300))
    path.write_bytes(path.read_bytes()[:3000])
    assert read_size_hw(path) == (200, 300)
    with pytest.raises(DataError, match=r"cut\.jpg: expected a readable image, got a broken one"):
        load_rgb(path)


@pytest.mark.parametrize("reader", [load_rgb, read_size_hw])
def test_what_is_no_image_is_named(tmp_path, reader):
    path = tmp_path / "text.jpg"
    path.write_text("not an image")
    with pytest.raises(DataError, match=r"text\.jpg: expected a readable image, got a file that is no image"):
        reader(path)
    with pytest.raises(DataError, match=r"gone\.jpg: expected an image file, got no such file"):
        reader(tmp_path / "gone.jpg")


def test_a_decompression_bomb_is_refused(tmp_path, write_image, monkeypatch):
    path = write_image(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="million pixels, got a larger one, which may be a decompression bomb"):
        load_rgb(path)


def test_another_format_is_never_opened_whatever_its_name(tmp_path, monkeypatch):
    called = tmp_path / "called"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{called}'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    for read in (load_rgb, read_size_hw, lambda p: small_rgb(p, 8)):
        with pytest.raises(
            DataError, match=r"x\.jpg: expected a readable image, got a file that is no image in one of"
        ):
            read(path)
    assert not called.exists()


@pytest.mark.parametrize("suffix", [s for s in IMAGE_SUFFIXES if s not in images.HEIC_SUFFIXES])
def test_every_suffix_has_its_format(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    Image.new("L" if suffix == ".pgm" else "RGB", (8, 6), "white").save(path)
    assert load_rgb(path).min() == 255


def test_only_one_place_opens_images():
    root = Path(images.__file__).parents[2]
    opening = [p.name for p in root.rglob("*.py") if "Image.open(" in p.read_text()]
    assert opening == ["images.py"]
