"""How far a selection's embeddings lie from those it is compared with, beside random selections.

Shapes: N images of the pool, V images to compare with, E numbers of an embedding, R random selections, D features.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from al_lab.data.lint.reference import Measure
from al_lab.data.near_vectors import nearest_of

_FEATURES = 256  # D; the error of a random feature map falls with its root
_MOST = 2000  # images to compare with, and to measure the width of the kernel
_BLOCK = 8192


def vector_measures(
    unit_NE: np.ndarray, mine: csr_array, random: csr_array, unit_VE: np.ndarray, of_pool: bool = False
) -> list[Measure]:
    """Return the distances of the selection, and of random ones, to V images.

    - the mean distance of an image to the nearest of the V: is what was chosen like them? An image that is one of the V
      itself has distance 0;
    - MMD, the maximum mean discrepancy of both sets (Gretton et al., JMLR 2012, Eq. 2; biased) with a Gaussian kernel
      as wide as the median distance, by 256 random Fourier features (Rahimi and Recht, NIPS 2007), so that a set costs
      a sum and not all its pairs: is there as much of everything?

    Args:
        unit_NE: the pool's vectors, see `al_lab.data.near_vectors.unit`.
        mine: the selection, (1, N), see `one_set`.
        random: (R, N), see `random_sets`.
        unit_VE: what it is compared with; of more than 2,000 so many are drawn.
        of_pool: these are images of the pool, some of them chosen: nearest is then left out.
    """
    rng = np.random.default_rng(0)
    some_VE = unit_VE[np.sort(rng.permutation(len(unit_VE))[:_MOST])]
    mmd = _mmd(unit_NE, mine, random, some_VE, rng)
    found = [Measure("mmd", "distance of embeddings as sets (MMD)", float(mmd[0][0]), mmd[1], "low")]
    if not of_pool:
        cosine_N = nearest_of(unit_NE, some_VE, -1.0).cosine
        distance_N = np.sqrt((2 - 2 * cosine_N.astype(np.float64)).clip(0))
        nearest = [(sets @ distance_N) / sets.sum(1) for sets in (mine, random)]
        what = "distance of embeddings to the nearest"
        found.append(Measure("nearest", what, float(nearest[0][0]), nearest[1], "low"))
    return found


def _mmd(
    unit_NE: np.ndarray, mine: csr_array, random: csr_array, some_VE: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    few = unit_NE[rng.permutation(len(unit_NE))[:_MOST]]
    squared = ((few - np.roll(few, 1, axis=0)) ** 2).sum(1)
    width = np.sqrt(max(float(np.median(squared)), 1e-12))
    # k(x, y) = exp(-|x - y|² / (2 s²)) = E[z(x) z(y)], z = √(2/D) cos(w x + b), w ~ N(0, 1/s²), b ~ U(0, 2π)
    w_ED = (rng.normal(size=(unit_NE.shape[1], _FEATURES)) / width).astype(np.float32)
    b_D = rng.uniform(0, 2 * np.pi, _FEATURES).astype(np.float32)

    def features(x_ME: np.ndarray) -> np.ndarray:
        blocks = [np.cos(x_ME[k : k + _BLOCK] @ w_ED + b_D) for k in range(0, len(x_ME), _BLOCK)]
        return np.concatenate(blocks) * np.float32(np.sqrt(2 / _FEATURES))

    z_ND, mean_D = features(unit_NE), features(some_VE).mean(0, dtype=np.float64)
    return [np.linalg.norm((sets @ z_ND) / sets.sum(1)[:, None] - mean_D, axis=1) for sets in (mine, random)]
