"""Images that are nearly the same: neighbouring frames, crops by a few pixels, another JPEG quality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from al_lab.data.formats.images import small_rgb

_SIDE = 16  # the fingerprint has 16 x 16 bits
_BITS = _SIDE * _SIDE
_WORD = 16
_WORDS = _BITS // _WORD
#: Bits in which near copies may differ. Two unrelated photographs differ in about half of 256.
MAX_BITS = 2 * _WORDS - 1
_SMALL_PX = 320  # of a picture that is opened for its fingerprint alone
_FLAT = 2.0  # gray levels; a picture of one color resembles every other one


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Return (16,) uint16: for each cell of a 16 x 16 grid, whether it is brighter than its right neighbour.

    The difference hash of N. Krawetz ("Kind of Like That", 2013) at 16 x 16: it survives scaling, compression and
    changes of brightness.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        None for a picture without structure, or smaller than the grid, which would resemble every other such picture.
    """
    if min(image.shape[:2]) <= _SIDE:
        return None
    small = Image.fromarray(image).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    gray = np.asarray(small, np.float32)
    if gray.std() < _FLAT:
        return None
    bits = gray[:, 1:] > gray[:, :-1]
    return np.packbits(bits.reshape(_WORDS, _WORD), axis=1).view(">u2").reshape(-1).astype(np.uint16)


def fingerprint_of_file(path: Path) -> np.ndarray | None:
    """Return the fingerprint of an image that is opened small: up to 7 of its bits are others than of the whole one's.

    Raises:
        DataError: if it can't be opened.
    """
    return fingerprint(np.asarray(small_rgb(path, _SMALL_PX)[0]))


def near_pairs(prints: Mapping[str, np.ndarray], max_bits: int = MAX_BITS) -> Iterator[tuple[str, str, int]]:
    """Yield pairs of ids whose fingerprints differ in few bits, each pair once, and in how many.

    Two prints that differ in at most ``max_bits`` < 2 · 16 bits agree up to one bit in at least one of their 16 words,
    so only images that share a word (up to one bit) are compared: no N x N table.

    Args:
        prints: id to `fingerprint`.
        max_bits: at most `MAX_BITS`.
    """
    if not 0 <= max_bits <= MAX_BITS:
        raise ValueError(f"max_bits: expected 0..{MAX_BITS}, got {max_bits}")
    ids = list(prints)
    if len(ids) < 2:  # noqa: PLR2004
        return
    table = np.stack([prints[i] for i in ids])
    seen: set[tuple[int, int]] = set()
    for word in range(_WORDS):
        rows_of: dict[int, list[int]] = defaultdict(list)
        for row, value in enumerate(table[:, word].tolist()):
            rows_of[value].append(row)
        for value, rows in rows_of.items():
            for other in (value, *(value ^ (1 << bit) for bit in range(_WORD))):
                if other < value or other not in rows_of:
                    continue
                for a, b, bits in _close(table, rows, rows_of[other], max_bits):
                    pair = (min(a, b), max(a, b))
                    if a != b and pair not in seen:
                        seen.add(pair)
                        yield ids[pair[0]], ids[pair[1]], bits


def _close(
    table: np.ndarray, rows: Sequence[int], others: Sequence[int], max_bits: int
) -> Iterator[tuple[int, int, int]]:
    right = table[list(others)]
    for a in rows:
        bits = np.bitwise_count(table[a] ^ right).sum(1)
        for k in np.flatnonzero(bits <= max_bits).tolist():
            yield a, others[k], int(bits[k])
