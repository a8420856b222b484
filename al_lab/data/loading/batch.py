"""One batch of images with their boxes, as every objective receives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from al_lab.data.device import sent

_ON_DEVICE = ("images", "boxes", "labels")


class Kind(IntEnum):
    """Where an image's boxes come from."""

    UNLABELED = 0
    LABELED = 1
    PSEUDO = 2


@dataclass(frozen=True)
class Item:
    """One transformed image.

    Attributes:
        image: (3, h, w) float32, normalized.
        sample_id: its id.
        boxes: (G, 4) float32 xyxy in pixels of ``image``.
        labels: (G,) int64, 0..C-1.
        size_hw: of the original image.
        kind: where the boxes come from.
    """

    image: Tensor
    sample_id: str
    boxes: Tensor
    labels: Tensor
    size_hw: tuple[int, int]
    kind: Kind = Kind.LABELED


@dataclass(frozen=True)
class Batch:
    """B images of one input size.

    Images, boxes and labels move to a device. Which images are labeled and how large they are decides what is computed
    there, so that stays with the host: asking a GPU would mean to wait for it.

    Attributes:
        images: (B, 3, h, w) float32, normalized; smaller images are padded right and below with 0, the network's mean.
        sample_ids: their ids.
        boxes: (B, G, 4) float32 xyxy in input pixels, G those of the image that has most; the others end with boxes of
            zeros, which have no area.
        labels: (B, G) int64, 0..C-1.
        kind: (B,) int64, see `Kind`; on the CPU.
        sizes_hw: (B, 2) int64, original sizes; on the CPU.
        valid_hw: (B, 2) int64, the part of each input that is image and not padding; on the CPU.
    """

    images: Tensor
    sample_ids: list[str]
    boxes: Tensor
    labels: Tensor
    kind: Tensor
    sizes_hw: Tensor
    valid_hw: Tensor

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with images, boxes and labels on a device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def places_of(self, *kinds: Kind) -> list[int]:
        """Return which of its images are of these kinds."""
        return [n for n, kind in enumerate(self.kind.tolist()) if kind in kinds]

    def rows(self, rows: Sequence[int]) -> Batch:
        """Return some of its images."""
        here = torch.tensor(list(rows), dtype=torch.long)
        there = sent(here, self.images.device)
        picked: dict[str, Any] = {
            f.name: v[there if f.name in _ON_DEVICE else here] if isinstance(v, Tensor) else [v[n] for n in rows]
            for f in fields(self)
            for v in (getattr(self, f.name),)
        }
        return replace(self, **picked)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        return self._map(lambda t: t.pin_memory())

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {name: fn(getattr(self, name)) for name in _ON_DEVICE}
        return replace(self, **changed)


def pad_boxes(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack boxes of B images, each (G, 4) and (G,), to (B, G, 4) float32 and (B, G) int64, with zeros at the end."""
    return (
        pad_sequence([b.reshape(-1, 4).float() for b in boxes], batch_first=True),
        pad_sequence([v.reshape(-1).long() for v in labels], batch_first=True),
    )


def collate(items: Sequence[Item], pad_to: int = 1) -> Batch:
    """Join items; inputs are padded to the largest height and width, rounded up to a multiple of ``pad_to``."""
    heights = torch.tensor([i.image.shape[1] for i in items])
    widths = torch.tensor([i.image.shape[2] for i in items])
    h, w = (-(-int(sides.max()) // pad_to) * pad_to for sides in (heights, widths))
    if all(i.image.shape[1:] == (h, w) for i in items):
        images = torch.stack([i.image for i in items])
    else:
        images = torch.zeros(len(items), 3, h, w)
        for row, item in enumerate(items):
            images[row, :, : item.image.shape[1], : item.image.shape[2]] = item.image
    return Batch(
        images,
        [i.sample_id for i in items],
        *pad_boxes([i.boxes for i in items], [i.labels for i in items]),
        torch.tensor([int(i.kind) for i in items]),
        torch.tensor([i.size_hw for i in items], dtype=torch.int64),
        torch.stack([heights, widths], 1),
    )
