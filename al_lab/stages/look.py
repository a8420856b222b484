"""Look at one image of the pool with the last model: losses, coverage by what was bought, densities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from al_lab.acquisition.source_filter import coverage_density
from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.metrics.coverage import coverage
from al_lab.metrics.miou import IGNORE
from al_lab.stages.estimator import CENTERS, calibrate, far_centers, neighbor_rank, one_purchase, unit_features

POPULATION = 50_000  # pixels of an image that stand for all of them, at most
MOST_CENTERS = 2_000  # bought pixels of an image that stand for all of them: whole segments have tens of thousands
_DISTANCES = 2e7  # measured in an image at most: with more than 400 centers the population shrinks
_SHOWN = (20, 40)  # bought and other pixels of an image in the t-SNE


@dataclass(frozen=True)
class Look:
    """What one image of the pool came to; losses and features are absent where the truth or a branch is.

    Attributes:
        row: numbers of the image, for ``analysis.json``.
        loss, loss_bought: cross-entropies of its labeled pixels, and of those bought.
        density, radial: of plain k-center's picks; ``…_random``: of as many random pixels.
        features, labels, is_bought: of the pixels shown in the t-SNE.
    """

    row: dict[str, Any]
    loss: np.ndarray
    loss_bought: np.ndarray
    density: np.ndarray
    radial: np.ndarray
    density_random: np.ndarray
    radial_random: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    is_bought: np.ndarray


def look(
    view: DenseView, truth_HW: np.ndarray | None, bought_HW: np.ndarray, rng: Rng, densities: Mapping[str, Any]
) -> Look:
    """Measure one image; without a truth every pixel counts as having a class.

    Bought pixels without a class teach nothing: they are no centers. Of more than `MOST_CENTERS` random ones stand for
    all, and the others are covered like any pixel, so that distances come out a little too large.
    """
    valid_HW = np.ones(bought_HW.shape, bool) if truth_HW is None else truth_HW != IGNORE
    none = np.zeros(0)
    row: dict[str, Any] = {
        "id": view.sample_id,
        "pixels": bought_HW.size,
        "valid": int(valid_HW.sum()),
        "bought": int(bought_HW.sum()),
    }
    loss: np.ndarray = none
    loss_bought: np.ndarray = none
    if truth_HW is not None:
        loss_HW = _cross_entropy(view.probs, truth_HW)
        loss, loss_bought = loss_HW[valid_HW], loss_HW[valid_HW & bought_HW]
    # a whole image is covered by itself
    if view.features is None or bought_HW.all() or not (bought_HW & valid_HW).any():
        return Look(row, loss, loss_bought, none, none, none, none, np.zeros((0, 0)), none, none)
    pixels, centers = np.flatnonzero(valid_HW), np.flatnonzero(bought_HW & valid_HW)
    row["centers_of"] = len(centers)
    centers = _some(centers, MOST_CENTERS, rng.generator("centers"))
    sample = _some(pixels, min(POPULATION, int(_DISTANCES / len(centers))), rng.generator("population"))
    rows = np.union1d(sample, centers)
    f_ND = unit_features(view, rows)
    row |= {"centers": len(centers)} | _covered(f_ND, np.searchsorted(rows, centers))
    of_far = of_random = (none, none)
    if "error" in view.extras:
        density_hw, count = density_of(view, densities), min(len(centers), CENTERS)
        of_far = calibrate(view, f_ND, rows, far_centers(f_ND, count, rng), density_hw)
        random = rng.generator("random centers").choice(len(rows), count, replace=False)
        of_random = calibrate(view, f_ND, rows, random, density_hw)
        row |= {
            "neighbor_rank": neighbor_rank(view.features, density_hw, rng),
            "one_purchase": one_purchase(view, sample, count, density_hw),
        }
    shown = _shown(sample, centers, rng)
    labels = np.full(len(shown), IGNORE) if truth_HW is None else truth_HW.reshape(-1)[shown]
    return Look(
        row,
        loss,
        loss_bought,
        *of_far,
        *of_random,
        f_ND[np.searchsorted(rows, shown)],
        labels,
        bought_HW.reshape(-1)[shown],
    )


def _some(of: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return a random few of them, in their order; all if there are no more."""
    return of if len(of) <= count else np.sort(generator.choice(of, count, replace=False))


def _covered(f_ND: np.ndarray, centers: np.ndarray) -> dict[str, float]:
    """Return how well the rows ``centers`` cover all rows."""
    covered = coverage(f_ND, centers)
    return {
        "population": len(f_ND),
        "radius": covered.radius,
        "largest_radial": covered.largest_radial,
        "largest_radial_others": float(covered.radial_others.max()),
        "mean_distance": covered.mean_distance,
    }


def _shown(sample: np.ndarray, centers: np.ndarray, rng: Rng) -> np.ndarray:
    """Draw the pixels of the picture: a few centers, and others of the sample."""
    few, many = _SHOWN
    others = np.setdiff1d(sample, centers)
    return np.concatenate([rng.generator("shown", n).permutation(of)[:n] for of, n in ((centers, few), (others, many))])


def density_of(view: DenseView, densities: Mapping[str, Any]) -> torch.Tensor:
    """Return a view's densities by beta, tau and scale, at the features' resolution."""
    return coverage_density(view.extras["error"], **densities, features_DHW=view.features)


def _cross_entropy(probs: torch.Tensor, truth_HW: np.ndarray) -> np.ndarray:
    """Return -log p of the true class, (H, W) float32; pixels without one get a number that nobody reads."""
    index = torch.from_numpy(np.where(truth_HW < len(probs), truth_HW, 0).astype(np.int64)).to(probs.device)
    p_HW = probs.float().gather(0, index[None])[0]
    return -p_HW.clamp_min(torch.finfo(p_HW.dtype).tiny).log().cpu().numpy()
