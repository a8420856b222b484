"""How well bought points cover the others.

Covering radius, average radial distances, core-set loss, calibration of densities.

Density Matters (arXiv 2312.09595). Shapes: N points, K centers (bought points), D dimensions. Distances are plain
Euclidean, not squared, and no density divides them.

| symbol | here | where |
|---|---|---|
| pi(x) | ``owner``: the nearest center | Eq. (5) |
| N_s(k) | coverage area: the points center k owns | Eq. (3) |
| delta | ``radius`` = max over x of the distance to its nearest center | Theorem 1, Eq. (3) |
| delta_s(k) | ``radial``: mean distance of N_s(k) to x_k | Theorem 2, Eq. (4), (5) |

Theorem 3, max_k delta_s(k) <= delta, is asserted on every result.
"""

from dataclasses import dataclass

import numpy as np

_TILE = (512, 1024)  # points x centers compared at once: 4 MB of float64
_ULPS = 64.0  # rounding allowed when Theorem 3 is asserted


@dataclass(frozen=True)
class Coverage:
    """What `coverage` returns.

    Attributes:
        owner: (N,) int64, number of the nearest center; of equally near ones the first.
        distance: (N,) float64 to it.
        radius: delta, the covering radius.
        radial: (K,) delta_s(k), with the center itself (distance 0) in the mean if it is one of the points; 0 for an
            empty area.
        radial_others: (K,) the same without the center itself; 0 if it owns no other point.
    """

    owner: np.ndarray
    distance: np.ndarray
    radius: float
    radial: np.ndarray
    radial_others: np.ndarray

    @property
    def largest_radial(self) -> float:
        """max_k delta_s(k), the bound of Theorem 2."""
        return float(self.radial.max())

    @property
    def mean_distance(self) -> float:
        """Mean distance to the nearest center.

        Sum_k p(k) delta_s(k), tighter than either bound (the last but one step of the proof).
        """
        return float(self.distance.mean())


def coverage(features: np.ndarray, bought: np.ndarray) -> Coverage:
    """Return who covers whom, covering radius and average radial distances.

    Args:
        features: (N, D), the population; bought points among it.
        bought: (K,) rows that are centers, K >= 1.

    Raises:
        ValueError: for no centers, rows that are none of the features, or features that are no numbers.
        ArithmeticError: if Theorem 3 does not hold, which would be our mistake.
    """
    bought = np.asarray(bought, np.int64).reshape(-1)
    if not len(bought) or bought.min() < 0 or bought.max() >= len(features):
        raise ValueError(
            f"coverage: expected at least one bought row in 0..{len(features) - 1}, got {list(bought[:5])}; "
            "give positions in `features`"
        )
    if len(np.unique(bought)) < len(bought):
        raise ValueError("coverage: expected different bought rows, got some twice; give each once")
    if not np.isfinite(features).all():
        raise ValueError(
            f"coverage: expected finite features, got {np.count_nonzero(~np.isfinite(features).all(1))} rows that "
            f"are not; "
            "the network diverged: look at its loss"
        )
    owner, distance = _nearest(np.asarray(features, np.float64), bought)
    owner[bought] = np.arange(len(bought))
    distance[bought] = 0.0  # of two equal centers, each owns itself
    count = np.bincount(owner, minlength=len(bought))
    total = np.bincount(owner, weights=distance, minlength=len(bought))
    result = Coverage(
        owner, distance, float(distance.max()), total / np.maximum(count, 1), total / np.maximum(count - 1, 1)
    )
    if result.largest_radial > result.radius * (1 + _ULPS * np.finfo(np.float64).eps):
        raise ArithmeticError(
            f"coverage: expected max_k delta_s(k) <= delta (Theorem 3), got {result.largest_radial} and "
            f"{result.radius}; "
            "the nearest centers are wrong"
        )
    return result


