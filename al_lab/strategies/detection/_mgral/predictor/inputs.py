"""What a regressor sees of a set of images, and of all sets that differ from it by one (beyond MGRAL).

Shapes: N images, D features, E facts an image, K clusters, J landmarks, F = D + E + 1 + K inputs.

A set is what was labeled before, L, and a batch, S. What the detector said of an image before it was labeled is of the
batch alone; the rest is of all that a training sees with labels, A = L u S.

| input | group | value |
|---|---|---|
| mean embedding | ``embedding`` | (1/|A|) sum_{i in A} x_i |
| entropy, expected boxes | their names | (1/|S|) sum_{i in S} e_i; the sum up to a factor, as B is fixed |
| coverage | ``coverage`` | -(1/J) sum_j min_{i in A} |x_i - l_j|, l_j a sample of the images |
| log cluster counts | ``clusters`` | ln(1 + |A n C_k|), the first image of a kind counts most |

All of them follow from sums and minima over images, so adding or taking away one image is O(1) an image: a search over
sets need not describe any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.acquisition.k_means import k_means
from al_lab.core.rng import Rng

_LANDMARKS = 256


@dataclass
class Content:
    """Sums over a set of images.

    Attributes:
        num: images.
        total_D: sum of their features.
        total_E: sum of their facts.
        count_K: of them in each cluster.
        near_J: distance of each landmark to the nearest of them; that to the farthest image of all for an empty set.
    """

    num: int
    total_D: np.ndarray
    total_E: np.ndarray
    count_K: np.ndarray
    near_J: np.ndarray


class SetInputs:
    """See the module's text.

    Args:
        features_ND: of all images, standardized.
        facts: name -> (N,) one number an image, such as its entropy; standardized here.
        num_clusters: K, at most N.
        rng: of clusters and landmarks.
    """

    def __init__(self, features_ND: np.ndarray, facts: Mapping[str, np.ndarray], num_clusters: int, rng: Rng) -> None:
        num, dim = features_ND.shape
        self.features_ND = np.asarray(features_ND, np.float64)
        self.fact_NE = np.stack([_standard(v) for v in facts.values()], 1) if facts else np.zeros((num, 0))
        self.cluster_N, centers_KD = k_means(features_ND, num_clusters, rng.child("clusters"))
        self.num_clusters = len(centers_KD)
        landmarks = rng.generator("landmarks").permutation(num)[:_LANDMARKS]
        self.distance_NJ = _distances(features_ND, features_ND[landmarks])
        self._farthest_J = self.distance_NJ.max(0)
        names = ["embedding"] * dim + list(facts) + ["coverage"] + ["clusters"] * self.num_clusters
        #: of each input, the name of its group
        self.groups_F = np.array(names)

    def content(self, images: np.ndarray) -> Content:
        """Return the sums over some images (positions)."""
        images = np.asarray(images, np.int64)
        near_J = nearest(self.distance_NJ, images) if len(images) else self._farthest_J
        count_K = np.bincount(self.cluster_N[images], minlength=self.num_clusters).astype(np.float64)
        return Content(len(images), self.features_ND[images].sum(0), self.fact_NE[images].sum(0), count_K, near_J)

    def describe(self, base: Content, batch: Content) -> np.ndarray:
        """Return the inputs (F,) of a batch beside what was labeled before; the two share no image."""
        return np.concatenate(
            [
                (base.total_D + batch.total_D) / max(base.num + batch.num, 1),
                batch.total_E / max(batch.num, 1),
                [-np.minimum(base.near_J, batch.near_J).mean()],
                np.log1p(base.count_K + batch.count_K),
            ]
        )


@dataclass(frozen=True)
class SetValue:
    """A function of sets that is linear in their inputs, taken apart by images.

    value(S) = b + (1/|A|) sum_{i in A} v_i + (1/|S|) sum_{i in S} u_i + sum_k omega_k ln(1 + |A n C_k|)
               - gamma mean_j min_{i in A} d_ij

    Attributes:
        constant: b.
        image_N: v_i.
        fact_N: u_i.
        cluster_K: omega_k.
        coverage: gamma.
        cluster_N, distance_NJ: of the images, see `SetInputs`.
    """

    constant: float
    image_N: np.ndarray
    fact_N: np.ndarray
    cluster_K: np.ndarray
    coverage: float
    cluster_N: np.ndarray
    distance_NJ: np.ndarray

    @classmethod
    def of(cls, inputs: SetInputs, constant: float, weight_F: np.ndarray) -> "SetValue":
        """Take constant + weight . describe(L, S) apart."""
        dim, facts = inputs.features_ND.shape[1], inputs.fact_NE.shape[1]
        width = dim + facts
        return cls(
            constant,
            inputs.features_ND @ weight_F[:dim],
            inputs.fact_NE @ weight_F[dim:width],
            weight_F[width + 1 :],
            float(weight_F[width]),
            inputs.cluster_N,
            inputs.distance_NJ,
        )

    def nearest(self, images: np.ndarray) -> np.ndarray:
        """See the function of this name."""
        return nearest(self.distance_NJ, images)


def nearest(distance_NJ: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the distance (J,) of each landmark to the nearest of some images; the largest one if there are none."""
    found: np.ndarray = distance_NJ[images].min(0) if len(images) else distance_NJ.max(0)
    return found


def _standard(values_N: np.ndarray) -> np.ndarray:
    values = np.asarray(values_N, np.float64)
    deviation = values.std()
    return (values - values.mean()) / (deviation if deviation > 0 else 1.0)


def _distances(features_ND: np.ndarray, landmark_JD: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (N, J), float32."""
    x, y = np.asarray(features_ND, np.float32), np.asarray(landmark_JD, np.float32)
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def described(inputs: SetInputs, bases: Sequence[np.ndarray], batches: Sequence[np.ndarray]) -> np.ndarray:
    """Return the inputs (M, F) of several batches, each beside what was labeled before it."""
    return np.stack(
        [inputs.describe(inputs.content(a), inputs.content(b)) for a, b in zip(bases, batches, strict=True)]
    )
