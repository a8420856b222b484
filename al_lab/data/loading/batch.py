"""One batch of images with their boxes, as every objective receives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from al_lab.data.device import constant, sent
from al_lab.data.transforms.detection import InputSpec
from al_lab.data.transforms.picture import Rest, normalized, rendered, resized

_ON_DEVICE = ("images", "boxes", "labels")


class Kind(IntEnum):
    """Where an image's boxes come from."""

    UNLABELED = 0
    LABELED = 1
    PSEUDO = 2


@dataclass(frozen=True)
class Item:
    """One image on its way into a batch.

    Attributes:
        pixels: (3, h, w), see `al_lab.data.transforms.detection.Loaded`.
        rest: what is left to do to them.
        sample_id: its id.
        boxes: (G, 4) float32 xyxy in input pixels.
        labels: (G,) int64, 0..C-1.
        size_hw: of the original image.
        kind: where the boxes come from.
    """

    pixels: Tensor
    rest: Rest
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


@dataclass(frozen=True)
class PackedBatch:
    """A batch whose images are bytes on the host; `to` makes the network's input of them on the device.

    It is a quarter of the bytes, less where a crop is smaller than the input, and two tensors more than nothing:
    between processes every tensor is an open file.

    Attributes:
        batch: all but the images.
        pixels: (N,) uint8: of each image (h, w, 3), one after the other.
        sizes_hw: of the pixels.
        rests: what is left to do to them.
        input_hw: of the batch, padded.
        spec: the network's mean and std.
    """

    batch: Batch
    pixels: Tensor
    sizes_hw: tuple[tuple[int, int], ...]
    rests: tuple[Rest, ...]
    input_hw: tuple[int, int]
    spec: InputSpec

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def sample_ids(self) -> list[str]:
        """Ids of its images."""
        return self.batch.sample_ids

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on a device, its images finished there."""
        pixels = self.pixels.to(device, non_blocking=non_blocking)
        return replace(self.batch.to(device, non_blocking), images=self._images(pixels))

    def pin_memory(self) -> PackedBatch:
        """Return the batch in page-locked memory (torch's DataLoader calls this)."""
        return replace(self, batch=self.batch.pin_memory(), pixels=self.pixels.pin_memory())

    def _images(self, pixels: Tensor) -> Tensor:
        mean, std = self.spec.mean, self.spec.std
        if all(rest.is_plain for rest in self.rests) and set(self.sizes_hw) == {self.input_hw}:
            whole = pixels.view(len(self), *self.input_hw, 3).permute(0, 3, 1, 2)
            return normalized(whole.to(torch.float32, memory_format=torch.contiguous_format), mean, std)
        start, images = 0, _empty(len(self), self.input_hw, mean, pixels.device)
        for row, ((h, w), rest) in enumerate(zip(self.sizes_hw, self.rests, strict=True)):
            image = pixels[start : start + 3 * h * w].view(h, w, 3).permute(2, 0, 1)
            images[row, :, : rest.input_hw[0], : rest.input_hw[1]] = rendered(image, rest)
            start += 3 * h * w
        return normalized(images, mean, std)


def _empty(number: int, hw: tuple[int, int], mean: Sequence[float], device: torch.device) -> Tensor:
    """Return images (B, 3, h, w) float32 of the network's mean, which normalization turns into zeros."""
    color = constant(mean, torch.empty(0, device=device))
    return color[:, None, None].expand(number, 3, *hw).contiguous()


def collate(items: Sequence[Item], spec: InputSpec, packed: bool = False) -> Batch | PackedBatch:
    """Join items; inputs are padded to the largest height and width, rounded up to a multiple of ``spec.pad_divisor``.

    Args:
        items: images of a batch.
        spec: of the network.
        packed: leave images as bytes for a device to finish; a recipe that hands on floats is finished here all the
            same.
    """
    heights, widths = (torch.tensor([i.rest.input_hw[side] for i in items]) for side in (0, 1))
    h, w = (-(-int(sides.max()) // spec.pad_divisor) * spec.pad_divisor for sides in (heights, widths))
    is_packed = packed and all(i.pixels.dtype == torch.uint8 for i in items)
    batch = Batch(
        torch.zeros(0) if is_packed else _finished(items, (h, w), spec),
        [i.sample_id for i in items],
        *pad_boxes([i.boxes for i in items], [i.labels for i in items]),
        torch.tensor([int(i.kind) for i in items]),
        torch.tensor([i.size_hw for i in items], dtype=torch.int64),
        torch.stack([heights, widths], 1),
    )
    if not is_packed:
        return batch
    # Bytes that are only resized are resized here: rounded as on a CPU, whatever the device.
    parts = [resized(i.pixels, i.rest.input_hw) if i.rest.is_plain else i.pixels for i in items]
    pixels = torch.cat([part.permute(1, 2, 0).reshape(-1) for part in parts])
    sizes = tuple((int(part.shape[1]), int(part.shape[2])) for part in parts)
    return PackedBatch(batch, pixels, sizes, tuple(i.rest for i in items), (h, w), spec)


def _finished(items: Sequence[Item], hw: tuple[int, int], spec: InputSpec) -> Tensor:
    """Return the images of a batch, finished on the CPU."""
    inputs = [normalized(rendered(i.pixels, i.rest), spec.mean, spec.std) for i in items]
    if all(image.shape[1:] == hw for image in inputs):
        return torch.stack(inputs)
    images = torch.zeros(len(items), 3, *hw)
    for row, image in enumerate(inputs):
        images[row, :, : image.shape[1], : image.shape[2]] = image
    return images
