"""A hierarchical pool (beyond MGRAL, which calls it future work).

Cluster the images, let the agent read clusters, then choose within.

Shapes: N images, D features, K clusters of n_c images, B bought.

Reading 115,000 images one after the other is what makes an iteration slow. Here the agent reads K centers, and all
images of cluster c have its score s_c. While it learns nothing else changes: a batch is drawn from the N scores, and
its log-probability reaches the K scores.

The B largest of tied scores would be whole clusters, which no draw ever looks like. The query gives each cluster its
share instead, by D'Hondt's rule with n_c exp(s_c) votes, the mass that cluster has in a draw:

    U_i = s_c + ln n_c - ln r_i,   r_i = 1..n_c the rank of image i in its cluster: the image nearest the center first,
    then farthest-first.
"""

import warnings

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from al_lab.acquisition.k_center import k_center
from al_lab.core.rng import Rng


class Clustered(nn.Module):
    """An agent over clusters that scores images; it stands where an `Agent` stands.

    Args:
        agent: scores (K, D) centers.
        features_ND: of the images; clustered by k-means.
        num_clusters: K, at most N; clusters that stay empty are dropped.
        rng: of the clustering.
    """

    def __init__(self, agent: nn.Module, features_ND: np.ndarray, num_clusters: int, rng: Rng) -> None:
        super().__init__()
        self.agent = agent
        cluster_N, centers_KD = k_means(features_ND, num_clusters, rng)
        self.cluster_N: Tensor
        self.centers_KD: Tensor
        self.register_buffer("cluster_N", torch.from_numpy(cluster_N), persistent=False)
        self.register_buffer("centers_KD", torch.from_numpy(centers_KD), persistent=False)
        self._share_N = torch.from_numpy(_log_share(features_ND, cluster_N, centers_KD))

    @property
    def num_clusters(self) -> int:
        """K."""
        return len(self.centers_KD)

    def forward(self, features_ND: Tensor) -> Tensor:
        """Return each image's score (N,): its cluster's."""
        return self.agent(self.centers_KD)[self.cluster_N]

    def utilities(self, scores_N: Tensor) -> Tensor:
        """Return U (N,) of the module's text: by it the B best images are the query."""
        return scores_N.double() + self._share_N


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


def _log_share(features_ND: np.ndarray, cluster_N: np.ndarray, centers_KD: np.ndarray) -> np.ndarray:
    """Return ln n_c - ln r_i of every image, (N,) float64."""
    share_N = np.empty(len(features_ND))
    by_cluster = np.argsort(cluster_N, kind="stable")
    for c, rows in enumerate(np.split(by_cluster, np.cumsum(np.bincount(cluster_N))[:-1])):
        x = features_ND[rows]
        first = int(((x - centers_KD[c]) ** 2).sum(1).argmin())
        order = k_center(x, len(rows), first=first).order
        share_N[rows[order]] = np.log(len(rows) / np.arange(1, len(rows) + 1))
    return share_N
