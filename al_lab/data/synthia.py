"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9,400 drawn frames; their classes are 16 of Cityscapes' 19.

A label is a 16-bit RGB PNG with the class in R and the object's number in G. Pillow reads it as 8-bit and keeps the high bytes, which
are all zero, so labels are read with torchvision, and a file that went through such a reader is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.data.domains import SHARED_16, Domain, paired_names, to_train_ids

_COUNT = 9_400
# Raw id to class; the classes of SHARED_16 in their order. 0 void, 13 parking slot, 14 road work, 16 terrain, 18 truck, 20 train, 22 lane marking.
_RAW = (3, 4, 2, 21, 5, 7, 15, 9, 6, 1, 10, 17, 8, 19, 12, 11)
_TRAIN_IDS = {raw: k for k, raw in enumerate(_RAW)}
_IDS = range(23)


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
                             "'python scripts/data.py download synthia' says where it is")  # fmt: skip
        images, labels = ({n: base / folder / f"{n}.png" for n in names} for folder in ("RGB", "GT/LABELS"))
        super().__init__(SHARED_16, images, labels, {"pool": names})

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read the red channel of a 16-bit RGB PNG (16 classes)."""
        channels = _decode_16bit(path)
        raw_HW = channels[0]
        if not raw_HW.any() and channels[1:].any():
            raise _wrong(path, "nothing in R but ids in another channel (R and B are swapped by OpenCV's writer)")
        if raw_HW.max(initial=0) > np.iinfo(np.uint8).max:
            raise _wrong(path, f"ids up to {raw_HW.max()} (8-bit colors stretched to 16 bits?)")
        return to_train_ids(raw_HW.astype(np.uint8), _TRAIN_IDS, _IDS)


def _decode_16bit(path: Path) -> np.ndarray:
    """Return (3, H, W) uint16."""
    from torchvision.io import ImageReadMode, decode_png, read_file  # noqa: PLC0415 - takes seconds; only SYNTHIA needs it

    if not path.is_file():
        raise DataError(explain(expected="a label", got="no such file", where=str(path), do="restore the file"))
    try:
        image = decode_png(read_file(str(path)), ImageReadMode.UNCHANGED).numpy()
    except RuntimeError as error:
        raise _wrong(path, f"a broken file or no PNG ({str(error).splitlines()[0]})") from error
    if image.dtype != np.uint16 or len(image) != 3:  # noqa: PLR2004 - R, G, B
        raise _wrong(path, f"{8 * image.dtype.itemsize}-bit, {len(image)} channel(s): a tool saved it again and the ids are lost")
    return image


def _wrong(path: Path, got: str) -> DataError:
    return DataError(explain(expected="a 16-bit RGB PNG with the class in R", got=got, where=str(path),
                             do="use the file of the original archive (GT/LABELS, not GT/COLOR)"))
