"""Images that are nearly the same by their embeddings: seen from elsewhere, mirrored, which no fingerprint notices.

Shapes: N images, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: A near copy is nearer than this part of the usual distance between two images; ours. SqueezeNet on 2,007 photographs
#: of VOC: 0.4 finds 99 of 100 images mirrored or cropped by a tenth, and 14 pairs, each of one scene; at 0.5 some of 42
#: pairs are strangers, at 0.25 a quarter of what is mirrored is found.
NEAR = 0.4
Cosine = float | str | None  #: a number, ``auto``, or None: not looked for
_BLOCK = 256
_DRAWN = 2000  # images that tell the usual distance


def unit(vectors_NE: np.ndarray) -> np.ndarray:
    """Return the vectors at length 1, float32; a zero or a NaN becomes zeros, which is near nothing."""
    x_NE = np.nan_to_num(np.asarray(vectors_NE, np.float32), posinf=0.0, neginf=0.0)
    length_N1 = np.linalg.norm(x_NE, axis=1, keepdims=True)
    return np.divide(x_NE, length_N1, out=np.zeros_like(x_NE), where=length_N1 > 0)


def near_cosine(vectors_NE: np.ndarray, asked: Cosine = "auto") -> float | None:
    """Return from which cosine on two images are near copies; None: vectors tell nothing.

    A cosine of 0.95 is a near copy to one network and two strangers to the next, so ``auto`` looks at the pool: with
    the median cosine c of two images, those nearer than `NEAR` of the usual distance √(2 - 2 c), that is from
    1 - `NEAR`² (1 - c) on (of unit vectors, d² = 2 - 2 cos).

    Args:
        vectors_NE: of the pool, of any length.
        asked: a cosine, ``auto``, or None.
    """
    if not isinstance(asked, str):
        return asked
    drawn = np.sort(np.random.default_rng(0).permutation(len(vectors_NE))[:_DRAWN])
    some = unit(vectors_NE[drawn])
    some = some[(some != 0).any(1)]
    if len(some) < 3:  # noqa: PLR2004 - of two, the usual distance is their own
        return None
    cosine = (some @ some.T)[np.triu_indices(len(some), 1)]
    return float(1 - NEAR**2 * (1 - np.median(cosine)))


@dataclass(frozen=True)
class Nearest:
    """The nearest of some images to each of N others.

    Attributes:
        row: (N,) int64, which one; -1: none is near enough.
        cosine: (N,) float32.
    """

    row: np.ndarray
    cosine: np.ndarray

    @property
    def is_near(self) -> np.ndarray:
        """(N,) bool."""
        return np.asarray(self.row >= 0)


def nearest_of(unit_NE: np.ndarray, others_ME: np.ndarray, min_cosine: float) -> Nearest:
    """Return the nearest of M others to each of N images, block by block: no N x M table."""
    row_N, cosine_N = np.full(len(unit_NE), -1), np.zeros(len(unit_NE), np.float32)
    if len(others_ME):
        for begin in range(0, len(unit_NE), _BLOCK):
            cosine = unit_NE[begin : begin + _BLOCK] @ others_ME.T
            at, mine = cosine.argmax(1), slice(begin, begin + len(cosine))
            cosine_N[mine] = cosine[np.arange(len(at)), at]
            row_N[mine] = np.where(cosine_N[mine] >= min_cosine, at, -1)
    return Nearest(row_N, cosine_N)


def copies_of_earlier(unit_NE: np.ndarray, min_cosine: float) -> Nearest:
    """Return which images are near an earlier one that stays; of near copies the first stays.

    Chains don't swallow a film: an image is compared with those that stay, not with those that were left out. Memory is
    a block against the rows that stay; time is at most that of all pairs.
    """
    num, num_kept = len(unit_NE), 0
    row_N, cosine_N = np.full(num, -1), np.zeros(num, np.float32)
    kept_NE, kept_N = np.empty_like(unit_NE), np.empty(num, np.int64)
    for begin in range(0, num, _BLOCK):
        block = unit_NE[begin : begin + _BLOCK]
        before = nearest_of(block, kept_NE[:num_kept], min_cosine)
        within, stays = block @ block.T, np.zeros(len(block), bool)
        for k in range(len(block)):
            if before.row[k] >= 0:
                row_N[begin + k], cosine_N[begin + k] = kept_N[before.row[k]], before.cosine[k]
                continue
            like = np.flatnonzero(stays & (within[k] >= min_cosine))
            if len(like):
                best = like[within[k, like].argmax()]
                row_N[begin + k], cosine_N[begin + k] = begin + best, within[k, best]
            else:
                stays[k] = True
        more = np.flatnonzero(stays)
        kept_NE[num_kept : num_kept + len(more)], kept_N[num_kept : num_kept + len(more)] = block[more], begin + more
        num_kept += len(more)
    return Nearest(row_N, cosine_N)
