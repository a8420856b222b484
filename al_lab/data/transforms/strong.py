"""The strong view of a semi-supervised training: colors and holes, nothing that moves an object."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812 - torchvision's own name for it

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import check_fields, fraction, number_in
from al_lab.data.device import constant


def _rises(pair: Sequence[float], most: float) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1] <= most  # noqa: PLR2004


@dataclass(frozen=True)
class StrongView:
    """Color jitter, grayscale, blur and cutout, each with a probability of its own.

    The recipe and its numbers are Unbiased Teacher's (Liu et al., ICLR 2021; released code), whose color part is
    SimCLR's.

    Attributes:
        jitter: probability of changing brightness, contrast, saturation and hue, in random order.
        brightness, contrast, saturation: factors are drawn from U(1 - v, 1 + v).
        hue: the turn of the color circle is drawn from U(-v, v).
        gray: probability of a gray image.
        blur: probability of a Gaussian blur.
        sigma_px: range of its standard deviation.
        cutout: one tuple a hole: probability, smallest and largest area (parts of the image), smallest and largest
            ratio of height to width. DEVIATION: a hole has the color of the network's mean, not noise.
        where: what errors name.
    """

    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    gray: float = 0.2
    blur: float = 0.5
    sigma_px: tuple[float, float] = (0.1, 2.0)
    cutout: Sequence[Sequence[float]] = (
        (0.7, 0.05, 0.2, 0.3, 3.3),
        (0.5, 0.02, 0.2, 0.1, 6.0),
        (0.3, 0.02, 0.2, 0.05, 8.0),
    )
    where: str = "objective.strong"

    def __post_init__(self) -> None:
        parts = ("jitter", "brightness", "contrast", "saturation", "gray", "blur")
        check_fields(vars(self), {**dict.fromkeys(parts, fraction), "hue": number_in(0, 0.5)}, self.where)
        lists: dict[str, tuple[bool, str, Any]] = {
            "sigma_px": (_rises(self.sigma_px, math.inf), "0 < lowest <= highest", self.sigma_px),
        }
        for hole in self.cutout:
            ok = len(hole) == 5 and 0 <= hole[0] <= 1 and _rises(hole[1:3], 1) and _rises(hole[3:], math.inf)
            words = "probability, smallest and largest area, smallest and largest ratio"
            lists["cutout"] = (ok and lists.get("cutout", (True,))[0], words, self.cutout)
        for name, (ok, expected, got) in lists.items():
            if not ok:
                where = f"{self.where}.{name}"
                raise ConfigError(explain(expected=expected, got=repr(got), where=where, do="correct the value"))

    def __call__(self, image: Tensor, rng: np.random.Generator, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """Return another view of one image; objects stay where they are.

        Args:
            image: (3, h, w) float, normalized.
            rng: source of every draw.
            mean: by which it was normalized, RGB in 0..255; colors beyond 0..255 are clamped.
            std: the same.
        """
        changes = self._colors(rng)
        if changes:
            center, spread = (constant(v, image)[:, None, None] for v in (mean, std))
            rgb = ((image * spread + center) / 255).clamp(0, 1)
            for change in changes:
                rgb = change(rgb)
            image = (rgb * 255 - center) / spread
        image = image.clone()
        for top, left, bottom, right in self._holes((image.shape[1], image.shape[2]), rng):
            image[:, top:bottom, left:right] = 0
        return image

    def _colors(self, rng: np.random.Generator) -> list[Callable[[Tensor], Tensor]]:
        changes: list[Callable[[Tensor], Tensor]] = []
        if rng.random() < self.jitter:
            b, c, s = (float(rng.uniform(1 - v, 1 + v)) for v in (self.brightness, self.contrast, self.saturation))
            h = float(rng.uniform(-self.hue, self.hue))
            jitter = (
                lambda x: F.adjust_brightness(x, b),
                lambda x: F.adjust_contrast(x, c),
                lambda x: F.adjust_saturation(x, s),
                lambda x: F.adjust_hue(x, h),
            )
            changes += [jitter[k] for k in rng.permutation(4)]
        if rng.random() < self.gray:
            changes.append(lambda x: F.rgb_to_grayscale(x, num_output_channels=3))
        if rng.random() < self.blur:
            sigma = float(rng.uniform(*self.sigma_px))
            changes.append(lambda x: _blur(x, sigma))
        return changes

    def _holes(self, size_hw: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
        holes = []
        for probability, smallest, largest, low, high in self.cutout:
            if rng.random() >= probability:
                continue
            area = rng.uniform(smallest, largest) * size_hw[0] * size_hw[1]
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            height, width = (
                min(side, max(1, round(v)))
                for side, v in zip(size_hw, ((area * ratio) ** 0.5, (area / ratio) ** 0.5), strict=True)
            )
            top, left = int(rng.integers(size_hw[0] - height + 1)), int(rng.integers(size_hw[1] - width + 1))
            holes.append((top, left, top + height, left + width))
        return holes


def _blur(image: Tensor, sigma: float) -> Tensor:
    reach = min(math.ceil(3 * sigma), min(image.shape[1:]) - 1)  # the border is reflected
    return F.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
