"""An image and the same image at half the size: which anchor of the one sees what an anchor of the other sees.

By index.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import iou, to_corners
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector

_SAME = 1e-6  # of the input: priors are float32 fractions


def halve(images: Tensor, network: AnchorDetector) -> Tensor:
    """Return the images at half the size, each pixel the mean of four.

    A network that takes inputs of any size (``keep_ratio``) gets them as they are. One of a fixed input gets them in
    the upper left corner of an input of its own size; the rest is 0, its mean.

    Args:
        images: (B, 3, h, w); an odd side is padded with 0 first.
        network: says which of the two it is.
    """
    height, width = images.shape[2:]
    small = F.avg_pool2d(F.pad(images, (0, width % 2, 0, height % 2)), 2)
    if network.resize == "keep_ratio":
        return small
    canvas = torch.zeros_like(images)
    canvas[:, :, : small.shape[2], : small.shape[3]] = small
    return canvas


@dataclass(frozen=True)
class ScalePairs:
    """Anchors of two views that see the same, and how boxes of the first are written in the second.

    Attributes:
        half: (Q,) int64, anchors of the half-size view.
        full: (Q,) int64, their partners in the full-size view.
        stretch: (4,) float32; xyxy fractions of the half-size view's input times this are fractions of the full-size
            view's.
    """

    half: Tensor
    full: Tensor
    stretch: Tensor


def same_anchors(head: HeadOutput) -> ScalePairs:
    """Return the pairs of two views of one size: each anchor and itself."""
    every = torch.arange(len(head.priors), device=head.logits.device)
    return ScalePairs(every, every, torch.ones(4, device=head.logits.device))


def scale_pairs(full: HeadOutput, half: HeadOutput, min_iou: float) -> ScalePairs:
    """Pair the anchors of a half-size view with those of the full-size one.

    Anchor (level l, row, column, shape) of the one belongs to (l + 1, row, column, shape) of the other.

    With strides and anchor sizes that double from level to level (RetinaNet) these are the same boxes of the image, and
    the two levels are equally large. Elsewhere (SSD) a cell's anchors have other sizes or numbers on the next level,
    and the half-size view may lie in a corner of its input (`halve`): pairs that exist on both sides count if they
    overlap.

    Args:
        full: prediction for the images.
        half: prediction for `halve` of them.
        min_iou: of two paired anchors, in the coordinates of the image.

    Raises:
        ConfigError: if the anchors are not laid out as rows and columns of equal cells.
    """
    (height, width), (small_h, small_w) = full.input_hw, half.input_hw
    stretch = torch.tensor([2 * small_w / width, 2 * small_h / height] * 2, device=full.priors.device)
    pairs = []
    for own, partner in zip(_grids(half)[:-1], _grids(full)[1:], strict=True):
        rows, columns, shapes = (min(a, b) for a, b in zip(own.shape, partner.shape, strict=True))
        pairs.append(torch.stack([grid[:rows, :columns, :shapes].reshape(-1) for grid in (own, partner)]))
    index = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0, dtype=torch.int64)
    index = index.to(full.priors.device)
    boxes = to_corners(half.priors[index[0]]) * stretch, to_corners(full.priors[index[1]])
    index = index[:, iou(boxes[0][:, None], boxes[1][:, None]).flatten() >= min_iou].to(full.logits.device)
    return ScalePairs(index[0], index[1], stretch.to(full.logits.device))


def _grids(head: HeadOutput) -> list[Tensor]:
    """Return the indices of each level's anchors as (rows, columns, shapes)."""
    priors, grids, start = head.priors.detach().cpu().double(), [], 0
    for size in head.level_sizes:
        level = priors[start : start + size]
        per_row = _leading(level[:, 1])
        per_cell = min(per_row, _leading(level[:, 0]))
        if size % per_row or per_row % per_cell:
            raise ConfigError(
                explain(
                    expected="anchors on a regular grid, level by level, row by row",
                    where="comparing an image with itself at half the size",
                    got=f"a level of {size} anchors, {per_row} in its first row, {per_cell} in its first cell",
                    do="choose a detector with such anchors (RetinaNet, SSD, squeeze, tiny)",
                )
            )
        grids.append(torch.arange(start, start + size).view(size // per_row, per_row // per_cell, per_cell))
        start += size
    return grids


def _leading(values: Tensor) -> int:
    """Return how many leading values equal the first."""
    other = ((values - values[0]).abs() > _SAME).nonzero()
    return int(other[0]) if len(other) else len(values)
