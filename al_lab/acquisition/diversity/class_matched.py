"""How unlike two images are, object by object of the same class (PPAL's category-conditioned matching similarity).

Shapes: N images, D boxes of all of them, F features, n boxes of one class, J images that show it.
"""

from dataclasses import dataclass

import numpy as np

_OTHER = 2.0  # 1 - cos of a box whose class the other image doesn't show: the largest there is
_EPS = 1e-5  # PPAL's code
_BLOCK = 16_000_000  # likenesses that are held at once


@dataclass(frozen=True)
class Objects:
    """Boxes of images, all in one table.

    Attributes:
        start: (N + 1,) image n's boxes are start[n] to start[n + 1].
        label: (D,) int64.
        confidence: (D,).
        feature: (D, F), of any length but 0.
    """

    start: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    feature: np.ndarray

    def above(self, confidence: float) -> "Objects":
        """Return the boxes of more than this confidence."""
        keep = self.confidence > confidence
        count_N = np.diff(np.concatenate([[0], np.cumsum(keep)])[self.start])
        return Objects(
            np.concatenate([[0], np.cumsum(count_N)]), self.label[keep], self.confidence[keep], self.feature[keep]
        )


def distances(objects: Objects, same_rank_is_same: bool = False) -> np.ndarray:
    """Return how unlike each pair of images is, (N, N) float64, in [0, 2].

    PPAL (Yang et al., CVPR 2024, Eq. 5-7), over boxes o of image i and p of image j:

        delta_o = min_{p: c_p = c_o} 1 - cos(f_o, f_p), 2 if j shows no c_o
        d(i -> j) = sum_o s_o delta_o / (sum_o s_o + 1e-5);    d(i, j) = (d(i -> j) + d(j -> i)) / 2

    An image without boxes is 0 from every other. Each class is one product of matrices, in blocks of its boxes.

    Args:
        objects: of the images.
        same_rank_is_same: as the released code has it, the o-th boxes of two images count as identical if their classes
            agree: it clears the diagonal, meant for i = j, of every pair.
    """
    num, sure_D = len(objects.start) - 1, objects.confidence.astype(np.float64)
    count_N = np.diff(objects.start)
    image_D = np.repeat(np.arange(num), count_N)
    rank_D = np.arange(len(image_D)) - objects.start[image_D]
    unit_DF = objects.feature.astype(np.float32)
    length_D1 = np.linalg.norm(unit_DF, axis=1, keepdims=True)
    unit_DF /= np.where(length_D1 > 0, length_D1, 1)
    total_N = np.bincount(image_D, sure_D, num)
    summed_NN = np.repeat(_OTHER * total_N[:, None], num, 1)
    for label in np.unique(objects.label).tolist():
        rows = np.flatnonzero(objects.label == label)
        images_J, start_J = np.unique(image_D[rows], return_index=True)
        step = max(1, _BLOCK // len(rows))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            unlike_nn = 1 - unit_DF[part] @ unit_DF[rows].T
            if same_rank_is_same:
                unlike_nn[rank_D[part, None] == rank_D[rows]] = 0.0
            delta_nJ = np.minimum.reduceat(unlike_nn, start_J, axis=1).clip(0, _OTHER)
            of_I, start_I = np.unique(image_D[part], return_index=True)
            saved_nJ = sure_D[part, None] * (delta_nJ - _OTHER)
            summed_NN[np.ix_(of_I, images_J)] += np.add.reduceat(saved_nJ, start_I, axis=0)
    summed_NN /= total_N[:, None] + _EPS  # now d(i -> j)
    found_NN = summed_NN + summed_NN.T
    found_NN /= 2
    found_NN[:, count_N == 0] = found_NN[count_N == 0] = 0.0
    return found_NN
