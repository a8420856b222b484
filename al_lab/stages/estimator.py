"""Judge estimated densities and the selection that divides by them on one image of one model.

What a campaign bought does not matter.

Between campaigns bounds differ for many reasons: each has its own last model. Here all is of the same model, image and
candidates.
"""

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.k_center import k_center
from al_lab.acquisition.source_filter import candidates, informativeness, sample_bilinear
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.metrics.coverage import coverage

CENTERS = 512  # picked in an image at most
_NEIGHBORS = 0.01  # of the map's locations; how far away they are says how dense the features really are
_ALPHA = 20.0  # the paper's


def unit_features(view: DenseView, pixels: np.ndarray) -> np.ndarray:
    """Return features of length 1, upsampled to some pixels of the image; (N, D) float64."""
    return functional.normalize(sample_bilinear(view.features.double(), pixels, view.size_hw), dim=1).cpu().numpy()


def calibrate(
    view: DenseView, f_ND: np.ndarray, pixels: np.ndarray, count: int, density_hw: Tensor, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """Pick by plain k-center and return each pick's density and average radial distance.

    Density Matters, Fig. 4 and supplement.
    """
    first = int(rng.generator("first").integers(len(pixels)))
    picked = k_center(f_ND, count, first=first).order
    density = sample_bilinear(density_hw[None], pixels[picked], view.size_hw)[:, 0]
    return density.cpu().numpy(), coverage(f_ND, picked).radial


def one_purchase(
    view: DenseView, population: np.ndarray, count: int, density_hw: Tensor
) -> dict[str, dict[str, float]]:
    """Return the bounds of what k-center and density-aware greedy would buy of this image.

    Both have the same candidates, and nothing is bought yet.

    Args:
        view: with probabilities and features.
        population: (N,) flat indices of the pixels to be covered.
        count: how many to buy; candidates are the 20 times as many of the smallest margin.
        density_hw: at the features' resolution.
    """
    candidate_C = candidates(informativeness(view.probs), count, _ALPHA)[0]
    f_CD = unit_features(view, candidate_C)
    density_C = sample_bilinear(density_hw[None], candidate_C, view.size_hw)[:, 0].double().cpu().numpy()
    found = {}
    for name, divisor in (("k_center", 1.0), ("density", density_C)):
        centers = candidate_C[density_greedy(f_CD, divisor, count, first=0).order]
        pixels = np.union1d(population, centers)
        covered = coverage(unit_features(view, pixels), np.searchsorted(pixels, centers))
        found[name] = {
            "radius": covered.radius,
            "largest_radial": covered.largest_radial,
            "mean_distance": covered.mean_distance,
        }
    return found


def neighbor_rank(features_DHW: Tensor, density_hw: Tensor, rng: Rng) -> float | None:
    """Return the rank correlation (Spearman) of 1 / density with the distance of near features.

    Near are the nearest 1 % of an image's features.

    1: estimated densities order locations as the features' real density does; 0: they say nothing. None where either is
    constant.

    Args:
        features_DHW: of any length, taken at length 1; every location counts once.
        density_hw: > 0, at the same resolution.
        rng: draws the locations, 512 of them if there are more.
    """
    f_ND = functional.normalize(features_DHW.double().flatten(1).T, dim=1)
    some = torch.as_tensor(rng.generator("neighbors").permutation(len(f_ND))[:CENTERS], device=f_ND.device)
    nearest = max(1, round(_NEIGHBORS * len(f_ND)))
    # itself is the first; unit vectors: |a - b|^2 = 2 - 2 a.b, whose order is all that counts
    distance = (
        (2 - 2 * f_ND[some] @ f_ND.T).kthvalue(nearest + 1, dim=1).values.cpu().numpy()
        if len(f_ND) > nearest
        else np.zeros(len(some))
    )
    inverse = 1 / density_hw.double().reshape(-1)[some].cpu().numpy()
    if np.ptp(distance) == 0 or np.ptp(inverse) == 0:
        return None
    result: Any = spearmanr(inverse, distance)
    return float(result.statistic)
