"""A vector of each detection, from the map that its class was told by."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.data.device import sent
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.seen import means_over_boxes

_SHARED = 1  # level whose map serves all boxes where levels have maps of different widths: SSD's fc7


def box_features(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``box_features`` (D, F) float32 of each image's detections.

    Of a box found on a level: that level's map of the class tower (networks without one: what the head sees) at the
    center of the box, bilinear. Maps of different widths give vectors that can't be compared; there each box has its
    mean over one map, of the second level (SSD: fc7, 1,024 numbers).

    Args:
        look: the batch.
        options: ``sampling``: ``center``; ``released``: as PPAL's code has it, x is divided by the image's height and y
            by its width, so that the right of a landscape image reads zeros.
    """
    maps = look.network.class_maps(look.head)
    if len({m.shape[1] for m in maps}) > 1:
        valid = look.valid_hw / torch.tensor(look.head.input_hw)
        means = means_over_boxes(maps[_SHARED], look.detections, look.sizes_hw, valid)
        return [{"box_features": rows.float().cpu().numpy()} for rows in means]
    ends = np.cumsum(look.head.level_sizes)
    found = []
    for row, detections in enumerate(look.detections):
        assert detections.anchor is not None  # networks with anchors fill it
        level_D = np.searchsorted(ends, detections.anchor, side="right")
        point_D2 = sent(_centers(look, row, options.get("sampling", "center")), maps[0].device)
        rows = point_D2.new_zeros(len(level_D), maps[0].shape[1])
        for level in np.unique(level_D).tolist():
            mine = torch.from_numpy(np.flatnonzero(level_D == level)).to(rows.device)
            rows[mine] = _at(maps[level][row].float(), point_D2[mine])
        found.append({"box_features": rows.cpu().numpy()})
    return found


def _centers(look: Look, row: int, sampling: str) -> Tensor:
    """Return (D, 2) x, y of each box's center in -1..1 over the padded input."""
    height, width = look.sizes_hw[row]
    valid_h, valid_w = (float(v) for v in look.valid_hw[row])
    boxes = torch.from_numpy(look.detections[row].boxes_xyxy)
    center_px = (boxes[:, :2] + boxes[:, 2:]) / 2 * torch.tensor([valid_w / width, valid_h / height])
    input_h, input_w = look.head.input_hw
    size = (valid_h, valid_w) if sampling == "released" else (input_w, input_h)
    return 2 * center_px / torch.tensor(size, dtype=torch.float32) - 1


def _at(map_EHW: Tensor, point_D2: Tensor) -> Tensor:
    """Return (D, E): bilinear samples, zero beyond the map."""
    return F.grid_sample(map_EHW[None], point_D2[None, None], align_corners=False)[0, :, 0].T
