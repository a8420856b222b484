"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9,400 drawn frames; their classes are 16 of Cityscapes' 19.

A label is a 16-bit RGB PNG with the class in R and the object's number in G. Readers of 8 bits, Pillow too, keep the
high bytes of each channel, which are all zero. Here Pillow is told to unpack the low bytes, and a file that went
through such a reader is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from al_lab.core.errors import DataError, explain
from al_lab.data.datasets.domains import SHARED_16, Domain, paired_names, to_train_ids
from al_lab.data.formats.images import open_image

_COUNT = 9_400
# Raw id to class; the classes of SHARED_16 in their order. 0 void, 13 parking slot, 14 road work, 16 terrain, 18 truck,
# 20 train, 22 lane marking.
_RAW = (3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11)
_TRAIN_IDS = {raw: k for k, raw in enumerate(_RAW)}
_IDS = range(23)
_HIGH, _LOW = "RGB;16B", "RGB;16L"  # Pillow's own unpacker for such a file keeps the high byte of big-endian samples


class Synthia(Domain):
    """``RGB/0000000.png`` and ``GT/LABELS/0000000.png``."""

    def __init__(self, root: str, list_file: str | None = None, check_counts: bool = True) -> None:
        """Index the folder.

        Args:
            root: folder with RGB/ and GT/LABELS/ (RAND_CITYSCAPES of the archive).
            list_file: names one a line; None takes every image.
            check_counts: refuse another number of images than the official one, where there is no list.

        Raises:
            DataError: if images are missing.
        """
        base = Path(root).expanduser()
        names = paired_names(base / "RGB", base / "GT" / "LABELS", list_file, _COUNT if check_counts else None,
                             "'al-lab data download synthia' says where it is")  # fmt: skip
        images, labels = ({n: base / folder / f"{n}.png" for n in names} for folder in ("RGB", "GT/LABELS"))
        super().__init__(SHARED_16, images, labels, {"pool": names})

    def label_rule(self) -> str | None:
        """Return the ids of this benchmark and the number of classes."""
        return f"{type(self).__qualname__} {len(self.classes)}"

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read the red channel of a 16-bit RGB PNG (16 classes)."""
        low_HW3, high_HW3 = _unpack(path, _LOW), _unpack(path, _HIGH)
        if high_HW3[..., 0].any():
            raise _wrong(
                path, f"ids up to {256 * int(high_HW3[..., 0].max()) + 255} (8-bit colors stretched to 16 bits?)"
            )
        if not low_HW3[..., 0].any():
            swapped = low_HW3[..., 2].any()
            raise _wrong(
                path, "ids in B (OpenCV's reader and writer swap R and B)" if swapped else "zeros in R all over"
            )
        return to_train_ids(low_HW3[..., 0], _TRAIN_IDS, _IDS)


def _unpack(path: Path, unpacker: str) -> np.ndarray:
    """Return one byte of each 16-bit channel, (H, W, 3) uint8."""
    with open_image(path) as image:
        stored = str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""
        if not isinstance(image, PngImageFile) or stored != _HIGH:
            pixels = stored if "16" in stored else f"8-bit {image.mode}"
            raise _wrong(path, f"a {image.format} of {pixels} pixels (saved again by a tool, and the ids are lost?)")
        # Big-endian samples read as little-endian ones: what is taken for the high byte is the low one.
        image.tile = [tile._replace(args=unpacker) for tile in image.tile]
        return np.array(image)


def _wrong(path: Path, got: str) -> DataError:
    return DataError(
        explain(
            expected="a 16-bit RGB PNG with the class in R",
            got=got,
            where=str(path),
            do="use the file of the original archive (GT/LABELS, not GT/COLOR)",
        )
    )
