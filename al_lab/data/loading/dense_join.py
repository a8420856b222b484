"""One batch of segmentation, as every objective receives it, and as bytes on its way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from al_lab.core.errors import DataError, explain
from al_lab.data.transforms.picture import normalized


@dataclass(frozen=True)
class DenseBatch:
    """Bs source images and Bt target images; each domain has one input size, and either may be absent.

    Attributes:
        source_images: (Bs, 3, hs, ws) float32, normalized; None: no source images.
        source_labels: (Bs, hs, ws) int64, 0..C-1, 255 void.
        target_images: (Bt, 3, ht, wt) float32, normalized; None: no target images.
        target_labels: (Bt, ht, wt) int64, 255 where nothing was bought; None when images are only looked at.
        sample_ids: of the source images, then of the target images.
    """

    source_images: Tensor | None
    source_labels: Tensor | None
    target_images: Tensor | None
    target_labels: Tensor | None
    sample_ids: list[str]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DenseBatch:
        """Return the batch on a device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> DenseBatch:
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        return self._map(lambda t: t.pin_memory())

    def _map(self, fn: Callable[[Tensor], Tensor]) -> DenseBatch:
        changed: dict[str, Any] = {
            f.name: fn(v) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class PackedDenseBatch:
    """A `DenseBatch` of bytes on the host: images (B, h, w, 3) RGB and labels (B, h, w); `to` makes its numbers."""

    source_images: Tensor | None
    source_labels: Tensor | None
    target_images: Tensor | None
    target_labels: Tensor | None
    sample_ids: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DenseBatch:
        """Return the batch on a device, normalized there."""

        def images(sent: Tensor | None) -> Tensor | None:
            if sent is None:
                return None
            pixels = sent.to(device, non_blocking=non_blocking).permute(0, 3, 1, 2)
            return normalized(pixels.to(torch.float32, memory_format=torch.contiguous_format), self.mean, self.std)

        def labels(sent: Tensor | None) -> Tensor | None:
            return None if sent is None else sent.to(device, non_blocking=non_blocking).long()

        return DenseBatch(
            images(self.source_images),
            labels(self.source_labels),
            images(self.target_images),
            labels(self.target_labels),
            self.sample_ids,
        )

    def pin_memory(self) -> PackedDenseBatch:
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        changed: dict[str, Any] = {
            f.name: v.pin_memory() for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)


class DenseItem(NamedTuple):
    """One image: (h, w, 3) uint8 RGB, and (h, w) uint8 labels or None."""

    sample_id: str
    is_source: bool
    image: Tensor
    labels: Tensor | None


def dense_collate(
    items: Sequence[DenseItem], mean: Sequence[float], std: Sequence[float], packed: bool = False
) -> DenseBatch | PackedDenseBatch:
    """Join items, source first; ``packed`` leaves it to a device to normalize them.

    Raises:
        DataError: if images of one domain differ in size.
    """
    domains = [[item for item in items if item.is_source is is_source] for is_source in (True, False)]
    images = [_stack(domain, [item.image for item in domain]) for domain in domains]
    labels = [_stack(domain, [item.labels for item in domain if item.labels is not None]) for domain in domains]
    ids = [item.sample_id for domain in domains for item in domain]
    batch = PackedDenseBatch(images[0], labels[0], images[1], labels[1], ids, tuple(mean), tuple(std))
    return batch if packed else batch.to("cpu")


def _stack(items: list[DenseItem], tensors: list[Tensor]) -> Tensor | None:
    if not tensors:
        return None
    odd = next((n for n, t in enumerate(tensors) if t.shape != tensors[0].shape), None)
    if odd is not None:
        key = "source_hw" if items[0].is_source else "target_hw"
        shapes = [f"{tuple(tensors[n].shape[:2])} of {items[n].sample_id!r}" for n in (0, odd)]
        raise DataError(
            explain(
                expected="images of one height and width",
                got=" and ".join(shapes),
                where=f"dataset.{key}",
                do=f"give one size, such as dataset.{key}='[512,1024]'",
            )
        )
    return torch.stack(tensors)
