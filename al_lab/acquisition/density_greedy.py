"""Density-aware greedy core-set: farthest-point sampling in which a center of low coverage density looks farther away.

Shapes: N points, D dimensions, K centers, B picks, F points of the front.

A pick only depends on the points of largest radius. So take the F points of largest radius (the *front*), pick among them while the best
beats every point outside, and only then update all N points for the whole block of new centers: the features are streamed once a block
instead of once a pick, and no N x N matrix exists.

Exactness: squared distances are sums of squared float32 differences, never |x|^2 + |c|^2 - 2 x.c, so their error is *relative*: at most
(D + 8) u. Points that this error can't tell apart (and only they) are compared in float64. The order is that of the textbook loop in
float64 on the same float32 features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

try:
    import numba
except ImportError:
    numba = None  # type: ignore[assignment]

_UNIT = float(np.finfo(np.float32).eps) / 2  # unit roundoff u of float32
_STEP = 16  # dimensions added between two looks at whether a center is too far already; features are padded to a multiple
_TILE = 64  # points updated at once; neighbors in an image are often neighbors in feature space, so whole tiles are passed over


@dataclass(frozen=True)
class DensityGreedy:
    """What `density_greedy` returns.

    Attributes:
        order: (B,) int64 rows, in the order they were picked.
        radius: (B,) float64, r of each pick when it was picked (a *squared* distance over a density), to float32's precision, never
            increasing; inf for a first pick without centers.
    """

    order: np.ndarray
    radius: np.ndarray


def density_greedy(features: np.ndarray, density: np.ndarray | float, budget: int, bought: Sequence[int] | np.ndarray = (), *,
                   is_candidate: np.ndarray | None = None, tie_key: np.ndarray | None = None, first: int | None = None, front: int = 512,
                   compiled: bool | None = None) -> DensityGreedy:
    """Pick, ``budget`` times, the candidate of largest density-weighted squared distance to its nearest center.

    Density Matters (arXiv 2312.09595), Alg. 1:  r_t = min_{k in s} |f_t - f_k|^2 / d_k;  u = argmax_{t not in s} r_t;  s = s + {u}.

    The divisor is the density of the *center*, never of the candidate. Equal densities give greedy k-center; a common factor of all
    densities changes nothing. Equal radii go to the smallest ``tie_key``. Time O((|bought| + B) N D), memory O(N D).

    Args:
        features: (N, D) real, candidates and bought points; used as float32. Normalize them before, if at all.
        density: (N,) > 0, or one number for all.
        budget: how many to pick; if fewer candidates are left, all of them are.
        bought: rows that are centers already (s_0).
        is_candidate: (N,) bool, which rows may be picked (the filter); default all. Rows neither candidate nor bought play no part.
        tie_key: (N,) sortable, unique numbers; default the row number.
        first: the first pick if nothing is bought (Alg. 1 leaves it open); default the candidate of the smallest ``tie_key``.
        front: points looked at closely in a block; changes the speed only.
        compiled: whether numba updates the radii; default if it is installed. Same picks either way.

    Raises:
        ValueError: features or densities that are not finite or not positive, rows and keys that do not fit them.
    """
    features = np.asarray(features)
    _check_features(features)
    n = len(features)
    density = np.broadcast_to(np.asarray(density, np.float64), (n,)) if np.ndim(density) == 0 else np.asarray(density, np.float64)
    bought = np.unique(np.asarray(bought, np.int64).reshape(-1))
    key = np.arange(n) if tie_key is None else np.asarray(tie_key)
    open_N = np.ones(n, bool) if is_candidate is None else np.array(is_candidate, bool)
    _check_rows(n, density, bought, key, open_N, first, budget, front)
    open_N[bought] = False
    if first is not None and not len(bought) and not open_N[first]:
        raise ValueError(f"density_greedy: expected first to be a candidate, got row {first}, which the filter excludes; pick one it keeps")
    rows = np.flatnonzero(open_N)
    if compiled is None:
        compiled = numba is not None
    state = _Greedy(features, density, rows, bought, key, front, compiled)
    start = None if first is None else int(np.searchsorted(rows, first))
    return state.run(min(budget, len(rows)), start)


def _check_features(features: np.ndarray) -> None:
    if features.ndim != 2:
        raise ValueError(f"density_greedy: expected features of shape (N, D), got {features.shape}; give one row a pixel")
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(features.astype(np.float32, copy=False)).all(1))
    if len(bad):
        raise ValueError(f"density_greedy: expected finite float32 features, got {len(bad)} rows that are not, the first is row {bad[0]}; "
                         "the network diverged")


def _check_rows(n: int, density: np.ndarray, bought: np.ndarray, key: np.ndarray, open_N: np.ndarray, first: int | None, budget: int,
                front: int) -> None:
    for what, values in (("density", density), ("tie_key", key), ("is_candidate", open_N)):
        if values.shape != (n,):
            raise ValueError(f"density_greedy: expected one {what} a row ({n}), got shape {values.shape}; index it like the features")
    bad = np.flatnonzero(~(np.isfinite(density) & (density > 0)))
    if len(bad):
        raise ValueError(f"density_greedy: expected positive finite densities, got {density[bad[0]]} in row {bad[0]}; "
                         "use beta exp(-error / tau) with an error scaled to 0..1")
    rows = bought if first is None else np.append(bought, first)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(f"density_greedy: expected bought and first rows in 0..{n - 1}, got {rows.min()}..{rows.max()}; "
                         "give positions in `features`, not pixel indices")
    if budget < 0 or front < 1:
        raise ValueError(f"density_greedy: expected budget >= 0 and front >= 1, got {budget} and {front}; check the budget's config")


class _Greedy:
    """The state of one selection; positions count the candidates, in order of their rows."""

    def __init__(self, features: np.ndarray, density: np.ndarray, rows: np.ndarray, bought: np.ndarray, key: np.ndarray, front: int,
                 compiled: bool) -> None:
        self.rows, self.key, self.front = rows, key[rows], front
        self._lower = _lower_compiled if compiled else _lower
        dim = features.shape[1]
        self.x_ND = _padded(features[rows])
        self.x_TDP = _tiled(self.x_ND)
        self.density_N = density[rows]
        self.slack = 3 * (dim + 8) * _UNIT  # two values farther apart than this, relatively, are in that order
        self.radius_N = np.full(len(rows), np.inf, np.float32)
        self.center_KD, self.center_density_K = _padded(features[bought]), density[bought]
        # Only ratios of densities matter: measured in their geometric mean, 1/d stays in float32's range.
        self.unit = float(np.exp(np.log(density).mean())) if len(density) else 1.0
        self._settle(self.center_KD, self.center_density_K)
        self._exact_N = np.full(len(rows), np.inf)  # float64 radius over the first `_seen` centers, where it was needed
        self._seen_N = np.zeros(len(rows), np.int64)
        self.num = self.num_bought = len(bought)

    def run(self, budget: int, first: int | None) -> DensityGreedy:
        picks, radius = np.zeros(budget, np.int64), np.full(budget, np.inf)
        grown = np.empty((self.num + budget, self.x_ND.shape[1]), np.float32)
        grown[: self.num] = self.center_KD
        self.center_KD, self.center_density_K = grown, np.concatenate([self.center_density_K, np.zeros(budget)])
        self.picks_B, self.radius_B = picks, radius
        if budget and not self.num:
            self._append(int(self.key.argmin()) if first is None else first, np.inf)
            self._settle_from(0)
        while self.num < len(self.center_KD):
            before = self.num
            if not self._pick_block():
                break
            self._settle_from(before)
        return DensityGreedy(self.rows[picks], np.minimum.accumulate(radius / self.unit) if budget else radius)

    def _append(self, position: int, radius: float) -> None:
        pick = self.num - self.num_bought
        self.picks_B[pick], self.radius_B[pick] = position, radius
        self.center_KD[self.num], self.center_density_K[self.num] = self.x_ND[position], self.density_N[position]
        self.num += 1

    def _settle_from(self, before: int) -> None:
        """Make the centers from number ``before`` on count for every candidate."""
        self._settle(self.center_KD[before : self.num], self.center_density_K[before : self.num])
        self.radius_N[self.picks_B[before - self.num_bought : self.num - self.num_bought]] = -np.inf

    def _settle(self, c_KD: np.ndarray, density_K: np.ndarray) -> None:
        self._lower(self.radius_N, self.x_TDP, c_KD, (self.unit / density_K).astype(np.float32))

    def _pick_block(self) -> bool:
        """Append at least one center: all that can be decided among the candidates of the front. False if all is decided."""
        positions, outside = _largest(self.radius_N, self.front)
        x_FD, radius_F = self.x_ND[positions], self.radius_N[positions]
        x_TDP = _tiled(x_FD)
        inverse_F = (self.unit / self.density_N[positions]).astype(np.float32)
        picked = False
        while self.num < len(self.center_KD):
            best = float(radius_F.max())
            if best * (1 - self.slack) <= outside:
                if not picked:  # more candidates than the front holds are as far as the best
                    return self._pick_among_all(best)
                return True
            tied = np.flatnonzero(radius_F >= best * (1 - self.slack))
            at = int(tied[0]) if len(tied) == 1 else int(tied[self._first_of(positions[tied])])
            self._append(int(positions[at]), float(radius_F[at]))
            picked = True
            self._lower(radius_F, x_TDP, x_FD[at : at + 1], inverse_F[at : at + 1])
            radius_F[at] = -np.inf
        return True

    def _pick_among_all(self, best: float) -> bool:
        if best > 0:
            tied = np.flatnonzero(self.radius_N >= best * (1 - self.slack))
            at = int(tied[self._first_of(tied)])
            self._append(at, float(self.radius_N[at]))
            return True
        # Every candidate left lies on a center: buying one changes nothing, so the rest goes by the tie key alone.
        left = np.flatnonzero(self.radius_N > -np.inf)
        for position in left[np.argsort(self.key[left], kind="stable")][: len(self.center_KD) - self.num]:
            self._append(int(position), 0.0)
        return False

    def _first_of(self, positions: np.ndarray) -> int:
        """Return which of the positions has the largest radius in float64; of equal ones, the smallest tie key's."""
        for position in positions:
            seen = self._seen_N[position]
            if seen < self.num:  # a point met before only needs the centers since then
                difference = self.center_KD[seen : self.num].astype(np.float64) - self.x_ND[position]
                newer = ((difference**2).sum(1) / self.center_density_K[seen : self.num]).min()
                self._exact_N[position] = min(self._exact_N[position], newer)
        self._seen_N[positions] = self.num
        exact = self._exact_N[positions]
        best = np.flatnonzero(exact == exact.max())
        return int(best[self.key[positions[best]].argmin()])


