"""How far a batch of images is from other batches: Wasserstein-1 between their features.

Vallender 1974: on the line W1(F, G) = integral |F^-1(t) - G^-1(t)| dt, so with sorted samples of equal size it is a
mean of absolute differences. Here it is taken in every dimension alone; sorting the other batches' columns once leaves
one sort and M B D differences.

Shapes: B rows of a batch, D dimensions, M other batches of C rows each.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

try:
    import numba
except ImportError:  # the functions below without it: the same numbers, some times slower
    numba = None  # type: ignore[assignment]

_BLOCK = 1024  # differences summed in the features' precision before they go to float64
_ROWS_AT_ONCE = 1 << 22  # numbers in flight without numba


def sort_columns(batch_BD: np.ndarray) -> np.ndarray:
    """Return (D, B): each dimension's values in increasing order."""
    columns_DB = np.array(np.asarray(batch_BD).T, order="C")
    columns_DB.sort(axis=1)
    return columns_DB


def wasserstein_1(sorted_DB: np.ndarray, table_DMC: np.ndarray) -> np.ndarray:
    """Per-dimension Wasserstein-1 distance between one batch and each of M batches.

    Args:
        sorted_DB: `sort_columns` of the batch; float32 or float64.
        table_DMC: `sort_columns` of the others, stacked on axis 1; the same type. Equal sizes (B = C) are the fast
            case.

    Returns:
        (M, D) float64, >= 0; the rows' mean is the distance of the batches. Off from exact sums by a few units of the
        features' precision.

    Raises:
        ValueError: if dimensions or types differ, or a batch is empty.
    """
    if sorted_DB.ndim != 2 or table_DMC.ndim != 3 or len(sorted_DB) != len(table_DMC):
        raise ValueError(
            f"wasserstein_1: expected a batch (D, B) and a table (D, M, C), got {sorted_DB.shape} and "
            f"{table_DMC.shape}; "
            "use sort_columns"
        )
    if sorted_DB.dtype != table_DMC.dtype or sorted_DB.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"wasserstein_1: expected both float32 or both float64, got {sorted_DB.dtype} and "
            f"{table_DMC.dtype}; convert one"
        )
    (_, num), (dim, rows, other) = sorted_DB.shape, table_DMC.shape
    if not num or not other:
        raise ValueError(
            f"wasserstein_1: expected batches with samples, got sizes {num} and {other}; an empty batch has no distance"
        )
    out_MD = np.zeros((rows, dim))
    if num == other:
        (_equal_sizes if numba is None else _equal_sizes_compiled)(sorted_DB, table_DMC, out_MD)
    else:
        here, there, weight = _common_quantiles(num, other)
        (_any_sizes if numba is None else _any_sizes_compiled)(sorted_DB, table_DMC, here, there, weight, out_MD)
    return out_MD


def earth_mover(batch_BD: np.ndarray, other_BD: np.ndarray) -> float:
    """Exact Wasserstein-1 of two batches of equal size with Euclidean ground distance.

    The cheapest one-to-one assignment, O(B^3).

    Raises:
        ValueError: if the sizes differ.
    """
    if len(batch_BD) != len(other_BD):
        raise ValueError(
            f"earth_mover: expected batches of equal size, got {len(batch_BD)} and {len(other_BD)}; use wasserstein_1"
        )
    cost_BB = cdist(batch_BD, other_BD)
    return float(cost_BB[linear_sum_assignment(cost_BB)].mean())


def unit_directions(dim: int, num: int, generator: np.random.Generator) -> np.ndarray:
    """Return (D, K) float64 random directions of length 1 for sliced distances.

    ``features @ directions`` goes to `sort_columns`.
    """
    directions_DK = generator.normal(size=(dim, num))
    return directions_DK / np.linalg.norm(directions_DK, axis=0)


def _common_quantiles(num: int, other: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pieces of [0, 1] on which both quantile functions are constant.

    Value in the one, value in the other, length.
    """
    # In units of 1 / (B C) all steps are whole numbers.
    steps = np.union1d(np.arange(num + 1) * other, np.arange(other + 1) * num)
    left = steps[:-1]
    return left // other, left // num, np.diff(steps) / (num * other)


def _equal_sizes(sorted_DB: np.ndarray, table_DMB: np.ndarray, out_MD: np.ndarray) -> None:
    at_once = max(1, _ROWS_AT_ONCE // table_DMB[0].size)
    for d in range(0, len(sorted_DB), at_once):
        difference = np.abs(table_DMB[d : d + at_once] - sorted_DB[d : d + at_once, None])
        out_MD[:, d : d + at_once] = difference.mean(-1, dtype=np.float64).T


def _any_sizes(
    sorted_DB: np.ndarray,
    table_DMC: np.ndarray,
    here: np.ndarray,
    there: np.ndarray,
    weight: np.ndarray,
    out_MD: np.ndarray,
) -> None:
    at_once = max(1, _ROWS_AT_ONCE // (table_DMC.shape[1] * len(weight)))
    for d in range(0, len(sorted_DB), at_once):
        some = slice(d, d + at_once)
        out_MD[:, some] = (np.abs(table_DMC[some][:, :, there] - sorted_DB[some][:, None, here]) @ weight).T


if numba is not None:

    @numba.njit(cache=True, fastmath={"reassoc", "contract"})
    def _equal_sizes_compiled(sorted_DB, table_DMB, out_MD):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        dim, rows, num = table_DMB.shape
        zero = sorted_DB.dtype.type(0)
        for d in range(dim):
            for m in range(rows):
                total = 0.0
                for start in range(0, num, _BLOCK):
                    part = zero
                    # Slices: an index that does not count from 0 could be negative to the compiler, and nothing is
                    # vectorized.
                    ours, theirs = sorted_DB[d, start : start + _BLOCK], table_DMB[d, m, start : start + _BLOCK]
                    for b in range(len(ours)):
                        part += abs(ours[b] - theirs[b])
                    total += part
                out_MD[m, d] = total / num

    @numba.njit(cache=True)
    def _any_sizes_compiled(sorted_DB, table_DMC, here, there, weight, out_MD):  # type: ignore[no-untyped-def]
        dim, rows, _ = table_DMC.shape
        for d in range(dim):
            for m in range(rows):
                total = 0.0
                for k in range(len(weight)):
                    total += weight[k] * abs(sorted_DB[d, here[k]] - table_DMC[d, m, there[k]])
                out_MD[m, d] = total
