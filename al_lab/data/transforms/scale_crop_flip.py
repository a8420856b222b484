"""Another geometry of an image and its label map: rescaled, cropped, flipped, at a size that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import fraction
from al_lab.data.transforms.dense import VOID


@dataclass(frozen=True)
class ScaleCropFlip:
    """A window of 1 / s of the wanted size at a random place, brought to that size, and perhaps mirrored.

    Attributes:
        scale: s is drawn from U(lowest, highest). Where the window is larger than the image, what lies outside is of
            the network's mean color, and void.
        flip: probability of mirroring left and right.
        where: what errors name.
    """

    scale: Sequence[float] = (1.0, 2.0)
    flip: float = 0.5
    where: str = "objective.geometry"

    def __post_init__(self) -> None:
        fraction(self.flip, f"{self.where}.flip")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:  # noqa: PLR2004
            raise ConfigError(
                explain(
                    expected="[lowest, highest], above 0",
                    got=repr(self.scale),
                    where=f"{self.where}.scale",
                    do="[1, 1] leaves the size as it is",
                )
            )

    def __call__(
        self, image: Tensor, label: Tensor, size_hw: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return both at ``size_hw``; the image bilinear, the labels by nearest neighbor.

        Args:
            image: (3, h, w) float, normalized.
            label: (h, w) whole numbers, 255 void.
            size_hw: wanted.
            rng: source of every draw.
        """
        s = float(rng.uniform(self.scale[0], self.scale[1]))
        window = [max(1, round(side / s)) for side in size_hw]
        # a window that is larger than the image has it somewhere inside
        corner = [
            int(rng.integers(min(0, full - side), max(0, full - side) + 1))
            for full, side in zip(label.shape, window, strict=True)
        ]
        pad = [
            (max(0, -at), max(0, at + side - full)) for at, side, full in zip(corner, window, label.shape, strict=True)
        ]
        (up, down), (left, right) = pad
        top, first = corner[0] + up, corner[1] + left
        rows, columns = slice(top, top + window[0]), slice(first, first + window[1])
        image = F.pad(image, (left, right, up, down))[:, rows, columns]
        label = F.pad(label, (left, right, up, down), value=VOID)[rows, columns]
        if tuple(window) != size_hw:
            image = F.interpolate(image[None], size_hw, mode="bilinear", align_corners=False)[0]
            label = F.interpolate(label[None, None].float(), size_hw, mode="nearest-exact")[0, 0].to(label.dtype)
        return (image.flip(-1), label.flip(-1)) if rng.random() < self.flip else (image, label)
