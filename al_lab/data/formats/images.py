"""Read photographs from disk: always upright 8-bit RGB, sizes without decoding the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from al_lab.core.disk import check_regular
from al_lab.core.errors import DataError, explain


def _add_heic() -> bool:
    """Let Pillow read what telephones write, if the package for it is there (it brings libheif, which is LGPL)."""
    try:
        from pi_heif import register_heif_opener  # noqa: PLC0415 - an extra
    except ImportError:
        return False
    register_heif_opener()
    return True


HEIC_SUFFIXES = (".heic", ".heif")
READS_HEIC = _add_heic()
# What telephones and cameras write and nothing here reads.
OTHER_PHOTOGRAPHS = (
    ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    *(() if READS_HEIC else HEIC_SUFFIXES),
)  # fmt: skip
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm",
    *(HEIC_SUFFIXES if READS_HEIC else ()),
)  # fmt: skip
# Pillow's names of the formats of these suffixes: each is decoded inside Pillow, none by another program. JPEG includes
# MPO, the JPEGs of cameras that add a second picture.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", *(("HEIF",) if READS_HEIC else ()))
# What Pillow raises for damaged files, by its own fuzzers and ours.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_ORIENTATION_TAG = 0x0112  # EXIF 2.3, Table 4
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_rgb(path: Path) -> np.ndarray:
    """Decode one image to upright RGB.

    EXIF orientation is applied. Grayscale, palette and CMYK are converted; an alpha channel is dropped; 16-bit
    grayscale keeps its high byte.

    Args:
        path: the image file.

    Returns:
        (H, W, 3) uint8, writable, in memory of its own.

    Raises:
        DataError: if the file is missing, is no image, is cut off, or is a decompression bomb.
    """
    with open_image(path) as image:
        orientation = _orientation(image)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise DataError(
                explain(
                    expected="an image of 8 or 16 bits per channel",
                    got=f"pixel mode {image.mode!r}, whose range is unknown",
                    where=str(path),
                    do="convert it to 8-bit PNG or JPEG",
                )
            )
        rgb = image.convert("RGB")
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        return np.array(rgb)


def read_size_hw(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright image, as `load_rgb` will give it, from the file's header only.

    Raises:
        DataError: if the file is missing or is no image.
    """
    with open_image(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def _orientation(image: Image.Image) -> int:
    # Pillow decodes a whole PNG to look for an eXIf chunk behind the pixels: only a chunk before them counts here.
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1
    value = image.getexif().get(_ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file for the length of a ``with``; whatever goes wrong inside is a DataError that names the file.

    Only regular files in one of `FORMATS` are opened, whatever their suffix says: left alone, Pillow hands a PostScript
    file named .jpg to Ghostscript. Everything here that reads an image goes through this function.
    """
    try:
        check_regular(path, "an image file")
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            explain(expected="an image file", got="no such file", where=str(path), do="restore the file")
        ) from None
    except UnidentifiedImageError:
        raise DataError(
            explain(
                expected="a readable image",
                got=f"a file that is no image in one of the formats {', '.join(FORMATS)}",
                where=str(path),
                do="replace the file, or take it out of the data set",
            )
        ) from None
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise DataError(
            explain(
                expected=f"an image of at most {most / 1e6:.0f} million pixels",
                got="a larger one, which may be a decompression bomb",
                where=str(path),
                do="scale it down, or take it out of the data set",
            )
        ) from error
    except UNREADABLE as error:
        raise DataError(
            explain(
                expected="a readable image",
                got=f"a broken one ({str(error) or type(error).__name__})",
                where=str(path),
                do="replace the file, or take it out of the data set",
            )
        ) from error


def small_rgb(path: Path, size_px: int) -> tuple[Image.Image, float]:
    """Return an image for people to look at, and by what it was scaled.

    Args:
        path: the image file.
        size_px: its longer side is at most this long.

    Raises:
        DataError: as `open_image`.
    """
    with open_image(path) as image:
        width, height = image.size
        image.draft("RGB", (size_px, size_px))  # JPEGs are decoded at the smallest size that suffices
        picture = image.convert("RGB")
    scale = min(1.0, size_px / max(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0), scale
