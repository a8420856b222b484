"""Images as the mean features of their classes, and how far they are from the anchors of another domain.

Ning et al., "Multi-Anchor Active Domain Adaptation for Semantic Segmentation" (MADA), ICCV 2021; facts from the
released code. Shapes: N images, C classes, D feature channels, K anchors, P locations of one image.
"""

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from al_lab.core.rng import Rng

_ROWS = 1024  # images compared with the anchors at once


def class_centroids(features_DP: Tensor, class_P: Tensor, num_classes: int, min_pixels: int = 10) -> Tensor:
    """Return the mean feature of each class, one after the other; (C D,) float32.

    Args:
        features_DP: of an image's locations.
        class_P: int64 class of each location, 0..C-1; anything else is no class, and left out.
        num_classes: C.
        min_pixels: a class of fewer locations is all zeros (10 in the released code).
    """
    is_class_CP = class_P == torch.arange(num_classes, device=class_P.device)[:, None]
    count_C = is_class_CP.sum(1)  # no selection of locations: a GPU would have to wait for their number
    mean_CD = is_class_CP.double() @ features_DP.double().T / count_C.clamp(min=1)[:, None]
    return torch.where((count_C >= min_pixels)[:, None], mean_CD, 0.0).reshape(-1).float()


def anchors(vectors_NG: np.ndarray, num_anchors: int, iterations: int, rng: Rng) -> np.ndarray:
    """Return the centers of a k-means of the source's images, (K, G) float32; fewer, if there are fewer images.

    Lloyd's algorithm from one k-means++ start, as many iterations as the released code's (faiss) at most.
    """
    number = min(num_anchors, len(vectors_NG))
    model = KMeans(number, n_init=1, max_iter=iterations, random_state=rng.seed() % 2**32)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # images that repeat: fewer centers differ
        return np.asarray(model.fit(np.asarray(vectors_NG, np.float32)).cluster_centers_, np.float32)


def anchor_distances(vectors_NG: np.ndarray, anchors_KG: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of each image to each anchor, (N, K) float64."""
    anchors_KG = np.asarray(anchors_KG, np.float64)
    out = np.empty((len(vectors_NG), len(anchors_KG)))
    for start in range(0, len(vectors_NG), _ROWS):
        some = slice(start, start + _ROWS)
        for k, anchor_G in enumerate(anchors_KG):
            out[some, k] = np.square(vectors_NG[some] - anchor_G).mean(1)
    return out


def distance_to_anchors(vectors_NG: np.ndarray, anchors_KG: np.ndarray) -> np.ndarray:
    """Return Delta of each image, (N,) float64: min_k |g - A_k|^2 / (C D); large: nothing in the source is like it."""
    return np.asarray(anchor_distances(vectors_NG, anchors_KG).min(1))
