"""Greedy k-center under the symmetric Kullback-Leibler divergence of mixtures, two matrix-vector products a pick.

Shapes: N images, R mixtures of an image (1, or one a class), C classes, M centers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

#: mixtures are not smaller than this in logarithms; ours: CDAL's code divides by zero
SMALLEST = 1e-8
_BLOCK = 64  # centers whose distances are found at once


class Picked(NamedTuple):
    """Picks in order.

    Attributes:
        order: (B,) rows.
        distance: (B,) of each pick to the nearest center when it was picked; inf for the first of all.
        radius: the largest distance that is left.
    """

    order: np.ndarray
    distance: np.ndarray
    radius: float


class MixtureDistances:
    """Symmetric divergences between images; J is no metric, so nothing can be left out by the triangle inequality.

    With a, b mixtures of one class and h(a) = sum_k a_k ln a_k:

        J(a, b) = 1/2 sum_k (a_k - b_k)(ln a_k - ln b_k) = 1/2 [h(a) + h(b) - a . ln b - b . ln a]

    so that the distances of all images to one are a product with its ln b, and one with its b. Over classes CDAL's code
    takes the mean of those that both images have, 0 where they share none (the paper's Eq. 3 is the sum).

    Args:
        mixtures: (N, C) or (N, R, C); a row of zeros says that the image has no such class.
    """

    def __init__(self, mixtures: np.ndarray) -> None:
        m_NRC = np.asarray(mixtures, np.float64)
        m_NRC = m_NRC[:, None] if m_NRC.ndim == 2 else m_NRC
        has_NR = m_NRC.sum(2) > 0
        m_NRC = np.where(has_NR[:, :, None], m_NRC.clip(SMALLEST), 0.0)
        log_NRC = np.log(m_NRC, where=m_NRC > 0, out=np.zeros_like(m_NRC))
        self.has_NR = has_NR.astype(np.float64)
        self.own_NR = (m_NRC * log_NRC).sum(2)
        num = len(m_NRC)
        self._m_NK, self._log_NK = m_NRC.reshape(num, -1), log_NRC.reshape(num, -1)

    def __len__(self) -> int:
        return len(self._m_NK)

    def to(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return (N, M): distances of all images to some, >= 0."""
        rows = np.asarray(rows, np.int64)
        has_RM, own_RM = self.has_NR[rows].T, self.own_NR[rows].T
        J_NM = -(self._m_NK @ self._log_NK[rows].T)
        J_NM -= self._log_NK @ self._m_NK[rows].T
        if self.has_NR.shape[1] == 1:  # every image has its one mixture
            J_NM += self.own_NR + own_RM
        else:
            J_NM += self.own_NR @ has_RM + self.has_NR @ own_RM
            J_NM /= np.maximum(self.has_NR @ has_RM, 1)
        J_NM *= 0.5
        return np.maximum(J_NM, 0, out=J_NM)


def greedy(
    distances: MixtureDistances,
    amount: int,
    labeled: Sequence[int] | np.ndarray,
    near: Callable[[int], np.ndarray] | None = None,
) -> Picked:
    """Pick, again and again, the image farthest from all centers; equally far ones by position.

    CDAL-CS (ECCV 2020, Sec. 3.2):  s <- L;  B times:  u = argmax_{i in U} min_{j in s} J(i, j);  s <- s + {u}.

    Args:
        distances: of the images.
        amount: B, at most; fewer where fewer are left.
        labeled: rows that are centers from the start.
        near: rows that may not be picked beside a row.
    """
    radius_N = np.full(len(distances), np.inf)
    for start in range(0, len(labeled), _BLOCK):
        np.minimum(radius_N, distances.to(labeled[start : start + _BLOCK]).min(1), out=radius_N)
    radius_N[np.asarray(labeled, np.int64)] = -np.inf
    order: list[int] = []
    far: list[float] = []
    while len(order) < amount and len(radius_N):
        best = int(radius_N.argmax())
        if radius_N[best] == -np.inf:
            break
        order.append(best)
        far.append(float(radius_N[best]))
        np.minimum(radius_N, distances.to([best])[:, 0], out=radius_N)
        radius_N[[best] if near is None else near(best)] = -np.inf
    rest = radius_N[radius_N > -np.inf]
    return Picked(np.array(order, np.int64), np.array(far), float(rest.max()) if len(rest) else 0.0)
