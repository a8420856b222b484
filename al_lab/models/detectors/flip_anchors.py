"""Which anchor of a flipped image sees what an anchor of the image sees; by index, no overlap is ever computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import BoxCoder
from al_lab.models.detectors.head import HeadOutput

_SAME = 1e-6  # of the input: priors are float32 fractions


@dataclass(frozen=True)
class AnchorPairs:
    """The left-right symmetry of a set of anchors.

    Attributes:
        anchor: (P,) int64, an involution: anchor (level, row y, column x, shape a) -> (level, y, W - 1 - x, a).
        offset: (P,) float32, dx + dx_flipped of a detector that finds every box exactly. Not 0 where the grid of
            anchors is not symmetric, as on four of SSD300's six levels (step x width is not the input's
            width).
    """

    anchor: Tensor
    offset: Tensor


def corresponding_anchors(head: HeadOutput, coder: BoxCoder) -> AnchorPairs:
    """Find the symmetry of a network's anchors.

    Raises:
        ConfigError: if they are not laid out as rows and columns of equal cells.
    """
    priors = head.priors.detach().cpu().double()
    anchor, start = [], 0
    for size in head.level_sizes:
        level = priors[start : start + size]
        per_row = _leading(level[:, 1])
        per_cell = min(per_row, _leading(level[:, 0]))
        if size % per_row or per_row % per_cell:
            raise _no_grid(f"a level of {size} anchors, {per_row} in its first row, {per_cell} in its first cell")
        columns = level[:, 0].view(-1, per_row)
        if not torch.allclose(columns, columns[:1], rtol=0, atol=_SAME):
            raise _no_grid(f"a level of {size} anchors whose rows do not stand one above the other")
        anchor.append(torch.arange(start, start + size).view(-1, per_row // per_cell, per_cell).flip(1).reshape(-1))
        start += size
    index = torch.cat(anchor)
    if not torch.allclose(priors[index][:, 1:], priors[:, 1:], rtol=0, atol=_SAME):
        raise _no_grid("anchors whose rows or shapes differ between left and right")
    # Ideal deltas: dx = (g - cx) / (v w) and dx' = (1 - g - cx') / (v w).
    offset = (1 - priors[:, 0] - priors[index][:, 0]) / (coder.variances[0] * priors[:, 2])
    device = head.logits.device
    return AnchorPairs(index.to(device), offset.float().to(device))


def _leading(values: Tensor) -> int:
    """Return how many leading values equal the first."""
    other = ((values - values[0]).abs() > _SAME).nonzero()
    return int(other[0]) if len(other) else len(values)


def _no_grid(got: str) -> ConfigError:
    do = (
        "choose a detector with such anchors (SSD, RetinaNet, squeeze, tiny), or a method that doesn't compare "
        "flipped images"
    )
    return ConfigError(
        explain(
            expected="anchors on a regular grid, level by level, row by row",
            got=got,
            where="comparing an image with its flipped image",
            do=do,
        )
    )
