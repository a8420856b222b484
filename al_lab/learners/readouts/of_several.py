"""What several looks at an image say of it, see `al_lab.models.detectors.looks`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from al_lab.data.device import sent
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.looks.average import DISAGREEMENT, MEMBER_ENTROPY


def box_mutual_information(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``box_mutual_information`` (D,) float32 and ``box_level`` (D,) int64, the feature level, of each image."""
    anchors = [np.zeros(0, np.int64) if d.anchor is None else d.anchor.astype(np.int64) for d in look.detections]
    sizes = [len(anchor) for anchor in anchors]
    image = np.repeat(np.arange(len(anchors)), sizes)
    disagreement = look.head.extra[DISAGREEMENT][..., 0]
    rows = sent(torch.from_numpy(image * disagreement.shape[1] + np.concatenate(anchors)), disagreement.device)
    values = disagreement.flatten()[rows]
    ends = np.cumsum(look.head.level_sizes)
    return [
        {"box_mutual_information": of_image, "box_level": np.searchsorted(ends, anchor, side="right")}
        for of_image, anchor in zip(np.split(values.float().cpu().numpy(), np.cumsum(sizes)[:-1]), anchors, strict=True)
    ]


def of_members(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``member_entropy`` (N,) float32 of each image, see `al_lab.acquisition.boxes.mutual_information`."""
    return [{"member_entropy": of_image} for of_image in look.head.extra[MEMBER_ENTROPY].cpu().numpy()]
