"""Density-aware greedy core-set: farthest-point sampling in which a center of low coverage density looks farther away.

Shapes: N points, D dimensions, K centers, B picks, F points of the front.

A pick only depends on the points of largest radius. So take the F points of largest radius (the *front*), pick among
them while the best beats every point outside, and only then update all N points for the whole block of new centers: the
features are streamed once a block instead of once a pick, and no N x N matrix exists. Of the N points only those are
touched that a center may be near to (`Tiles`).

Exactness: squared distances are sums of squared float32 differences, never |x|^2 + |c|^2 - 2 x.c, so their error is
*relative*: at most (D + 8) u. Points that this error can't tell apart (and only they) are compared in float64. The
order is that of the textbook loop in float64 on the same float32 features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.device.greedy import DeviceGreedy
from al_lab.acquisition.tiles import HAS_NUMBA, TILE, UNIT, Tiles, lower_all, padded, tiled

_PAIRS = 1 << 17  # points times centers compared in float64 at once
_MANY_CENTERS = 8192  # fewer are all compared sooner than the near ones are found


@dataclass(frozen=True)
class DensityGreedy:
    """What `density_greedy` returns.

    Attributes:
        order: (B,) int64 rows, in the order they were picked.
        radius: (B,) float64, r of each pick when it was picked (a *squared* distance over a density), to float32's
            precision, never increasing; inf for a first pick without centers.
    """

    order: np.ndarray
    radius: np.ndarray


def density_greedy(
    features: np.ndarray | Tensor,
    density: np.ndarray | float,
    budget: int,
    bought: Sequence[int] | np.ndarray = (),
    *,
    is_candidate: np.ndarray | None = None,
    tie_key: np.ndarray | None = None,
    first: int | None = None,
    front: int = 512,
    compiled: bool | None = None,
) -> DensityGreedy:
    """Pick, ``budget`` times, the candidate of largest density-weighted squared distance to its nearest center.

    Density Matters (arXiv 2312.09595), Alg. 1:  r_t = min_{k in s} |f_t - f_k|^2 / d_k;  u = argmax_{t not in s} r_t;
    s = s + {u}.

    The divisor is the density of the *center*, never of the candidate. Equal densities give greedy k-center; a common
    factor of all densities changes nothing. Equal radii go to the smallest ``tie_key``. Time O((|bought| + B) N D),
    memory O(N D).

    Args:
        features: (N, D) real, candidates and bought points; used as float32. Normalize them before, if at all. Much
            faster if rows that follow each other are alike, as pixels in `spatial_order` are; bought ones among
            themselves, too. Of a tensor on a GPU is picked there; only where float64's last digit decides may picks
            differ.
        density: (N,) > 0, or one number for all.
        budget: how many to pick; if fewer candidates are left, all of them are.
        bought: rows that are centers already (s_0).
        is_candidate: (N,) bool, which rows may be picked (the filter); default all. Rows neither candidate nor bought
            play no part.
        tie_key: (N,) sortable, unique numbers; default the row number.
        first: the first pick if nothing is bought (Alg. 1 leaves it open); default the candidate of the smallest
            ``tie_key``.
        front: points looked at closely in a block on a CPU; changes the speed only.
        compiled: whether numba updates the radii on a CPU; default if it is installed. Same picks either way.

    Raises:
        ValueError: features or densities that are not finite or not positive, rows and keys that do not fit them.
    """
    if not isinstance(features, Tensor) or features.device.type == "cpu":
        features = np.asarray(features)
    _check_features(features)
    n = len(features)
    density = (
        np.broadcast_to(np.asarray(density, np.float64), (n,))
        if np.ndim(density) == 0
        else np.asarray(density, np.float64)
    )
    bought = np.unique(np.asarray(bought, np.int64).reshape(-1))
    key = np.arange(n) if tie_key is None else np.asarray(tie_key)
    open_N = np.ones(n, bool) if is_candidate is None else np.array(is_candidate, bool)
    _check_rows(n, density, bought, key, open_N, first, budget, front)
    open_N[bought] = False
    if first is not None and not len(bought) and not open_N[first]:
        raise ValueError(
            f"density_greedy: expected first to be a candidate, got row {first}, which the filter excludes; pick "
            f"one it keeps"
        )
    rows = np.flatnonzero(open_N)
    start = None if first is None else int(np.searchsorted(rows, first))
    if isinstance(features, Tensor):
        return _on_device(features, density, rows, bought, key, min(budget, len(rows)), start)
    state = _Greedy(features, density, rows, bought, key, front, HAS_NUMBA if compiled is None else compiled)
    return state.run(min(budget, len(rows)), start)


def _on_device(
    features: Tensor,
    density: np.ndarray,
    rows: np.ndarray,
    bought: np.ndarray,
    key: np.ndarray,
    budget: int,
    first: int | None,
) -> DensityGreedy:
    x_ND = features.float()
    at_N, mixed = (torch.as_tensor(r, device=x_ND.device) for r in (rows, np.random.default_rng(0).permutation(bought)))
    state = DeviceGreedy(x_ND[at_N], density[rows], key[rows].argsort().argsort())
    state.settle(x_ND[mixed].double(), torch.as_tensor(np.ascontiguousarray(density), device=x_ND.device)[mixed])
    order, radius = state.run(budget, first)
    return DensityGreedy(rows[order], radius)


def _check_features(features: np.ndarray | Tensor) -> None:
    if features.ndim != 2:
        raise ValueError(
            f"density_greedy: expected features of shape (N, D), got {tuple(features.shape)}; give one row a pixel"
        )
    if isinstance(features, Tensor):
        bad = (~features.float().isfinite().all(1)).nonzero()[:, 0].cpu().numpy()
    else:
        with np.errstate(over="ignore"):
            bad = np.flatnonzero(~np.isfinite(features.astype(np.float32, copy=False)).all(1))
    if len(bad):
        raise ValueError(
            f"density_greedy: expected finite float32 features, got {len(bad)} rows that are not, the first is "
            f"row {bad[0]}; "
            "the network diverged"
        )


def _check_rows(
    n: int,
    density: np.ndarray,
    bought: np.ndarray,
    key: np.ndarray,
    open_N: np.ndarray,
    first: int | None,
    budget: int,
    front: int,
) -> None:
    for what, values in (("density", density), ("tie_key", key), ("is_candidate", open_N)):
        if values.shape != (n,):
            raise ValueError(
                f"density_greedy: expected one {what} a row ({n}), got shape {values.shape}; index it like the features"
            )
    bad = np.flatnonzero(~(np.isfinite(density) & (density > 0)))
    if len(bad):
        raise ValueError(
            f"density_greedy: expected positive finite densities, got {density[bad[0]]} in row {bad[0]}; "
            "use beta exp(-error / tau) with an error scaled to 0..1"
        )
    rows = bought if first is None else np.append(bought, first)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(
            f"density_greedy: expected bought and first rows in 0..{n - 1}, got {rows.min()}..{rows.max()}; "
            "give positions in `features`, not pixel indices"
        )
    if budget < 0 or front < 1:
        raise ValueError(
            f"density_greedy: expected budget >= 0 and front >= 1, got {budget} and {front}; check the budget's config"
        )


class _Greedy:
    """The state of one selection; positions count the candidates, in order of their rows."""

    def __init__(
        self,
        features: np.ndarray,
        density: np.ndarray,
        rows: np.ndarray,
        bought: np.ndarray,
        key: np.ndarray,
        front: int,
        compiled: bool,
    ) -> None:
        self.rows, self.key, self.front = rows, key[rows], front
        self.compiled = compiled
        self.x_ND = padded(features[rows])
        self.tiles = Tiles(self.x_ND, compiled)
        self.density_N = density[rows]
        # Difference, square, sum, and an inverse density rounded once: each radius is off by at most (D + 4) u,
        # relatively. Two that are farther apart than this are in that order.
        self.slack = 2 * (self.x_ND.shape[1] + 8) * UNIT
        self.radius_N = np.full(len(rows), np.inf, np.float32)
        self.center_KD, self.center_density_K = padded(features[bought]), density[bought]
        self.bought_tiles = Tiles(self.center_KD, compiled)
        self.densest_T, self.densest_bought_T = (
            _largest_of_tiles(self.density_N),
            _largest_of_tiles(self.center_density_K),
        )
        # Only ratios of densities matter: measured in their geometric mean, 1/d stays in float32's range.
        self.unit = float(np.exp(np.log(density).mean())) if len(density) else 1.0
        # the first ones are then everywhere, and most others near nothing
        mixed = np.random.default_rng(0).permutation(len(bought))
        self._settle(self.center_KD[mixed], self.center_density_K[mixed])
        self._exact_N = np.full(len(rows), np.inf)  # float64 radius over the first `_seen` centers, where it was needed
        self._seen_N = np.zeros(len(rows), np.int64)
        self.num = self.num_bought = len(bought)

    def run(self, budget: int, first: int | None) -> DensityGreedy:
        picks, radius = np.zeros(budget, np.int64), np.full(budget, np.inf)
        grown = np.empty((self.num + budget, self.x_ND.shape[1]), np.float32)
        grown[: self.num] = self.center_KD
        self.center_KD, self.center_density_K = grown, np.concatenate([self.center_density_K, np.zeros(budget)])
        self.center_sq_K = np.concatenate([(grown[: self.num] ** 2).sum(1), np.zeros(budget, np.float32)])
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
        self.center_sq_K[self.num] = self.x_ND[position] @ self.x_ND[position]
        self.num += 1

    def _settle_from(self, before: int) -> None:
        """Make the centers from number ``before`` on count for every candidate."""
        self._settle(self.center_KD[before : self.num], self.center_density_K[before : self.num])
        self.radius_N[self.picks_B[before - self.num_bought : self.num - self.num_bought]] = -np.inf

    def _settle(self, c_KD: np.ndarray, density_K: np.ndarray) -> None:
        self.tiles.lower(self.radius_N, c_KD, (self.unit / density_K).astype(np.float32))

    def _pick_block(self) -> bool:
        """Append at least one center: all that can be decided among the candidates of the front.

        False if all is decided.
        """
        positions, outside = _largest(self.radius_N, self.front)
        x_FD, radius_F = self.x_ND[positions], self.radius_N[positions]
        x_TDP = tiled(x_FD)
        inverse_F = (self.unit / self.density_N[positions]).astype(np.float32)
        picked = False
        while self.num < len(self.center_KD):
            best = float(radius_F.max())
            if best * (1 - self.slack) <= outside:
                if not picked:  # more candidates than the front holds are as far as the best
                    return self._pick_among_all(best)
                return True
            tied = np.flatnonzero(radius_F >= best * (1 - self.slack))
            at = int(tied[0]) if len(tied) == 1 else int(tied[self._first_of(positions[tied], best)])
            self._append(int(positions[at]), float(radius_F[at]))
            picked = True
            lower_all(radius_F, x_TDP, x_FD[at : at + 1], inverse_F[at : at + 1], self.compiled)
            radius_F[at] = -np.inf
        return True

    def _pick_among_all(self, best: float) -> bool:
        if best > 0:
            tied = np.flatnonzero(self.radius_N >= best * (1 - self.slack))
            at = int(tied[self._first_of(tied, best)])
            self._append(at, float(self.radius_N[at]))
            return True
        # Every candidate left lies on a center: buying one changes nothing, so the rest goes by the tie key alone.
        left = np.flatnonzero(self.radius_N > -np.inf)
        for position in left[np.argsort(self.key[left], kind="stable")][: len(self.center_KD) - self.num]:
            self._append(int(position), 0.0)
        return False

    def _first_of(self, positions: np.ndarray, best: float) -> int:
        """Return which of the positions has the largest radius in float64; of equal ones, the smallest tie key's.

        None is above ``best``.
        """
        seen_P = self._seen_N[positions]
        for seen in np.unique(seen_P):  # a point met before only needs the centers since then
            if seen < self.num:
                self._measure(positions[seen_P == seen], int(seen), best)
        self._seen_N[positions] = self.num
        exact = self._exact_N[positions]
        tied = np.flatnonzero(exact == exact.max())
        return int(tied[self.key[positions[tied]].argmin()])

    def _measure(self, positions: np.ndarray, seen: int, best: float) -> None:
        """Let the centers from number ``seen`` on count for some candidates, in float64.

        Those that can't be as near as ``best`` are left out.
        """
        limit = best * (1 + self.slack) / self.unit
        for some in np.array_split(positions, -(-len(positions) * (self.num - seen) // _PAIRS)):
            x_PD = self.x_ND[some]
            center_K = self._centers_near(x_PD, seen, limit)
            c_KD, density_K = self.center_KD[center_K], self.center_density_K[center_K]
            # A product says cheaply, to an absolute error, which they are; only their differences are squared.
            size_PK = self.center_sq_K[center_K] + (x_PD**2).sum(1)[:, None]
            least_PK = (size_PK * (1 - self.tiles.slack) - 2 * (x_PD @ c_KD.T)) / density_K
            point, k = np.nonzero(least_PK * (1 - self.slack) <= limit)
            difference = c_KD[k].astype(np.float64) - x_PD[point]
            np.minimum.at(self._exact_N, some[point], (difference**2).sum(1) / density_K[k])

    def _centers_near(self, x_PD: np.ndarray, seen: int, limit: float) -> np.ndarray | slice:
        """Return the numbers, from ``seen`` on, of all centers that may matter to one of the points.

        They may have |x - c|^2 / d <= limit; few others are among them.
        """
        if self.num - seen < _MANY_CENTERS:
            return slice(seen, self.num)
        one_P, wide = np.ones(len(x_PD), np.float32), max(limit * (1 + self.slack), np.finfo(np.float32).tiny)
        first = max(seen, self.num_bought)
        # A pick lies in the ball of its tile, as all candidates do.
        near_T = self.tiles.within(self.densest_T * wide, x_PD, one_P).max(1)
        picks = first + np.flatnonzero(
            near_T[self.picks_B[first - self.num_bought : self.num - self.num_bought] // TILE]
        )
        if seen >= self.num_bought:
            return picks
        near_T = self.bought_tiles.within(self.densest_bought_T * wide, x_PD, one_P).max(1)
        return np.concatenate([np.flatnonzero(np.repeat(near_T, TILE)[: self.num_bought]), picks])


def _largest_of_tiles(values_N: np.ndarray) -> np.ndarray:
    """Return the largest value of each tile of points, (T,)."""
    return np.maximum.reduceat(values_N, np.arange(0, len(values_N), TILE)) if len(values_N) else values_N


def _largest(values: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return the positions of the ``count`` largest values that are > -inf, and the largest value among the others."""
    if count >= len(values):
        return np.flatnonzero(values > -np.inf), -np.inf
    order = np.argpartition(values, len(values) - count - 1)[-count - 1 :]
    return order[1:][values[order[1:]] > -np.inf], float(values[order[0]])
