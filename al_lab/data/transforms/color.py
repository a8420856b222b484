"""Changes of color on float RGB: drawn where an image is loaded, made where it is needed, on whatever device that is.

SSD's distortions are in closed form: no conversion to HSV and back, no clamping.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from al_lab.data.device import constant

_PERMUTATIONS = list(itertools.permutations(range(3)))


class Change(NamedTuple):
    """One change of color.

    Attributes:
        kind: a key of `CHANGES`.
        value: its number.
    """

    kind: str
    value: float


def ssd_distortion(rng: np.random.Generator) -> tuple[Change, ...]:
    """Draw SSD's photometric distortion (fact sheet §1.6, step 2).

    Brightness; then contrast before or after saturation and hue; then a permutation of channels. Each with probability
    .5.
    """
    changes = []
    if rng.random() < 0.5:
        changes.append(Change("add", float(rng.uniform(-32, 32))))
    contrast_first = rng.random() < 0.5
    if contrast_first:
        changes += _contrast(rng)
    if rng.random() < 0.5:
        changes.append(Change("saturation", float(rng.uniform(0.5, 1.5))))
    if rng.random() < 0.5:
        changes.append(Change("hue", float(rng.uniform(-18, 18))))
    if not contrast_first:
        changes += _contrast(rng)
    if rng.random() < 0.5:
        changes.append(Change("permute", int(rng.integers(len(_PERMUTATIONS)))))
    return tuple(changes)


def _contrast(rng: np.random.Generator) -> list[Change]:
    return [Change("multiply", float(rng.uniform(0.5, 1.5)))] if rng.random() < 0.5 else []


def changed(image: Tensor, changes: Sequence[Change]) -> Tensor:
    """Make changes in their order on (3, H, W) float RGB in 0..255; the input stays as it is."""
    for kind, value in changes:
        image = CHANGES[kind](image, value)
    return image


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
    k = torch.remainder(constant((5.0, 3.0, 1.0), image)[:, None, None] + hue + degrees / 60, 6)
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)


def _permute(image: Tensor, number: float) -> Tensor:
    return torch.stack([image[channel] for channel in _PERMUTATIONS[int(number)]])


#: ``dim`` is a factor after which colors are clamped; the others are SSD's, which never are.
CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "add": lambda image, value: image + value,
    "multiply": lambda image, value: image * value,
    "dim": lambda image, value: (image * value).clamp_(0, 255),
    "saturation": scale_saturation,
    "hue": shift_hue,
    "permute": _permute,
}
