"""What a batch is worth whose images are worth something each, where images alike tell the same twice (beyond MGRAL).

The second of two near copies meets a model that knows the first, so that a batch is worth less than the sum over its
images (`al_lab.learners.class_gradient`):

    V(S) = ln det (A + sum_{i in S} v_i x_i x_i^T) - ln det A,   A = I + sum_{i labeled} x_i x_i^T

what observations x_i, as exact as they are worth, tell of a linear function of the embedding x, nats. Of n copies it
grows as ln(1 + n v q), of images in n new directions as n ln(1 + v q). DEVIATION: the embedding stands for the
gradient, whose outer products have millions of numbers.

Shapes: N candidates, L labeled images, D numbers of an embedding, B images of a batch.
"""

import numpy as np


class InformationGain:
    """V(S) of the module's text.

    Args:
        features_ND: embeddings of the candidates.
        worth_N: v >= 0; scaled to mean 1.
        labeled_LD: embeddings of the labeled images; all are scaled so that a candidate has the length 1 on average.
    """

    def __init__(self, features_ND: np.ndarray, worth_N: np.ndarray, labeled_LD: np.ndarray) -> None:
        x_ND = np.asarray(features_ND, np.float64)
        scale = float(np.sqrt((x_ND**2).sum(1).mean())) or 1.0
        self._x_ND, known_LD = x_ND / scale, np.asarray(labeled_LD, np.float64) / scale
        mean = float(np.mean(worth_N))
        self.worth_N = np.asarray(worth_N, np.float64) / mean if mean > 0 else np.ones(len(x_ND))
        self._prior_DD = np.eye(x_ND.shape[1]) + known_LD.T @ known_LD
        self._log_prior = float(np.linalg.slogdet(self._prior_DD)[1])

    def __call__(self, batch: np.ndarray) -> float:
        """Return the value of a batch (B,) of positions, nats."""
        x_BD = self._x_ND[batch]
        posterior_DD = self._prior_DD + (x_BD * self.worth_N[batch, None]).T @ x_BD
        return float(np.linalg.slogdet(posterior_DD)[1]) - self._log_prior

    def greedy(self, budget: int) -> np.ndarray:
        """Return (B,) positions, each the one that adds most; O(B N D).

        V is monotone and submodular, so that no batch is worth more than e / (e - 1) times this one (Nemhauser et al.,
        Mathematical Programming 1978). Of equals the first.
        """
        inverse_DD = np.linalg.inv(self._prior_DD)
        variance_N = np.einsum("nd,nd->n", self._x_ND @ inverse_DD, self._x_ND)
        is_open_N, batch = np.ones(len(self._x_ND), bool), []
        for _ in range(min(budget, len(self._x_ND))):
            gain_N = np.where(is_open_N, self.worth_N * variance_N, -np.inf)
            image = int(np.argmax(gain_N))
            batch.append(image)
            is_open_N[image] = False
            along_D = inverse_DD @ self._x_ND[image]
            share = self.worth_N[image] / (1 + self.worth_N[image] * variance_N[image])
            inverse_DD -= share * np.outer(along_D, along_D)  # Sherman and Morrison
            variance_N = np.maximum(variance_N - share * (self._x_ND @ along_D) ** 2, 0)
        return np.array(batch, np.int64)
