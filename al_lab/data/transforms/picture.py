"""A picture between its loader and the network: bytes of what is shown of it, and what is left to do to them.

Loading cuts and flips bytes, which is cheap. Colors, the canvas around an image, resizing and normalization come in the
recipe's own order wherever `rendered` is called: in the loader where the network computes on a CPU, on the GPU where
there is one. A cut and a flip move pixels and a change of color looks at one pixel at a time, so doing the former first
changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # noqa: N812 - torchvision's own name for it

from al_lab.data.device import constant
from al_lab.data.transforms.color import Change, changed


@dataclass(frozen=True)
class Canvas:
    """What surrounds an image.

    Attributes:
        size_hw: of what is shown of the canvas.
        top, left: where on it the image's first pixel lies.
        fill: its color, RGB in 0..255.
    """

    size_hw: tuple[int, int]
    top: int
    left: int
    fill: tuple[float, float, float]


@dataclass(frozen=True)
class Rest:
    """What is left to do to the pixels of an image that is cut and flipped, in this order.

    Attributes:
        changes: of color, if any; None: bytes stay bytes, also after resizing.
        canvas: None: there is nothing around the pixels.
        input_hw: to which all of it is resized.
    """

    changes: tuple[Change, ...] | None
    canvas: Canvas | None
    input_hw: tuple[int, int]

    @property
    def is_plain(self) -> bool:
        """Whether nothing but resizing is left."""
        return self.changes is None and self.canvas is None


def painted(pixels: Tensor, changes: Sequence[Change] | None, canvas: Canvas | None) -> Tensor:
    """Change colors and lay the image on its canvas: (3, H, W) float32, or the bytes where there is nothing to do."""
    if changes is None and canvas is None:
        return pixels
    image = changed(pixels.to(torch.float32), changes or ())
    if canvas is None:
        return image
    height, width = image.shape[1:]
    whole = constant(canvas.fill, image).expand(*canvas.size_hw, 3).clone().permute(2, 0, 1)
    whole[:, canvas.top : canvas.top + height, canvas.left : canvas.left + width] = image
    return whole


def rendered(pixels: Tensor, rest: Rest) -> Tensor:
    """Return a network's input before normalization, (3, h, w) RGB: float32, or bytes that were nothing but resized."""
    return resized(painted(pixels, rest.changes, rest.canvas), rest.input_hw)


def resized(image: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (3, H, W), bilinear without antialiasing: OpenCV's default, with which the published recipes trained.

    Bytes are rounded.
    """
    return F.resize(image, list(hw), F.InterpolationMode.BILINEAR, antialias=False)


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the network's mean from (…, 3, h, w) RGB and divide by its deviation; float32."""
    images = images.to(torch.float32)
    center, spread = (constant(v, images)[:, None, None] for v in (mean, std))
    return images.sub(center).div_(spread)