def _nearest(x_ND: np.ndarray, bought: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return number of and distance to the nearest center of every point.

    A matrix product a tile of points and centers says who may be nearer than the nearest so far: |x|^2 + |c|^2 - 2 x.c
    is off by less than 4 (D + 4) u (|x| + |c|)^2. Those within that error are compared by exact differences.
    """
    x_ND = x_ND - x_ND.mean(0)
    c_KD = x_ND[bought]
    sq_N, sq_K = np.einsum("nd,nd->n", x_ND, x_ND), np.einsum("kd,kd->k", c_KD, c_KD)
    error_N = 4 * (x_ND.shape[1] + 4) * np.finfo(np.float64).eps * (np.sqrt(sq_N) + np.sqrt(sq_K.max())) ** 2
    owner, best_sq = np.zeros(len(x_ND), np.int64), np.full(len(x_ND), np.inf)
    height, width = _TILE
    for top in range(0, len(x_ND), height):
        rows = np.arange(top, min(top + height, len(x_ND)))
        for left in range(0, len(bought), width):
            c_TD = c_KD[left : left + width]
            sq_RT = x_ND[rows] @ (-2 * c_TD.T) + sq_K[left : left + width]  # but for |x|^2
            least_R = sq_RT.min(1) + sq_N[rows]
            may = least_R <= best_sq[rows] + error_N[rows]  # few, once a near center is known
            at, sq_RT, least_R = rows[may], sq_RT[may], least_R[may]
            limit = np.minimum(least_R + error_N[at], best_sq[at]) + error_N[at] - sq_N[at]
            n, k = np.nonzero(sq_RT <= limit[:, None])
            exact = ((x_ND[at[n]] - c_TD[k]) ** 2).sum(1)
            order = np.lexsort((k, exact, n))
            first = order[np.unique(n[order], return_index=True)[1]]
            n, k, exact = at[n[first]], k[first], exact[first]
            nearer = exact < best_sq[n]  # of equally near ones the first stays
            owner[n[nearer]], best_sq[n[nearer]] = left + k[nearer], exact[nearer]
    return owner, np.sqrt(best_sq)


def core_set_loss(loss_of_all: np.ndarray, loss_of_bought: np.ndarray) -> float:
    """Core-set loss, Eq. (1): |mean loss of all points - mean loss of the bought ones|, pixels of all images pooled.

    Raises:
        ValueError: if either is empty: its mean is no number.
    """
    if not np.size(loss_of_all) or not np.size(loss_of_bought):
        raise ValueError(
            f"core_set_loss: expected losses of both, got {np.size(loss_of_all)} of all and {np.size(loss_of_bought)} "
            f"of bought points; "
            "leave out pixels without ground truth, not all of them"
        )
    return abs(float(np.mean(loss_of_all, dtype=np.float64)) - float(np.mean(loss_of_bought, dtype=np.float64)))


@dataclass(frozen=True)
class Calibration:
    """Least squares of average radial distance on inverse density: delta_s = slope / d + intercept."""

    slope: float
    intercept: float
    r2: float


def density_calibration(density: np.ndarray, radial: np.ndarray) -> Calibration:
    """Fit delta_s(k) = a / d_k + c; a good estimator has a > 0 and R^2 near 1 (supplement; the paper's is 0.72).

    Args:
        density: (K,) coverage densities of the centers.
        radial: (K,) their average radial distances, of plain k-center's selection.

    Raises:
        ValueError: for fewer than two different densities.
    """
    x, y = 1 / np.asarray(density, np.float64), np.asarray(radial, np.float64)
    if len(x) < 2 or x.shape != y.shape or np.ptp(x) == 0:  # noqa: PLR2004 - a line
        raise ValueError(
            f"density_calibration: expected at least two different densities, one a radial distance, got {x.shape} "
            f"and {y.shape}; "
            "give one of each per center"
        )
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    intercept = float(y.mean() - slope * x.mean())
    left = dy - slope * dx
    total = float(dy @ dy)
    return Calibration(slope, intercept, 1 - float(left @ left) / total if total else 1.0)


def uniform_by_density(
    density: np.ndarray, generator: np.random.Generator, low: float = 0.5, high: float = 3.0, bins: int = 50
) -> np.ndarray:
    """Return rows whose densities are about uniform on [low, high).

    There are as many from each equal bin as its poorest filled bin has.

    The paper samples "densities approximately following U(0.5, 3)" and says no more: bins are ours. Empty bins are
    passed over.

    Args:
        density: (K,).
        generator: draws within the bins.
        low: from here.
        high: to here, excluded.
        bins: how many.
    """
    density = np.asarray(density, np.float64)
    rows = np.flatnonzero((density >= low) & (density < high))
    of = np.minimum(((density[rows] - low) / (high - low) * bins).astype(np.int64), bins - 1)
    rows_of = [rows[of == b] for b in np.unique(of)]
    count = min(map(len, rows_of), default=0)
    drawn = [generator.choice(r, count, replace=False) for r in rows_of]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


@dataclass(frozen=True)
class ClassShares:
    """Which classes were bought, against what there is.

    Attributes:
        bought, pool: (C,) shares of the pixels with ground truth; each sums to 1, or is all 0 without any.
        entropy: of ``bought``, in nats.
        wasted: share of bought pixels without ground truth.
    """

    bought: np.ndarray
    pool: np.ndarray
    entropy: float
    wasted: float


def class_shares(bought_counts: np.ndarray, pool_counts: np.ndarray, num_bought: int) -> ClassShares:
    """Return Fig. 5's numbers.

    Args:
        bought_counts: (C,) bought pixels of each class.
        pool_counts: (C,) pixels of each class in the pool.
        num_bought: all bought pixels, those without ground truth included.

    Raises:
        ValueError: for counts of different classes, or fewer pixels than their labels.
    """
    counts, pool_counts = np.asarray(bought_counts), np.asarray(pool_counts)
    if counts.shape != pool_counts.shape or counts.sum() > num_bought:
        raise ValueError(
            f"class_shares: expected counts of the same classes and at least {counts.sum()} pixels, got "
            f"{counts.shape}, "
            f"{pool_counts.shape} and {num_bought}; count both by training id"
        )
    bought, pool = counts / max(counts.sum(), 1), pool_counts / max(pool_counts.sum(), 1)
    some = bought[bought > 0]
    return ClassShares(
        bought,
        pool,
        float(-(some * np.log(some)).sum()) + 0.0,
        float(1 - counts.sum() / num_bought) if num_bought else 0.0,
    )
