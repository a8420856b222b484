"""Lowering many points' radii by many centers, tile by tile: what a center is surely too far from is never looked at.

Shapes: N points, D dimensions, K centers, T tiles of P = `TILE` points.

Neighbors in an image are mostly neighbors in feature space, so points that are given in a spatial order lie in small
balls, tile by tile. By the triangle inequality a center changes no radius of a tile if even the nearest point of its
ball is too far; for all tiles and centers at once that is one small matrix product. What it can't exclude is computed,
with a look every 16 dimensions at whether it is too far by now. Where balls exclude little (points without structure),
a large matrix product bounds every distance from below, and only those that may count are computed.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

HAS_NUMBA = numba is not None
UNIT = float(np.finfo(np.float32).eps) / 2  # unit roundoff u of float32
TILE = 64
_STEP = 16  # dimensions added between two looks; features are padded to a multiple
# From 32 bits to every other of 64, in five steps.
_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
_CHUNK = 256  # centers compared with all balls at once: radii are lower for the next ones
_MANY = 0.4  # of all pairs of tile and center: from there on a product of everything is faster
_OFF_CENTER = 4  # squared distance of the points from the origin, at most, in that from their middle
_ROWS = 1024  # points of one product


class Tiles:
    """Points by tiles, and a ball around each tile.

    Args:
        x_ND: float32, `padded`.
        compiled: whether numba lowers the radii.
    """

    def __init__(self, x_ND: np.ndarray, compiled: bool) -> None:
        self.x_ND = x_ND
        self.square_N = np.einsum("nd,nd->n", x_ND, x_ND)
        self._lower = _lower_compiled if compiled else _lower
        starts = np.arange(0, len(x_ND), TILE)
        self.starts_T = starts
        count_T = np.diff(np.append(starts, len(x_ND)))
        middle_TD = (
            (np.add.reduceat(x_ND, starts, 0, np.float64) / count_T[:, None]).astype(np.float32) if len(x_ND) else x_ND
        )
        square_N = np.zeros(len(x_ND), np.float32)
        for start in range(0, len(x_ND), 1 << 14):
            part = slice(start, start + (1 << 14))
            square_N[part] = ((x_ND[part] - np.repeat(middle_TD, count_T, 0)[part]) ** 2).sum(1)
        self.slack = 3 * (x_ND.shape[1] + 8) * UNIT
        self.ball_T = np.sqrt(np.maximum.reduceat(square_N, starts)) * (1 + self.slack) if len(x_ND) else square_N
        # Products of what is far from the origin cancel badly: all places are measured from the middle of everything.
        self.origin_D = middle_TD.mean(0, dtype=np.float64) if len(x_ND) else np.zeros(x_ND.shape[1])
        self.middle_TD = (middle_TD - self.origin_D).astype(np.float32)
        self.middle_sq_T = (self.middle_TD**2).sum(1)
        # A product of the points as they are says nothing of distances that are small against places.
        spread = ((np.sqrt(self.middle_sq_T) + self.ball_T) ** 2).max(initial=0)
        self.can_multiply = compiled and HAS_NUMBA and bool(self.square_N.max(initial=0) <= _OFF_CENTER * spread)

    @cached_property
    def x_TDP(self) -> np.ndarray:  # noqa: N802 - T tiles, D dimensions, P points of each
        """The points by tiles, once somebody needs them so."""
        return tiled(self.x_ND)

    def lower(self, radius_N: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray) -> None:
        """Lower every radius, in place: r_n = min(r_n, |x_n - c_k|^2 inverse_k) over k."""
        if not len(radius_N):
            return
        for start in range(0, len(c_KD), _CHUNK):
            c, inverse = c_KD[start : start + _CHUNK], inverse_K[start : start + _CHUNK]
            near_TK = self.within(np.maximum.reduceat(radius_N, self.starts_T), c, inverse)
            if self.can_multiply and near_TK.mean() > _MANY:
                self._lower_by_product(radius_N, c, inverse)
            else:
                self._lower(radius_N, self.x_TDP, c, inverse, near_TK)

    def _lower_by_product(self, radius_N: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray) -> None:
        """Lower radii where a bound from below says that they may be smaller.

        The bound (|x|^2 + |c|^2)(1 - 2 slack) - 2 x.c is below |x - c|^2 whatever rounding did.
        """
        weight_K = inverse_K * np.float32(1 - 2 * self.slack)
        offset_K = np.einsum("kd,kd->k", c_KD, c_KD) * weight_K
        scaled_DK = np.ascontiguousarray((c_KD * (-2 * inverse_K[:, None])).T)
        product_NK = np.empty((min(_ROWS, len(self.x_ND)), len(c_KD)), np.float32)
        for start in range(0, len(self.x_ND), _ROWS):
            some = slice(start, start + _ROWS)
            x_ND = self.x_ND[some]
            part_NK = np.matmul(x_ND, scaled_DK, out=product_NK[: len(x_ND)])
            _lower_where(radius_N[some], x_ND, c_KD, inverse_K, part_NK, self.square_N[some], weight_K, offset_K)

    def within(self, limit_T: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray) -> np.ndarray:
        """Return (T, K) bool: False where |x - c_k|^2 inverse_k is below the tile's limit for none of its points.

        That holds whatever rounding did.
        """
        c = (c_KD - self.origin_D).astype(np.float32)
        sq = self.middle_sq_T[:, None] + (c**2).sum(1)
        # The product's error is absolute, at most (D + 8) u (|m| + |c|)^2; three times that leaves no doubt.
        distance = np.sqrt(np.maximum(sq * (1 - 2 * self.slack) - 2 * (self.middle_TD @ c.T), 0))
        least = np.maximum(distance - self.ball_T[:, None], 0)
        return np.asarray(least**2 * (inverse_K * np.float32(1 - self.slack)) < limit_T[:, None])


def lower_all(radius_N: np.ndarray, x_TDP: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray, compiled: bool) -> None:
    """Lower the radii of a few points, without looking at balls first; see `Tiles.lower`."""
    near_TK = np.ones((len(x_TDP), len(c_KD)), bool)
    (_lower_compiled if compiled else _lower)(radius_N, x_TDP, c_KD, inverse_K, near_TK)


def spatial_order(pixels: np.ndarray, width: int) -> np.ndarray:
    """Return the order of flat pixel indices along a Z-curve.

    What follows each other there is close in rows and columns, at every scale.
    """
    bits = []
    for at in np.divmod(np.asarray(pixels, np.int64), width):
        spread = at.astype(np.uint64)
        for shift, mask in _SPREAD:
            spread = (spread | (spread << np.uint64(shift))) & np.uint64(mask)
        bits.append(spread)
    return np.argsort((bits[0] << np.uint64(1)) | bits[1], kind="stable")


def padded(features: np.ndarray) -> np.ndarray:
    """Return float32 features with zero columns up to a multiple of what is added between two looks."""
    n, dim = features.shape
    out = np.zeros((n, max(1, -(-dim // _STEP)) * _STEP), np.float32)
    out[:, :dim] = features
    return out


def tiled(x_ND: np.ndarray) -> np.ndarray:
    """Return (T, D, P): one dimension of a tile side by side; the last tile is filled up with zeros."""
    n, dim = x_ND.shape
    out = np.zeros((-(-n // TILE), dim, TILE), np.float32)
    full = n // TILE
    out[:full] = x_ND[: full * TILE].reshape(full, TILE, dim).transpose(0, 2, 1)
    if full < len(out):
        out[full, :, : n - full * TILE] = x_ND[full * TILE :].T
    return out


def _lower(
    radius_N: np.ndarray, x_TDP: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray, near_TK: np.ndarray
) -> None:
    for tile, k in zip(*np.nonzero(near_TK), strict=True):
        block_N = radius_N[tile * TILE : (tile + 1) * TILE]
        difference_DP = x_TDP[tile] - c_KD[k][:, None]
        np.minimum(block_N, ((difference_DP**2).sum(0) * inverse_K[k])[: len(block_N)], out=block_N)


_lower_compiled: Callable[..., None] = _lower
_lower_where: Any = None  # without numba nobody multiplies
if numba is not None:

    @numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    def _lower_by_tiles(radius_N, x_TDP, c_KD, inverse_K, near_TK):  # type: ignore[no-untyped-def]
        dim = x_TDP.shape[1]
        sq, radius = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        for tile in range(len(x_TDP)):
            start = tile * TILE
            num = min(TILE, len(radius_N) - start)
            radius[:] = -np.inf
            radius[:num] = radius_N[start : start + num]
            for k in range(len(c_KD)):
                if not near_TK[tile, k]:
                    continue
                inverse, c = inverse_K[k], c_KD[k]
                sq[:] = 0
                for d in range(0, dim, 8):  # eight at once: the sums stay in registers
                    x0, x1, x2, x3 = x_TDP[tile, d], x_TDP[tile, d + 1], x_TDP[tile, d + 2], x_TDP[tile, d + 3]
                    x4, x5, x6, x7 = x_TDP[tile, d + 4], x_TDP[tile, d + 5], x_TDP[tile, d + 6], x_TDP[tile, d + 7]
                    c0, c1, c2, c3, c4, c5, c6, c7 = (
                        c[d],
                        c[d + 1],
                        c[d + 2],
                        c[d + 3],
                        c[d + 4],
                        c[d + 5],
                        c[d + 6],
                        c[d + 7],
                    )
                    for n in range(TILE):
                        z0, z1, z2, z3, z4, z5, z6, z7 = (
                            x0[n] - c0,
                            x1[n] - c1,
                            x2[n] - c2,
                            x3[n] - c3,
                            x4[n] - c4,
                            x5[n] - c5,
                            x6[n] - c6,
                            x7[n] - c7,
                        )
                        sq[n] += ((z0 * z0 + z1 * z1) + (z2 * z2 + z3 * z3)) + (
                            (z4 * z4 + z5 * z5) + (z6 * z6 + z7 * z7)
                        )
                    if d % 16 == 8:
                        num_near = 0
                        for n in range(TILE):
                            num_near += sq[n] * inverse < radius[n]
                        if num_near == 0:  # sums only grow: this center is too far from the whole tile
                            break
                for n in range(TILE):
                    radius[n] = min(radius[n], sq[n] * inverse if num_near else radius[n])
            radius_N[start : start + num] = radius[:num]

    @numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    def _lower_if_near(radius_N, x_ND, c_KD, inverse_K, product_NK, square_N, weight_K, offset_K):  # type: ignore[no-untyped-def]
        for n in range(len(radius_N)):
            radius, square, num_near = radius_N[n], square_N[n], 0
            for k in range(len(c_KD)):
                # what overflowed is looked at
                num_near += not (product_NK[n, k] + square * weight_K[k] + offset_K[k] >= radius)
            if num_near == 0:
                continue
            for k in range(len(c_KD)):
                if not (product_NK[n, k] + square * weight_K[k] + offset_K[k] >= radius):
                    total = np.float32(0)
                    for d in range(x_ND.shape[1]):
                        total += (x_ND[n, d] - c_KD[k, d]) ** 2
                    radius = min(radius, total * inverse_K[k])
            radius_N[n] = radius

    _lower_compiled, _lower_where = _lower_by_tiles, _lower_if_near
