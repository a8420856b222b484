"""BADGE's choice: gradients of the last layer, spread out by k-means++ seeding, without ever writing one down."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """Picks in order.

    Attributes:
        order: (B,) int64 indices.
        squared: (B,) squared distance to the nearest earlier pick; of the first, its own squared length.
    """

    order: np.ndarray
    squared: np.ndarray


class GradientEmbeddings:
    """g_i = a_i (outer product) phi_i with a_i = onehot(argmax p_i) - p_i.

    Minus the gradient of the cross-entropy with the model's own guess.

    Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020 (arXiv 1906.03671),
    Eq. (1). N x C D numbers are never stored: <g_i, g_j> = <a_i, a_j> <phi_i, phi_j>.

    Args:
        probs: (N, C), rows sum to 1.
        features: phi, (N, D), the penultimate layer.
    """

    def __init__(self, probs: np.ndarray, features: np.ndarray) -> None:
        self.a_NC = -np.asarray(probs, np.float64)
        self.a_NC[np.arange(len(probs)), np.argmax(probs, axis=1)] += 1
        self.phi_ND = np.asarray(features, np.float64)
        self.squared_norm_N = np.square(self.a_NC).sum(1) * np.square(self.phi_ND).sum(1)

    def squared_distance(self, index: int) -> np.ndarray:
        """Return |g_i - g_index|^2 for every i, (N,) >= 0."""
        inner_N = (self.a_NC @ self.a_NC[index]) * (self.phi_ND @ self.phi_ND[index])
        return np.maximum(self.squared_norm_N + self.squared_norm_N[index] - 2 * inner_N, 0)


def k_means_pp(points: GradientEmbeddings, budget: int, generator: np.random.Generator) -> Seeds:
    """Pick the longest gradient, then the others at random.

    Each next one has a probability proportional to its squared distance to the nearest pick.

    Where all that is left coincides with a pick, the lowest index is next.

    Args:
        points: N gradients.
        budget: picks; all N if there are fewer.
        generator: of the draws.
    """
    number = len(points.squared_norm_N)
    order = np.zeros(min(budget, number), np.int64)
    squared = np.zeros(len(order))
    nearest_N, is_open_N = np.full(number, np.inf), np.ones(number, bool)
    for k in range(len(order)):
        if k == 0:
            index = int(np.argmax(points.squared_norm_N))
        else:
            total_N = np.cumsum(np.where(is_open_N, nearest_N, 0))
            drawn = int(np.searchsorted(total_N, generator.random() * total_N[-1], side="right"))
            index = drawn if drawn < number and is_open_N[drawn] else int(np.argmax(is_open_N))
        order[k], squared[k] = index, nearest_N[index] if k else points.squared_norm_N[index]
        is_open_N[index] = False
        nearest_N = np.minimum(nearest_N, points.squared_distance(index))
    return Seeds(order, squared)
