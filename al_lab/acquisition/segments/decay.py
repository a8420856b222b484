"""ReDAL's diversity: each further region of a cluster counts a little less."""

import numpy as np


def decayed(
    utility_N: np.ndarray, cluster_N: np.ndarray, factor: float, tie_key: np.ndarray | None = None
) -> np.ndarray:
    """Return s' of every region, (N,).

    Wu et al., "ReDAL: Region-based and Diversity-aware Active Learning for Point Cloud Semantic Segmentation", ICCV
    2021: regions in falling order of s; the n-th of a cluster counts s' = s factor^(n - 1).

    Args:
        utility_N: s, >= 0.
        cluster_N: (N,) whole numbers.
        factor: in (0, 1].
        tie_key: (N,) order of equal regions; None: as they come.
    """
    key_N = np.arange(len(utility_N)) if tie_key is None else tie_key
    order = np.lexsort((key_N, -utility_N))
    result = np.empty(len(utility_N))
    result[order] = utility_N[order] * factor ** _places(cluster_N[order])
    return result


def decayed_as_released(utility_N: np.ndarray, cluster_N: np.ndarray, factor: float) -> np.ndarray:
    """Return s' as D2ADA's port of ReDAL has it.

    Its clusters are numbered along the sorted list, and applied along the unsorted one: most regions are discounted by
    another region's cluster.
    """
    sorted_N = cluster_N[np.argsort(-utility_N, kind="stable")]
    return utility_N * factor ** _places(sorted_N)


def _places(cluster_N: np.ndarray) -> np.ndarray:
    """Return how many of its cluster come before each, (N,)."""
    order = np.argsort(cluster_N, kind="stable")
    _, start, size = np.unique(cluster_N[order], return_index=True, return_counts=True)
    place_N = np.empty(len(cluster_N), np.int64)
    place_N[order] = np.arange(len(cluster_N)) - np.repeat(start, size)
    return place_N
