"""What people said of an image's pixels: of all of them, or of some."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_lab.core.documents import Entry
from al_lab.core.fields import anything, at_least, list_of, shown
from al_lab.core.types import Region

VOID = 255  # of a label map: a pixel without a class
NO_CLASS = 254  # somebody looked, and it is none of the classes
UNANSWERED = 255  # nobody said anything
_SIZE = list_of(at_least(1), length=2)
_LARGEST = 2**28  # pixels


@dataclass(frozen=True)
class PixelLabels:
    """An answer about one image.

    Attributes:
        map_HW: (H, W) uint8: a class 0..C-1, `NO_CLASS`, or `UNANSWERED`.
    """

    map_HW: np.ndarray

    @classmethod
    def none(cls, size_hw: tuple[int, int]) -> PixelLabels:
        """Return the answer of nobody."""
        return cls(np.full(size_hw, UNANSWERED, np.uint8))

    @property
    def answered_HW(self) -> np.ndarray:
        """(H, W) bool: the pixels that were spoken of."""
        return self.map_HW != UNANSWERED

    @property
    def num_answered(self) -> int:
        """How many pixels were spoken of."""
        return int(np.count_nonzero(self.answered_HW))

    def label_map(self) -> np.ndarray:
        """Return the map as training reads it, (H, W) uint8: a class, or void."""
        return np.where(self.map_HW == NO_CLASS, np.uint8(VOID), self.map_HW)

    def over(self, older: PixelLabels) -> PixelLabels:
        """Return both; where they speak of the same pixel, this one counts."""
        return PixelLabels(np.where(self.answered_HW, self.map_HW, older.map_HW))

    def within(self, region: Region) -> PixelLabels:
        """Return what is said of a region alone."""
        found = np.full(self.map_HW.size, UNANSWERED, np.uint8)
        found[region.pixels] = self.map_HW.reshape(-1)[region.pixels]
        return PixelLabels(found.reshape(self.map_HW.shape))

    def covers(self, region: Region) -> bool:
        """Say whether every pixel of a region was spoken of."""
        return bool((self.map_HW.reshape(-1)[region.pixels] != UNANSWERED).all())

    def contradicts(self, other: PixelLabels) -> bool:
        """Say whether some pixel has two different answers."""
        both = self.answered_HW & other.answered_HW
        return bool((self.map_HW[both] != other.map_HW[both]).any())

    def same_as(self, other: PixelLabels) -> bool:
        """Say whether the two are equal."""
        return np.array_equal(self.map_HW, other.map_HW)

    def for_classes(self, mine: Sequence[str], wanted: Sequence[str]) -> PixelLabels:
        """Return the answer in labels of ``wanted``; a class that is not among them is none of them."""
        table = np.full(256, NO_CLASS, np.uint8)
        table[UNANSWERED] = UNANSWERED
        for label, name in enumerate(mine):
            if name in wanted:
                table[label] = wanted.index(name)
        return PixelLabels(table[self.map_HW])

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the size, and the map packed by zlib in base 64."""
        packed = zlib.compress(np.ascontiguousarray(self.map_HW).tobytes(), 9)
        return {"size_hw": list(self.map_HW.shape), "map": base64.b64encode(packed).decode()}

    @classmethod
    def from_json(cls, entry: Entry, num_classes: int | None = None) -> PixelLabels:
        """Rebuild what `to_json` returned.

        Args:
            entry: of a document.
            num_classes: labels are below it; None: any.

        Raises:
            LabError: of the entry's kind, naming the field that makes no sense.
        """
        height, width = entry.read("size_hw", _SIZE)
        if height * width > _LARGEST:
            raise entry.wrong("size_hw", f"at most {_LARGEST} pixels", f"{height} x {width}")
        raw = _unpack(entry, height * width)
        map_HW = np.frombuffer(raw, np.uint8).reshape(height, width)
        if num_classes is not None and bool(((map_HW >= num_classes) & (map_HW < NO_CLASS)).any()):
            strange = int(map_HW[(map_HW >= num_classes) & (map_HW < NO_CLASS)][0])
            raise entry.wrong("map", f"labels below {num_classes}", str(strange))
        return cls(map_HW)


def _unpack(entry: Entry, size: int) -> bytes:
    said = entry.read("map", anything)
    if not isinstance(said, str):
        raise entry.wrong("map", "a packed label map", shown(said))
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(said, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise entry.wrong("map", "a packed label map", f"a damaged one ({error})") from error
    if len(raw) != size or not unpacker.eof:
        raise entry.wrong("map", f"a label for each of {size} pixels", "more or fewer")
    return raw
