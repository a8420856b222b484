"""SSD's color distortions on float RGB, in closed form: no conversion to HSV and back, no clamping."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

_PERMUTATIONS = list(itertools.permutations(range(3)))


def photometric_distort(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Distort (3, H, W) float RGB in 0..255 (fact sheet §1.6, step 2); the input is not changed.

    Brightness; then contrast before or after saturation and hue; then a permutation of channels. Each with probability
    .5.
    """
    if rng.random() < 0.5:
        image = image + float(rng.uniform(-32, 32))
    contrast_first = rng.random() < 0.5
    if contrast_first:
        image = _contrast(image, rng)
    if rng.random() < 0.5:
        image = scale_saturation(image, float(rng.uniform(0.5, 1.5)))
    if rng.random() < 0.5:
        image = shift_hue(image, float(rng.uniform(-18, 18)))
    if not contrast_first:
        image = _contrast(image, rng)
    if rng.random() < 0.5:
        image = image[list(_PERMUTATIONS[int(rng.integers(len(_PERMUTATIONS)))])]
    return image


def _contrast(image: Tensor, rng: np.random.Generator) -> Tensor:
    return image * float(rng.uniform(0.5, 1.5)) if rng.random() < 0.5 else image


def scale_saturation(image: Tensor, factor: float) -> Tensor:
    """Multiply HSV saturation: with V = max(R, G, B) fixed, every channel's distance from V scales."""
    value = image.amax(0, keepdim=True)
    return value + factor * (image - value)


def shift_hue(image: Tensor, degrees: float) -> Tensor:
    """Turn HSV hue.

    Channel n of HSV -> RGB is V - chroma * clamp(min(k, 4 - k), 0, 1) with k = (offset_n + H / 60) mod 6 and offsets
    5, 3, 1; this form needs no saturation, so it also holds for values below zero.
    """
    red, green, blue = image
    value, lowest = image.amax(0), image.amin(0)
    chroma = value - lowest
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    offsets = torch.tensor([5.0, 3.0, 1.0])[:, None, None]
    k = torch.remainder(offsets + hue + degrees / 60, 6)
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)
