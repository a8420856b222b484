"""Other views of a batch of segmentation, made where the batch is: both domains turned, and in other colors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from al_lab.core.fields import at_least, list_of, optional
from al_lab.core.rng import Rng
from al_lab.data.transforms.scale_crop_flip import ScaleCropFlip
from al_lab.data.transforms.strong import StrongView

#: Arguments of `StrongView`: MIC's released strength; probabilities and blur UNSPECIFIED; no holes and no gray.
COLORS: Mapping[str, Any] = {
    "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.2, "gray": 0.0, "cutout": (),
    "sigma_px": (0.15, 1.15),
}  # fmt: skip


@dataclass(frozen=True)
class DenseAugmentation:
    """Every image of a step rescaled, cropped, mirrored, in other colors and blurred; labels go with their pixels.

    For ``trainer.augmentation`` of segmenters, whatever the objective. It is made on the device of the training; what
    is drawn is a function of (seed, step, sample), however many devices share the batch.

    Attributes:
        size_hw: of what comes out, [height, width]: a crop; None: each image keeps its size.
        scale: range of s; a window of 1 / s of the size, at a random place, is brought to the size (`ScaleCropFlip`).
        flip: probability of mirroring left and right.
        strong: arguments of `StrongView` on top of `COLORS`; None: those. ``jitter`` and ``blur`` are probabilities.
    """

    size_hw: Sequence[int] | None = None
    scale: Sequence[float] = (0.5, 2.0)  # mmsegmentation's configurations
    flip: float = 0.5
    strong: Mapping[str, Any] | None = None
    _geometry: ScaleCropFlip = field(init=False, repr=False)
    _strong: StrongView = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = "trainer.augmentation"
        optional(list_of(at_least(1), length=2))(
            None if self.size_hw is None else list(self.size_hw), f"{where}.size_hw", do="e.g. [512,896], or null"
        )
        object.__setattr__(self, "_geometry", ScaleCropFlip(tuple(self.scale), self.flip, where))
        object.__setattr__(self, "_strong", StrongView(**{**COLORS, **(self.strong or {}), "where": f"{where}.strong"}))

    def __call__(self, batch: Any, rng: Rng, mean: Sequence[float], std: Sequence[float]) -> Any:
        """Return another view of a `DenseBatch`.

        Args:
            batch: of one device.
            rng: of the step; the same on all devices.
            mean: by which its images were normalized.
            std: the same.
        """
        size_hw = None if self.size_hw is None else (int(self.size_hw[0]), int(self.size_hw[1]))
        batch = turned(batch, self._geometry, size_hw, rng)
        changed: dict[str, Tensor] = {}
        for domain, ids in ids_by_domain(batch).items():
            images = getattr(batch, f"{domain}_images")
            changed[f"{domain}_images"] = colored(images, ids, self._strong, rng.child("colors"), mean, std)
        return replace(batch, **changed)


def ids_by_domain(batch: Any) -> dict[str, list[str]]:
    """Return the ids of the domains that are there, source first."""
    first, ids = 0, {}
    for domain in ("source", "target"):
        images = getattr(batch, f"{domain}_images")
        if images is not None:
            ids[domain] = batch.sample_ids[first : first + len(images)]
            first += len(images)
    return ids


@torch.no_grad()
def turned(batch: Any, geometry: ScaleCropFlip, size_hw: tuple[int, int] | None, rng: Rng) -> Any:
    """Return the `DenseBatch` with another geometry of every image and its labels, at a size.

    Args:
        batch: of one device.
        geometry: what is drawn.
        size_hw: wanted; None: each domain keeps its own.
        rng: with the image's id it decides what is drawn.
    """
    changed: dict[str, Tensor] = {}
    for domain, ids in ids_by_domain(batch).items():
        images, labels = getattr(batch, f"{domain}_images"), getattr(batch, f"{domain}_labels")
        wanted = size_hw or (images.shape[2], images.shape[3])
        views = [
            geometry(image, label, wanted, rng.generator("geometry", i))
            for image, label, i in zip(images, labels, ids, strict=True)
        ]
        changed[f"{domain}_images"] = torch.stack([image for image, _ in views])
        changed[f"{domain}_labels"] = torch.stack([label for _, label in views])
    return replace(batch, **changed)


@torch.no_grad()
def colored(
    images: Tensor,
    ids: Sequence[str],
    view: Callable[..., Tensor],
    rng: Rng,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Return images (B, 3, h, w) in other colors, blurred or not; an image's draw depends on ``rng`` and its id."""
    with torch.autocast(images.device.type, enabled=False):
        views = [view(image.float(), rng.generator(i), mean, std) for image, i in zip(images, ids, strict=True)]
    return torch.stack(views).to(images.dtype)
