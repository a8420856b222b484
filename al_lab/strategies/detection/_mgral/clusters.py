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

import numpy as np
import torch
from torch import Tensor, nn

from al_lab.acquisition.k_center import k_center
from al_lab.acquisition.k_means import k_means
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
