"""How unlike two images are, object by object of the same class (PPAL's category-conditioned matching similarity).

Shapes: N images, D boxes of all of them, F features, n boxes of one class, J images that show it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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


def distances(objects: Objects, device: torch.device | str = "cpu", same_rank_is_same: bool = False) -> np.ndarray:
    """Return how unlike each pair of images is, (N, N) float64, in [0, 2].

    PPAL (Yang et al., CVPR 2024, Eq. 5-7), over boxes o of image i and p of image j:

        delta_o = min_{p: c_p = c_o} 1 - cos(f_o, f_p), 2 if j shows no c_o
        d(i -> j) = sum_o s_o delta_o / (sum_o s_o + 1e-5);    d(i, j) = (d(i -> j) + d(j -> i)) / 2

    An image without boxes is 0 from every other.

    Args:
        objects: of the images.
        device: where products are computed.
        same_rank_is_same: as the released code has it, the o-th boxes of two images count as identical if their classes
            agree: it clears the diagonal, meant for i = j, of every pair.
    """
    num, sure_D = len(objects.start) - 1, objects.confidence.astype(np.float64)
    count_N = np.diff(objects.start)
    image_D = np.repeat(np.arange(num), count_N)
    rank_D = np.arange(len(image_D)) - objects.start[image_D]
    feature_DF = torch.from_numpy(np.asarray(objects.feature, np.float32)).to(device)
    unit_DF = torch.nn.functional.normalize(feature_DF, dim=1)
    total_N = np.bincount(image_D, sure_D, num)
    summed_NN = np.repeat(_OTHER * total_N[:, None], num, 1)
    for label in np.unique(objects.label).tolist():
        rows = np.flatnonzero(objects.label == label)
        images_J, place_n = np.unique(image_D[rows], return_inverse=True)
        step = max(1, _BLOCK // len(rows))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            unlike_nn = 1 - unit_DF[rows[part]] @ unit_DF[rows].T
            if same_rank_is_same:
                is_same = torch.from_numpy(rank_D[rows[part], None] == rank_D[rows])
                unlike_nn.masked_fill_(is_same.to(unlike_nn.device), 0.0)
            delta_nJ = _least(unlike_nn, place_n, len(images_J))
            saved_nJ = sure_D[rows[part], None] * (delta_nJ.clip(0, _OTHER) - _OTHER)
            of_I, first = np.unique(image_D[rows[part]], return_index=True)
            summed_NN[np.ix_(of_I, images_J)] += np.add.reduceat(saved_nJ, first, axis=0)
    summed_NN /= total_N[:, None] + _EPS  # now d(i -> j)
    found_NN = summed_NN + summed_NN.T
    found_NN /= 2
    found_NN[:, count_N == 0] = found_NN[count_N == 0] = 0.0
    return found_NN


def _least(unlike_nn: Tensor, place_n: np.ndarray, num: int) -> np.ndarray:
    """Return the smallest value of the columns of each image, (n, J) float64; columns of an image lie together."""
    if unlike_nn.device.type == "cpu":
        first = np.flatnonzero(np.diff(place_n, prepend=-1))
        return np.minimum.reduceat(unlike_nn.numpy(), first, axis=1).astype(np.float64)
    index = torch.from_numpy(place_n).to(unlike_nn.device).expand(len(unlike_nn), -1)
    least_nJ = unlike_nn.new_full((len(unlike_nn), num), torch.inf).scatter_reduce_(1, index, unlike_nn, "amin")
    return np.asarray(least_nJ.double().cpu().numpy())
