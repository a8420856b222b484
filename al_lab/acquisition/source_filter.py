"""Density Matters' candidates: which pixels of an image the greedy selection looks at, and with what density.

Density Matters (arXiv 2312.09595), "Source Aided Candidate Filtering" and Eq. (7), (8).

| symbol | here | default | where |
|---|---|---|---|
| I | `informativeness` | | text below Eq. (6) |
| alpha | ``alpha`` of `candidates` | 20 or 10: `al_lab.core.budget.alpha_for` | implementation details |
| beta, tau | `coverage_density` | e^2.4, 0.25 | implementation details |

Deviations: errors are scaled to 0..1 by the smallest and largest of the image (UNSPECIFIED in the paper, which says
"normalized to 0-1").
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.aggregate import best_pixels
from al_lab.acquisition.uncertainty import margin
from al_lab.core.rng import Rng

BETA, TAU = math.exp(2.4), 0.25
Scale = Literal["minmax", "robust", "relative", "none"]
SCALES: tuple[str, ...] = get_args(Scale)
_ROBUST = (0.01, 0.99)
_ROWS = 4096  # pixels sampled at once on a CPU


def informativeness(probs_CHW: Tensor) -> Tensor:
    """Return I_ij = 1 - P_1* + P_2*, (H, W) in [0, 1]; P_1*, P_2* are the two largest probabilities of the pixel.

    The order is the margin criterion's: "source-aided" means that the model was trained with the margin loss on the
    source.
    """
    return 1 - margin(probs_CHW, dim=0)


def candidates(
    informativeness_HW: Tensor,
    budget: int,
    alpha: float,
    bought_HW: np.ndarray | None = None,
    tie_rng: Rng | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the alpha b pixels of largest I that are not bought yet, most informative first.

    The first one is also where the greedy selection starts while nothing is bought: Alg. 1 leaves that open
    (UNSPECIFIED), so pass ``first=0``.

    Args:
        informativeness_HW: I, or any utility, of an image.
        budget: b, pixels to buy in it now.
        alpha: >= 1.
        bought_HW: (H, W) bool, or None.
        tie_rng: orders pixels of equal I; None takes the lower index first.

    Returns:
        (N,) int64 flat indices and (N,) float64 values, N <= ceil(alpha b).

    Raises:
        ValueError: for alpha below 1, which would filter out what is to be bought.
    """
    if alpha < 1:
        raise ValueError(f"candidates: expected alpha >= 1, got {alpha}; the paper's are 20 and 10")
    return best_pixels(informativeness_HW, math.ceil(alpha * budget), bought_HW, tie_rng)


def coverage_density(
    error_HW: Tensor,
    beta: float = BETA,
    tau: float = TAU,
    scale: Scale = "minmax",
    features_DHW: Tensor | None = None,
) -> Tensor:
    """Return d = beta exp(-e / tau) of each location, with e scaled to 0..1 within the image; float64, > 0.

    A constant map scales to 0, so its density is beta everywhere.

    Args:
        error_HW: reconstruction errors |Fhat - F|^2 >= 0.
        beta: a factor of all densities; the order of a greedy selection does not depend on it.
        tau: small values spread densities over a factor of e^(1 / tau).
        scale: ``minmax``: (e - min) / (max - min); ``robust``: the same with the 1 % and 99 % quantiles, clipped to
            0..1, so that one outlier can't squeeze all the others towards beta; ``relative``: e / |F|^2, then as
            ``robust`` (ours: distances are on features of length 1, errors on F as it is); ``none``: e as it is.
        features_DHW: F, needed by ``relative``.

    Raises:
        ValueError: for ``relative`` without features of the error's size.
    """
    error_HW = error_HW.double()
    if scale == "relative":
        if features_DHW is None or features_DHW.shape[1:] != error_HW.shape:
            shape = None if features_DHW is None else tuple(features_DHW.shape)
            raise ValueError(
                f"coverage_density: expected features of {tuple(error_HW.shape)} locations for scale=relative, got "
                f"{shape}; pass the view's features"
            )
        error_HW = error_HW / features_DHW.double().square().sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    if scale != "none":
        least, most = (
            (error_HW.amin(), error_HW.amax())
            if scale == "minmax"
            else error_HW.reshape(-1).quantile(error_HW.new_tensor(_ROBUST))
        )
        error_HW = ((error_HW - least) / torch.where(most > least, most - least, 1.0)).clamp(0, 1)
    return beta * (-error_HW / tau).exp()


def sample_bilinear(map_DHW: Tensor, pixels: np.ndarray, size_hw: tuple[int, int]) -> Tensor:
    """Return a coarse map at some pixels of the full image, as bilinear upsampling with corners aligned would; (N, D).

    Pixel (i, j) of the image lies at (i (h - 1) / (H - 1), j (w - 1) / (W - 1)) of the map: the upsampled map is never
    built.

    Args:
        map_DHW: (D, h, w), features or a density of one channel.
        pixels: (N,) flat indices (row W + column) of the image.
        size_hw: (H, W) of the image.
    """
    index = torch.as_tensor(pixels, device=map_DHW.device, dtype=torch.int64)
    near, far, part = [], [], []
    for at, full, coarse in (
        (index // size_hw[1], size_hw[0], map_DHW.shape[1]),
        (index % size_hw[1], size_hw[1], map_DHW.shape[2]),
    ):
        place = at.double() * ((coarse - 1) / max(full - 1, 1))
        low = place.floor().long().clamp(max=coarse - 1)
        near.append(low)
        far.append((low + 1).clamp(max=coarse - 1))
        part.append((place - low).to(map_DHW.dtype))
    (top, left), (bottom, right), (down, across) = near, far, part
    if map_DHW.device.type == "cpu" and len(map_DHW) > 1:
        width = map_DHW.shape[2]
        corners = (top * width + left, top * width + right, bottom * width + left, bottom * width + right)
        return _sample_rows(map_DHW.flatten(1).T.contiguous(), corners, down[:, None], across[:, None])
    above = map_DHW[:, top, left] * (1 - across) + map_DHW[:, top, right] * across
    below = map_DHW[:, bottom, left] * (1 - across) + map_DHW[:, bottom, right] * across
    return (above * (1 - down) + below * down).T


def _sample_rows(map_RD: Tensor, corners: tuple[Tensor, ...], down_N1: Tensor, across_N1: Tensor) -> Tensor:
    """Do the same, sum by sum, with a location's channels side by side and a cache full of pixels at a time."""
    out_DN = map_RD.new_empty(map_RD.shape[1], len(down_N1))
    for start in range(0, len(down_N1), _ROWS):
        some = slice(start, start + _ROWS)
        a, b, c, d = (map_RD.index_select(0, corner[some]) for corner in corners)
        down, across = down_N1[some], across_N1[some]
        above = a.mul_(1 - across).add_(b.mul_(across))
        below = c.mul_(1 - across).add_(d.mul_(across))
        out_DN[:, some] = above.mul_(1 - down).add_(below.mul_(down)).T
    return out_DN.T
