"""Default boxes (anchors): the exact ones of SSD300, and regular grids for other networks.

Priors are (P, 4) float32, cxcywh in fractions of the input, ordered by level, row, column, then the cell's own anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import to_centers


@dataclass(frozen=True)
class SSDPriors:
    """The parameters of SSD's default boxes, one entry a level.

    Liu et al., ECCV 2016; the numbers are amdegroot/ssd.pytorch's.
    """

    map_hw: tuple[tuple[int, int], ...]
    steps_px: tuple[float, ...]
    min_px: tuple[float, ...]
    max_px: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    input_px: int = 300

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Number of anchors of a cell, per level."""
        return tuple(2 + 2 * len(r) for r in self.ratios)


_MAPS = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
_STEPS = (8, 16, 32, 64, 100, 300)
_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD300_VOC = SSDPriors(_MAPS, _STEPS, (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315), _RATIOS)
SSD300_COCO = SSDPriors(_MAPS, _STEPS, (21, 45, 99, 153, 207, 261), (45, 99, 153, 207, 261, 315), _RATIOS)


def ssd_priors(spec: SSDPriors, clip: bool = True) -> Tensor:
    """Build SSD's default boxes.

    Cell (i, j): cx = (j + .5) step / input, cy likewise; shapes (s, s), (s', s') with s' = sqrt(s max), then for each
    ratio r (s sqrt r, s / sqrt r) and (s / sqrt r, s sqrt r).

    Args:
        spec: the numbers.
        clip: clamp each of the four center-size numbers to [0, 1], as the papers' SSD does; mmdet never does.

    Returns:
        (P, 4) float32; 8,732 rows for SSD300.
    """
    levels = []
    for hw, step, small, large, ratios in zip(
        spec.map_hw, spec.steps_px, spec.min_px, spec.max_px, spec.ratios, strict=True
    ):
        shapes = ssd_shapes(small / spec.input_px, large / spec.input_px, ratios)
        pitch = step / spec.input_px
        levels.append(_grid(hw, (pitch, pitch), shapes))
    priors = np.concatenate(levels)
    return torch.from_numpy((priors.clip(0, 1) if clip else priors).astype(np.float32))


def ssd_shapes(small: float, large: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Return the (width, height) of a cell's anchors in SSD's order."""
    middle = (small * large) ** 0.5
    shapes = [(small, small), (middle, middle)]
    for ratio in ratios:
        root = ratio**0.5
        shapes += [(small * root, small / root), (small / root, small * root)]
    return shapes


def even_priors(map_hw: Sequence[tuple[int, int]], sizes: Sequence[float], ratios: Sequence[Sequence[float]]) -> Tensor:
    """Build SSD-like anchors whose cells tile the input evenly.

    Args:
        map_hw: size of each level's map.
        sizes: one smallest side per level plus the largest, as fractions of the input.
        ratios: aspect ratios of each level besides 1.

    Returns:
        (P, 4) float32, not clipped.
    """
    if len(sizes) != len(map_hw) + 1 or len(ratios) != len(map_hw):
        raise ConfigError(
            explain(
                expected=f"{len(map_hw) + 1} anchor sizes and {len(map_hw)} lists of ratios",
                got=f"{len(sizes)} and {len(ratios)}",
                where="detector anchors",
                do="give one entry a level",
            )
        )
    levels = [
        _grid(hw, (1 / hw[0], 1 / hw[1]), ssd_shapes(sizes[k], sizes[k + 1], ratios[k])) for k, hw in enumerate(map_hw)
    ]
    return torch.from_numpy(np.concatenate(levels).astype(np.float32))


def priors_from_corners(corners_px: Tensor, input_hw: tuple[int, int]) -> Tensor:
    """Turn (P, 4) xyxy anchors in input pixels, as mmdet's generators give them, into ours."""
    height, width = input_hw
    return to_centers(corners_px.double() / corners_px.new_tensor([width, height, width, height]).double()).float()


def _grid(hw: tuple[int, int], pitch_yx: tuple[float, float], shapes: Sequence[tuple[float, float]]) -> np.ndarray:
    rows, cols = np.meshgrid(np.arange(hw[0]), np.arange(hw[1]), indexing="ij")
    centers = np.stack([(cols + 0.5) * pitch_yx[1], (rows + 0.5) * pitch_yx[0]], axis=-1).reshape(-1, 1, 2)
    sides = np.asarray(shapes, dtype=np.float64)[None]
    cells, kinds = len(centers), sides.shape[1]
    return np.concatenate(
        [np.broadcast_to(centers, (cells, kinds, 2)), np.broadcast_to(sides, (cells, kinds, 2))], -1
    ).reshape(-1, 4)
