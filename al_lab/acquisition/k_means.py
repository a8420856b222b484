"""k-means on embeddings, and an initial set chosen with it before any label.

Images that are unlike each other, or typical of what there is. Shapes: N images, D features, B bought.
"""

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from al_lab.acquisition.k_center import k_center
from al_lab.core.rng import Rng

Near = Callable[[int], np.ndarray]


def k_means(features_ND: np.ndarray, num_clusters: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster (N,) int64 of each image and the centers (K, D) float32, means of their images."""
    num_clusters = min(num_clusters, len(features_ND))
    model = MiniBatchKMeans(num_clusters, random_state=rng.seed() % 2**32, n_init=3, batch_size=4096)
    with threadpool_limits(1), warnings.catch_warnings():
        # repeated images: fewer clusters, which is said by their number
        warnings.simplefilter("ignore", ConvergenceWarning)
        label_N = model.fit_predict(np.ascontiguousarray(features_ND, np.float32))
    _, cluster_N, size_K = np.unique(label_N, return_inverse=True, return_counts=True)
    total_KD = np.zeros((len(size_K), features_ND.shape[1]))
    np.add.at(total_KD, cluster_N, features_ND)
    return cluster_N.astype(np.int64), (total_KD / size_K[:, None]).astype(np.float32)


def cold_start(
    features_ND: np.ndarray, count: int, by: Literal["centroids", "k_center"], key_N: np.ndarray, rng: Rng, near: Near
) -> np.ndarray:
    """Choose B of N images by their embeddings, which are divided by their length.

    ``k_center`` is greedy (Sener & Savarese, ICLR 2018, Alg. 1) from the image of smallest ``key_N``. ``centroids``
    makes B clusters and takes from each, the largest first, the image nearest to its center that is still open; with
    fewer clusters than B (images that repeat) the rest is k-center's. Typical images suit small budgets better than
    unusual ones (Hacohen et al., "Active Learning on a Budget", ICML 2022, arXiv 2202.02794).

    Args:
        features_ND: finite.
        count: B; fewer come back if no more are open.
        by: see above.
        key_N: (N,) unique numbers that decide the first pick and ties.
        rng: of the clustering.
        near: rows that may not be chosen beside a row, itself included.

    Returns:
        (B,) int64 rows, in the order they were chosen.
    """
    length_N = np.linalg.norm(features_ND, axis=1, keepdims=True)
    x_ND = (features_ND / np.maximum(length_N, np.finfo(np.float32).tiny)).astype(np.float32)
    if by == "k_center" or not len(x_ND) or not count:
        return k_center(x_ND, count, tie_key=key_N, near=near).order
    chosen = _nearest_to_centers(x_ND, count, key_N, rng, near)
    is_open = np.ones(len(x_ND), bool)
    for row in chosen:
        is_open[near(int(row))] = False
    # what is chosen are centers, and what is closed is no candidate
    rows = np.concatenate([chosen, np.flatnonzero(is_open)])
    place = {int(row): n for n, row in enumerate(rows)}
    rest = k_center(
        x_ND[rows],
        count - len(chosen),
        np.arange(len(chosen)),
        tie_key=key_N[rows],
        near=lambda n: np.array([place[m] for m in near(int(rows[n])).tolist() if m in place], np.int64),
    )
    return np.concatenate([chosen, rows[rest.order]])


def _nearest_to_centers(x_ND: np.ndarray, count: int, key_N: np.ndarray, rng: Rng, near: Near) -> np.ndarray:
    cluster_N, center_KD = k_means(x_ND, count, rng)
    size_K = np.bincount(cluster_N)
    distance_N = ((x_ND - center_KD[cluster_N]) ** 2).sum(1)
    is_open = np.ones(len(x_ND), bool)
    chosen: list[int] = []
    for cluster in np.lexsort((np.arange(len(size_K)), -size_K)):
        rows = np.flatnonzero((cluster_N == cluster) & is_open)
        if len(rows):
            row = int(rows[np.lexsort((key_N[rows], distance_N[rows]))[0]])
            chosen.append(row)
            is_open[near(row)] = False
    return np.array(chosen, np.int64)
