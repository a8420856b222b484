"""Label Studio's brush strokes: RGBA pictures, of which alpha counts, packed by run lengths as @thi.ng/rle-pack does.

https://labelstud.io/guide/export names the format, https://github.com/thi-ng/umbrella (packages/rle-pack) describes it,
a stream of bits: 32 the number of words; 5 the word's size less one; four times 4 the sizes of a run's length less one;
then for each run 1 whether one word is repeated, 2 which of the four sizes its length has, the length less one in that
size, and the word, or as many words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHANNELS = 4
_WORD = 8
_OPAQUE = 128
_HEAD_BITS = 32 + 5 + 4 * 4


class BrushError(ValueError):
    """The stream is not what its size says."""


def decode_alpha(packed: Sequence[int], size_hw: tuple[int, int]) -> np.ndarray:
    """Return the mask of a stroke.

    Args:
        packed: bytes, 0..255.
        size_hw: of the picture; it says how much is unpacked, whatever the stream claims.

    Returns:
        (H, W) bool: where alpha is at least one half.

    Raises:
        BrushError: saying what was expected.
    """
    bits = np.unpackbits(np.asarray(packed, np.uint8))
    if len(bits) < _HEAD_BITS:
        raise BrushError(f"{_HEAD_BITS} bits of a head, got {len(bits)}")
    text = (bits + ord("0")).tobytes().decode()  # slices of it are read as numbers
    total = size_hw[0] * size_hw[1] * _CHANNELS
    words, word_size = _number(text, 0, 32), _number(text, 32, 5) + 1
    if words != total or word_size != _WORD:
        raise BrushError(f"{total} words of 8 bits for {size_hw[0]} x {size_hw[1]} pixels, got {words} of {word_size}")
    sizes = [_number(text, 37 + 4 * k, 4) + 1 for k in range(4)]
    out = np.empty(total, np.uint8)
    place, at = _HEAD_BITS, 0
    while at < total:
        if place + 3 > len(bits):
            raise BrushError(f"{total} words, got {at}")
        size = sizes[_number(text, place + 1, 2)]
        start = place + 3 + size
        if start > len(bits):
            raise BrushError(f"{total} words, got {at}")
        count = _number(text, place + 3, size) + 1
        given = 1 if bits[place] else count
        place = start + given * _WORD
        if place > len(bits) or at + count > total:
            raise BrushError(f"runs that end after {total} words, got others")
        values = np.packbits(bits[start:place])
        out[at : at + count] = values  # one value is repeated
        at += count
    alpha: np.ndarray = out.reshape(*size_hw, _CHANNELS)[..., 3] >= _OPAQUE
    return alpha


def _number(bits: str, start: int, size: int) -> int:
    return int(bits[start : start + size], 2)


def encode_alpha(mask_HW: np.ndarray) -> list[int]:
    """Return a mask as Label Studio takes it: white where it is true, nothing elsewhere.

    Args:
        mask_HW: (H, W) bool.

    Returns:
        Bytes, 0..255.
    """
    words = np.repeat(mask_HW.reshape(-1), _CHANNELS)  # all four channels are 255, or 0
    starts = np.flatnonzero(np.diff(words, prepend=~words[:1]))
    lengths = np.diff(starts, append=len(words))
    parts = [f"{len(words):032b}{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "11111111" if words[start] else "00000000"
        for done in range(0, length, 2**16):
            parts.append(f"111{min(2**16, length - done) - 1:016b}{value}")
    stream = "".join(parts)
    return list(int(stream.ljust(-(-len(stream) // 8) * 8, "0"), 2).to_bytes(-(-len(stream) // 8), "big"))