def _padded(features: np.ndarray) -> np.ndarray:
    """Return float32 features with zero columns up to a multiple of `_STEP`."""
    n, dim = features.shape
    out = np.zeros((n, max(1, -(-dim // _STEP)) * _STEP), np.float32)
    out[:, :dim] = features
    return out


def _largest(values: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return the positions of the ``count`` largest values that are > -inf, and the largest value among the others."""
    if count >= len(values):
        return np.flatnonzero(values > -np.inf), -np.inf
    order = np.argpartition(values, len(values) - count - 1)[-count - 1 :]
    return order[1:][values[order[1:]] > -np.inf], float(values[order[0]])


def _tiled(x_ND: np.ndarray) -> np.ndarray:
    """Return (T, D, `_TILE`): points by tiles, one dimension of a tile side by side; the last tile is filled up with zeros."""
    n, dim = x_ND.shape
    out = np.zeros((-(-n // _TILE), dim, _TILE), np.float32)
    full = n // _TILE
    out[:full] = x_ND[: full * _TILE].reshape(full, _TILE, dim).transpose(0, 2, 1)
    if full < len(out):
        out[full, :, : n - full * _TILE] = x_ND[full * _TILE :].T
    return out


def _lower(radius_N: np.ndarray, x_TDP: np.ndarray, c_KD: np.ndarray, inverse_K: np.ndarray) -> None:
    """Lower every radius, in place: r_n = min(r_n, |x_n - c_k|^2 inverse_k) over k."""
    for tile in range(len(x_TDP)):
        block_N = radius_N[tile * _TILE : (tile + 1) * _TILE]
        for c_D, inverse in zip(c_KD, inverse_K, strict=True):
            difference_DP = x_TDP[tile] - c_D[:, None]
            np.minimum(block_N, ((difference_DP**2).sum(0) * inverse)[: len(block_N)], out=block_N)


_lower_compiled: Callable[..., None] = _lower
if numba is not None:

    @numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    def _lower_by_tiles(radius_N, x_TDP, c_KD, inverse_K):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        dim = x_TDP.shape[1]
        sq, radius = np.empty(_TILE, np.float32), np.empty(_TILE, np.float32)
        for tile in range(len(x_TDP)):
            start = tile * _TILE
            num = min(_TILE, len(radius_N) - start)
            radius[:] = -np.inf
            radius[:num] = radius_N[start : start + num]
            for k in range(len(c_KD)):
                inverse, c = inverse_K[k], c_KD[k]
                sq[:] = 0
                for d in range(0, dim, 8):  # eight at once: the sums stay in registers
                    x0, x1, x2, x3 = x_TDP[tile, d], x_TDP[tile, d + 1], x_TDP[tile, d + 2], x_TDP[tile, d + 3]
                    x4, x5, x6, x7 = x_TDP[tile, d + 4], x_TDP[tile, d + 5], x_TDP[tile, d + 6], x_TDP[tile, d + 7]
                    c0, c1, c2, c3, c4, c5, c6, c7 = c[d], c[d + 1], c[d + 2], c[d + 3], c[d + 4], c[d + 5], c[d + 6], c[d + 7]
                    for n in range(_TILE):
                        z0, z1, z2, z3, z4, z5, z6, z7 = (x0[n] - c0, x1[n] - c1, x2[n] - c2, x3[n] - c3, x4[n] - c4, x5[n] - c5,
                                                          x6[n] - c6, x7[n] - c7)
                        sq[n] += ((z0 * z0 + z1 * z1) + (z2 * z2 + z3 * z3)) + ((z4 * z4 + z5 * z5) + (z6 * z6 + z7 * z7))
                    if d % 16 == 8:
                        num_near = 0
                        for n in range(_TILE):
                            num_near += sq[n] * inverse < radius[n]
                        if num_near == 0:  # sums only grow: this center is too far from the whole tile
                            break
                for n in range(_TILE):
                    radius[n] = min(radius[n], sq[n] * inverse if num_near else radius[n])
            radius_N[start : start + num] = radius[:num]

    _lower_compiled = _lower_by_tiles
