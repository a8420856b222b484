"""Judge estimated densities and the selection that divides by them on one image of one model.

Between campaigns bounds differ for many reasons: each has its own last model. Here all is of the same model, image and
candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.k_center import k_center
from al_lab.acquisition.source_filter import (
    Scale,
    candidates,
    coverage_density,
    informativeness,
    sample_bilinear,
)
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.metrics.coverage import coverage

CENTERS = 512  # picked in an image at most
_NEIGHBORS = 0.01  # of the map's locations; how far away they are says how dense the features really are
_ALPHA = 20.0  # the paper's
_JUDGED = 4096  # pixels that stand for an image at a query
POPULATIONS = ("image", "candidates")
SPREADS: tuple[Scale, ...] = ("minmax", "robust", "relative")  # scales that `try_densities` compares


def unit_features(view: DenseView, pixels: np.ndarray) -> np.ndarray:
    """Return features of length 1, upsampled to some pixels of the image; (N, D) float64."""
    return functional.normalize(sample_bilinear(view.features.double(), pixels, view.size_hw), dim=1).cpu().numpy()


def calibrate(
    view: DenseView, f_ND: np.ndarray, pixels: np.ndarray, centers: np.ndarray, density_hw: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return each center's density and average radial distance; Density Matters, Fig. 4 and supplement.

    Args:
        view: whose maps these are.
        f_ND: `unit_features` of ``pixels``.
        pixels: (N,) flat indices.
        centers: rows of both: those of `far_centers`, or random ones, whose areas nobody evened out.
        density_hw: at the features' resolution.
    """
    density = sample_bilinear(density_hw[None], pixels[centers], view.size_hw)[:, 0]
    return density.cpu().numpy(), coverage(f_ND, centers).radial


def far_centers(f_ND: np.ndarray, count: int, rng: Rng) -> np.ndarray:
    """Return the rows that plain k-center picks, (count,), from a random one on."""
    return k_center(f_ND, count, first=int(rng.generator("first").integers(len(f_ND)))).order


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
    return bounds(view, population, candidate_C, count, {"k_center": None, "density": density_hw})


def bounds(
    view: DenseView,
    population: np.ndarray,
    candidate_C: np.ndarray,
    count: int,
    densities: Mapping[str, Tensor | None],
) -> dict[str, dict[str, float]]:
    """Return, for each density map, how well what it would buy of this image covers some pixels.

    All have the same candidates, and what is bought already.

    Args:
        view: with features, and what was bought.
        population: (N,) flat indices of the pixels to be covered; centers are added.
        candidate_C: flat indices, the first pick (where nothing is bought) first.
        count: how many to buy.
        densities: name -> map at the features' resolution; None: 1 everywhere, which is k-center.
    """
    bought_B = np.zeros(0, np.int64) if view.bought is None else np.flatnonzero(view.bought)
    row_R = np.concatenate([candidate_C, bought_B])
    f_RD = unit_features(view, row_R)
    pixels = np.union1d(population, row_R)
    f_PD = unit_features(view, pixels)
    found = {}
    for name, density_hw in densities.items():
        d_R: np.ndarray | float = 1.0
        if density_hw is not None:
            d_R = sample_bilinear(density_hw[None], row_R, view.size_hw)[:, 0].double().cpu().numpy()
        first = None if len(bought_B) else 0
        order = density_greedy(f_RD, d_R, count, np.arange(len(candidate_C), len(row_R)), first=first).order
        centers = np.concatenate([row_R[order], bought_B])
        kept = np.isin(pixels, np.union1d(population, centers))
        covered = coverage(f_PD[kept], np.searchsorted(pixels[kept], centers))
        found[name] = {
            "radius": covered.radius,
            "largest_radial": covered.largest_radial,
            "mean_distance": covered.mean_distance,
        }
    return found


def judge_purchase(
    view: DenseView, candidate_C: np.ndarray, count: int, density_hw: Tensor, rng: Rng
) -> dict[str, float]:
    """Return how good densities, and what is bought by them, are on the model that buys.

    Returns:
        ``density_rank``, see `neighbor_rank` (absent where densities are constant); ``density_ratio``: of the 90 % to
        the 10 % quantile of densities; ``radial`` and ``mean_distance`` after this purchase (max_k delta_s(k), the
        bound of Theorem 2, and its mean), and both as ``…_k_center`` had the same candidates been picked by k-center.
    """
    size = int(np.prod(view.size_hw))
    some = rng.generator("judged").permutation(size)[:_JUDGED]
    both = bounds(view, some, candidate_C, count, {"": density_hw, "_k_center": None})
    rank = neighbor_rank(view.features, density_hw, rng)
    return {
        **({} if rank is None else {"density_rank": rank}),
        "density_ratio": _ratio(density_hw),
        **{f"radial{who}": found["largest_radial"] for who, found in both.items()},
        **{f"mean_distance{who}": found["mean_distance"] for who, found in both.items()},
    }


def try_densities(
    view: DenseView, count: int, alpha: float, ways: Sequence[tuple[Any, Any]], rng: Rng
) -> Iterator[dict[str, Any]]:
    """Buy of one image, for nothing, as Density Matters would with each of several densities.

    Args:
        view: with probabilities, features, errors and what was bought.
        count: b, pixels to buy.
        alpha: candidates a pixel bought.
        ways: scale and tau of `coverage_density`; (None, None): k-center.
        rng: draws pixels and locations, the same ones for each way.

    Yields:
        ``rank`` (NaN without densities) and ``ratio`` as `judge_purchase` has them; ``bounds``: of each of
        `POPULATIONS`.
    """
    candidate_C = candidates(informativeness(view.probs), count, alpha, view.bought)[0]
    size = int(np.prod(view.size_hw))
    some = (rng.generator("population").permutation(size)[:_JUDGED], candidate_C)
    for scale, tau in ways:
        density, rank, ratio = None, None, 1.0
        if scale is not None:
            density = coverage_density(view.extras["error"], 1.0, tau, scale, view.features)
            rank, ratio = neighbor_rank(view.features, density, rng), _ratio(density)
        found = {
            name: bounds(view, pixels, candidate_C, count, {"": density})[""]
            for name, pixels in zip(POPULATIONS, some, strict=True)
        }
        yield {"rank": np.nan if rank is None else rank, "ratio": ratio, "bounds": found}


def _ratio(density_hw: Tensor) -> float:
    low, high = (
        density_hw.double().reshape(-1).quantile(density_hw.new_tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    )
    return float(high / low)


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
