"""Exact greedy k-center in blocks: the order of the textbook loop at the speed of a matrix product.

Shapes: N points, D dimensions, F points of the front, K centers.

The textbook loop streams all features once a pick: ``m = min(m, ((X - x) ** 2).sum(1))``. A pick, though, only depends
on the points of largest radius. So take the F points of largest radius (the *front*), pick among them while the best
beats every point outside, and only then update all N points, with one matrix product for the whole block.

Exactness: |x|^2 + |c|^2 - 2 x.c in float32 is off by at most `_Features.error`. Whoever is surely largest is picked;
points that this error can't tell apart (and only they) are compared by exact differences, computed as the loop computes
them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

_UNIT = float(np.finfo(np.float32).eps) / 2  # unit roundoff u of float32
_PICKS_AT_ONCE = 256  # columns of one matrix product
_BUFFER_BYTES = 1 << 20  # features in flight at once; about one core's cache


@dataclass(frozen=True)
class KCenter:
    """What `k_center` returns.

    Attributes:
        order: (B,) int64 rows, in the order they were picked.
        distance: (B,) float64, distance of each pick to its nearest center when it was picked; inf for a first pick
            without centers.
        cover_radius: largest distance of a point left to its nearest center; 0 if none is left.
    """

    order: np.ndarray
    distance: np.ndarray
    cover_radius: float


def k_center(
    features: np.ndarray,
    budget: int,
    labeled: Sequence[int] | np.ndarray = (),
    *,
    tie_key: np.ndarray | None = None,
    first: int | None = None,
    near: Callable[[int], np.ndarray] | None = None,
    threads: int | None = 1,
    front: int = 512,
) -> KCenter:
    """Pick, ``budget`` times, the point farthest from all centers (greedy k-center, Euclidean).

    Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018 (arXiv
    1708.00489), Alg. 1: u = argmax_{i not in s} min_{j in s} d(x_i, x_j);  s = s + {u};  s starts as the labeled
    points.

    Time O((|labeled| + B) N D) in matrix products, memory O(N) beside the features. Equal distances go to the smallest
    ``tie_key``.

    Args:
        features: (N, D) real; labeled and unlabeled points. A memory map is fine: it is read in blocks.
        budget: how many to pick; at N - |labeled| all the others are.
        labeled: rows that are centers already.
        tie_key: (N,) sortable, unique numbers; default the row number.
        first: the first pick if nothing is labeled; default the smallest ``tie_key`` (random keys give a random start).
        near: rows that may not be picked beside a row; they are closed when it is picked, and are no centers. Picks end
            when no row is open.
        threads: BLAS threads; None leaves them as they are.
        front: points looked at closely in a block; changes the speed only.

    Raises:
        ValueError: features that are not (N, D) and finite, or rows and keys that do not fit them.
    """
    labeled = np.asarray(labeled, dtype=np.int64).reshape(-1)
    key = np.arange(len(features)) if tie_key is None else np.asarray(tie_key)
    _check(features, budget, labeled, key, first, front)
    with threadpool_limits(threads, user_api="blas") if threads is not None else nullcontext():
        return _Greedy(_Features(features), labeled, key, front, near).run(budget, first)


def _check(
    features: np.ndarray, budget: int, labeled: np.ndarray, key: np.ndarray, first: int | None, front: int
) -> None:
    if np.ndim(features) != 2:
        raise ValueError(
            f"k_center: expected features of shape (N, D), got {np.shape(features)}; give one row a sample"
        )
    n = len(features)
    rows = labeled if first is None else np.append(labeled, first)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(
            f"k_center: expected labeled and first rows in 0..{n - 1}, got {rows.min()}..{rows.max()}; "
            "give positions in `features`, not sample ids"
        )
    if key.shape != (n,):
        raise ValueError(f"k_center: expected one tie_key a row ({n}), got shape {key.shape}; use Rng.tie_keys(ids)")
    if budget < 0 or front < 1:
        raise ValueError(
            f"k_center: expected budget >= 0 and front >= 1, got {budget} and {front}; check the budget's config"
        )


class _Features:
    """The points, read in blocks, centered and in float32; and how far off distances between them are."""

    def __init__(self, features: np.ndarray) -> None:
        # The loop's own arithmetic: float32 stays float32, float64 stays float64.
        self.exact_dtype = np.result_type(features.dtype, np.float32)
        self.raw = features
        self.num, self.dim = features.shape
        self.block = max(1, _BUFFER_BYTES // (4 * max(self.dim, 1)))
        total = np.zeros(self.dim)
        for rows, raw in self._raw_blocks():
            total += raw.sum(0, dtype=self.exact_dtype)  # near enough: any origin would be right
            if not np.isfinite(total).all():
                raise ValueError(
                    f"k_center: expected finite features, got NaN or inf in rows {rows.start}..{rows.stop - 1}, the "
                    f"first in row "
                    f"{rows.start + int(np.isfinite(raw).all(1).argmin())}; look at the embedding of that sample"
                )
        # Distances do not move with the origin, but the error of x.c grows with |x|: measure from the mean.
        self.mean = (total / max(self.num, 1)).astype(self.exact_dtype)
        self.sq_norm = np.empty(self.num, np.float32)
        self._buffer = np.empty((min(self.block, self.num), self.dim), np.float32)
        for rows, block in self.blocks():
            self.sq_norm[rows] = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        if not np.isfinite(self.sq_norm).all():
            raise ValueError(
                f"k_center: expected features below 1e18, got larger ones, the first in row "
                f"{int(np.isfinite(self.sq_norm).argmin())}; "
                "their squares overflow float32"
            )
        self.largest_norm = float(np.sqrt(self.sq_norm.max(initial=0)))

    def _raw_blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, self.num, self.block):
            rows = slice(start, min(start + self.block, self.num))
            yield rows, self.raw[rows]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, centered float32 features); the buffer is reused."""
        for rows, raw in self._raw_blocks():
            out = self._buffer[: len(raw)]
            np.subtract(raw, self.mean, out=out, casting="same_kind")
            yield rows, out

    def take(self, rows: np.ndarray | int) -> np.ndarray:
        """Return centered float32 features of some rows, as `blocks` would."""
        return (self.raw[rows] - self.mean).astype(np.float32, copy=False)

    def exact_sq(self, rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
        """Return squared distances of pairs as the textbook loop computes them."""
        difference = self.raw[rows].astype(self.exact_dtype, copy=False) - self.raw[centers]
        return (difference**2).sum(1)

    def error(self, sq_norm: np.ndarray, sq_radius: np.ndarray) -> np.ndarray:
        """Bound |computed - exact| of the squared distance of a point to its nearest center.

        With n = |x|, r its radius and c = |center| <= n + r: the dot product is off by at most D u n c and enters
        twice; norms, additions and centering by less than 8 u (n + c)^2; the textbook loop's own sum by less than 32 u
        r^2.
        """
        n, r = np.sqrt(sq_norm), np.sqrt(np.maximum(sq_radius, 0))
        c = np.minimum(n + r, self.largest_norm)
        r = np.minimum(r, n + c)  # also finite while there are no centers
        return (2 * self.dim * _UNIT * n * c + 8 * _UNIT * (n + c) ** 2 + 32 * _UNIT * r * r).astype(np.float32)

    def lower(self, sq_radius: np.ndarray, c_KD: np.ndarray, sq_c: np.ndarray) -> None:
        """Lower every point's squared radius, in place, for K more centers: one matrix product a block of points."""
        minus_two_c_DK = (-2 * c_KD).T
        product_NK = np.empty((len(self._buffer), len(c_KD)), np.float32)
        for rows, block_ND in self.blocks():
            part = np.matmul(block_ND, minus_two_c_DK, out=product_NK[: len(block_ND)])
            part += sq_c
            nearest = part.min(1)
            nearest += self.sq_norm[rows]
            np.minimum(sq_radius[rows], np.maximum(nearest, 0, out=nearest), out=sq_radius[rows])


class _Greedy:
    """The state of one selection: each point's squared radius (float32; -inf: center or closed) and the centers."""

    def __init__(
        self,
        points: _Features,
        labeled: np.ndarray,
        key: np.ndarray,
        front: int,
        near: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.points, self.key, self.front, self.near = points, key, front, near
        labeled = np.unique(labeled)
        self.num_labeled = self.num = len(labeled)
        self.centers = labeled  # grown to its final length in `run`
        self.sq_radius = np.full(points.num, np.inf, np.float32)
        for start in range(0, len(labeled), 256):
            some = labeled[start : start + 256]
            points.lower(self.sq_radius, points.take(some), points.sq_norm[some])
        self.sq_radius[labeled] = -np.inf
        # exact squared radius over the first `_seen` centers, where it was needed
        self._exact_sq = np.full(points.num, np.inf)
        self._seen = np.zeros(points.num, np.int32)

    def run(self, budget: int, first: int | None) -> KCenter:
        points = self.points
        budget = min(budget, points.num - self.num_labeled)
        self.centers = np.concatenate([self.centers, np.zeros(budget, np.int64)])
        self._picks_BD = np.empty((budget, points.dim), np.float32)
        # squared radius of each pick when it was picked, to float32's error
        self._picked_sq = np.empty(budget, np.float32)
        if budget and not self.num:
            start = int(self.key.argmin()) if first is None else int(first)
            self._append(start, np.inf)
            self._settle(0)
        while self.num < len(self.centers):
            if self.near is not None and not (self.sq_radius > -np.inf).any():
                break
            before = self.num
            self._pick_block()
            self._settle(before)
        order = self.centers[self.num_labeled : self.num]
        return KCenter(order, self._pick_distances(order), self._cover_radius())

    def _append(self, row: int, sq_radius: float, x_D: np.ndarray | None = None) -> None:
        pick = self.num - self.num_labeled
        self.centers[self.num] = row
        self._picked_sq[pick] = sq_radius
        self._picks_BD[pick] = self.points.take(row) if x_D is None else x_D
        self.num += 1
        if self.near is not None:
            self.sq_radius[self.near(row)] = -np.inf

    def _settle(self, before: int) -> None:
        """Make the centers from number ``before`` on count for every point."""
        new = self.centers[before : self.num]
        for start in range(0, len(new), _PICKS_AT_ONCE):
            some = slice(start, min(start + _PICKS_AT_ONCE, len(new)))
            picks = self._picks_BD[before - self.num_labeled :][some]
            self.points.lower(self.sq_radius, picks, self.points.sq_norm[new[some]])
        self.sq_radius[new] = -np.inf

    def _pick_block(self) -> None:
        """Append at least one center: all that can be decided among the points of the front."""
        points = self.points
        error = points.error(points.sq_norm, self.sq_radius)
        upper = self.sq_radius + error
        rows, outside = _largest(upper, self.front)
        surely = (self.sq_radius - error).max()
        # more points than the front holds are as far as the best: decide this pick among all of them
        if surely <= outside:
            self._pick_among_all(np.flatnonzero(upper >= surely))
            return
        rows = rows[np.argsort(-upper[rows])]
        # errors shrink with the radius: that of now will do
        x_FD, sq_norm, error = points.take(rows), points.sq_norm[rows], error[rows]
        lower, upper = self.sq_radius[rows] - error, upper[rows]
        while self.num < len(self.centers):
            surely = lower.max()
            if surely <= outside:
                return
            tied = (upper >= surely).nonzero()[0]
            if len(tied) > 1 and not np.array_equal(lower[tied], upper[tied]):
                # Make these exact, and the next ones with them: one product for many costs little more than for two.
                near = np.arange(tied[0], min(tied[-1] + 64, len(rows)))
                near = near[lower[near] < upper[near]]
                lower[near] = upper[near] = self._exact(rows[near], upper[near])
                continue
            pick = tied[self.key[rows[tied]].argmin()]
            self._append(rows[pick], upper[pick], x_FD[pick])
            sq_to_pick = sq_norm + (sq_norm[pick] - 2 * (x_FD @ x_FD[pick]))
            np.minimum(lower, sq_to_pick - error, out=lower)
            np.minimum(upper, sq_to_pick + error, out=upper)
            lower[pick] = upper[pick] = -np.inf
            if self.near is not None:
                closed = self.sq_radius[rows] == -np.inf
                lower[closed] = upper[closed] = -np.inf

    def _pick_among_all(self, rows: np.ndarray) -> None:
        best = rows[self._first_of(rows, self.sq_radius[rows])]
        if self._exact_sq[best] > 0:
            self._append(best, self.sq_radius[best])
            return
        # Every point left lies on a center, so buying one changes nothing: the rest goes by the tie key alone.
        left = np.flatnonzero(self.sq_radius > -np.inf)
        for row in left[np.argsort(self.key[left], kind="stable")]:
            if self.num < len(self.centers) and self.sq_radius[row] > -np.inf:
                self._append(row, self.sq_radius[row])

    def _first_of(self, rows: np.ndarray, sq_radius: np.ndarray) -> int:
        """Return the position of the row of largest exact radius; of equal ones, the smallest tie key's."""
        exact = self._exact(rows, sq_radius)
        best = np.flatnonzero(exact == exact.max())
        return int(best[self.key[rows[best]].argmin()])

    def _exact(self, rows: np.ndarray, sq_radius: np.ndarray) -> np.ndarray:
        """Return exact squared radii; ``sq_radius`` are the same to float32's error."""
        is_new = self._seen[rows] == 0
        for group in (is_new.nonzero()[0], (~is_new).nonzero()[0]):
            if len(group):  # a row met before only needs the centers since then
                newer = self._nearest_exact(rows[group], sq_radius[group], int(self._seen[rows[group]].min()))
                self._exact_sq[rows[group]] = np.minimum(self._exact_sq[rows[group]], newer)
        self._seen[rows] = self.num
        return self._exact_sq[rows]

    def _nearest_exact(
        self, rows: np.ndarray, sq_radius: np.ndarray, since: int, before: np.ndarray | None = None
    ) -> np.ndarray:
        """Return exact squared distances from rows (N,) to their nearest center, of those from number ``since`` on.

        Centers that float32 shows to be farther than ``sq_radius`` plus all errors are passed over; inf if that leaves
        none. ``before``: for row n, only centers of a number below ``before[n]``.
        """
        points = self.points
        ceiling = sq_radius + 3 * points.error(points.sq_norm[rows], sq_radius)
        nearest = np.full(len(rows), np.inf)
        for a in range(0, len(rows), 64):
            x_ND, sq_x = points.take(rows[a : a + 64]), points.sq_norm[rows[a : a + 64], None]
            for b, c_KD in self._center_blocks(since):
                numbers = np.arange(b, b + len(c_KD))
                near = sq_x + (points.sq_norm[self.centers[numbers]] - 2 * (x_ND @ c_KD.T)) <= ceiling[a : a + 64, None]
                if before is not None:
                    near &= numbers < before[a : a + 64, None]
                pair_n, pair_k = np.nonzero(near)
                for s in range(0, len(pair_n), points.block):
                    n, k = a + pair_n[s : s + points.block], b + pair_k[s : s + points.block]
                    np.minimum.at(nearest, n, points.exact_sq(rows[n], self.centers[k]))
        return nearest

    def _center_blocks(self, since: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number of the first, centered features) of the centers from ``since`` on.

        Labeled ones are fetched again.
        """
        step = self.points.block
        for start in range(since, self.num_labeled, step):
            yield start, self.points.take(self.centers[start : min(start + step, self.num_labeled)])
        for start in range(max(since, self.num_labeled), self.num, step):
            yield start, self._picks_BD[start - self.num_labeled : min(start + step, self.num) - self.num_labeled]

    def _pick_distances(self, order: np.ndarray) -> np.ndarray:
        before = np.arange(self.num_labeled, self.num)
        sq = np.where(before > 0, self._nearest_exact(order, self._picked_sq[: len(order)], 0, before), np.inf)
        return np.sqrt(sq)

    def _cover_radius(self) -> float:
        left = np.flatnonzero(self.sq_radius > -np.inf)
        if not len(left):
            return 0.0
        if not self.num:
            return np.inf
        error = self.points.error(self.points.sq_norm[left], self.sq_radius[left])
        rows = left[self.sq_radius[left] + error >= (self.sq_radius[left] - error).max()]
        return float(np.sqrt(self._exact(rows, self.sq_radius[rows]).max()))


def _largest(values: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return the positions of the ``count`` largest values that are > -inf, and the largest value among the others."""
    if count >= len(values):
        return np.flatnonzero(values > -np.inf), -np.inf
    order = np.argpartition(values, len(values) - count - 1)[-count - 1 :]
    return order[1:][values[order[1:]] > -np.inf], float(values[order[0]])
