"""Self-training of a segmenter, as pure functions: pseudo-labels, their weights, classes mixed in, blocks taken out.

Shapes: B images, C classes, H x W pixels; labels are whole numbers with 255 where there is none.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.objectives.adaptation import IGNORE
from al_lab.objectives.reduce import global_positives


def pseudo_labels(probs: Tensor, bought: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return what a target image's pixels are taken for, (B, H, W), and how much each counts, (B, H, W) float.

    y = argmax_c p_c with weight q = share of the image's pixels with max_c p_c > threshold (Tranheden et al., "DACS",
    WACV 2021); where a label was bought, that label with weight 1.

    Args:
        probs: (B, C, H, W) of the teacher.
        bought: (B, H, W).
        threshold: in [0, 1).
    """
    confidence, label = probs.max(1)
    sure = (confidence > threshold).flatten(1).float().mean(1)
    is_bought = bought != IGNORE
    weight = sure[:, None, None].expand_as(confidence)
    return torch.where(is_bought, bought, label), torch.where(is_bought, torch.ones_like(weight), weight)


def class_mask(label_HW: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the pixels of half of the classes of a label map, rounded up, (H, W) bool; void is no class.

    Olsson et al., "ClassMix", WACV 2021.
    """
    present = torch.unique(label_HW)
    present = present[present != IGNORE]
    count = (len(present) + 1) // 2
    chosen = present[torch.from_numpy(rng.permutation(len(present))[:count]).to(present.device)]
    return torch.isin(label_HW, chosen)


def mixed(mask: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    """Return ``ours`` where the mask is true, (B, H, W), else ``theirs``; of images (B, 3, H, W) or maps (B, H, W)."""
    return torch.where(mask[:, None] if ours.ndim > mask.ndim else mask, ours, theirs)


def kept_blocks(size_hw: tuple[int, int], ratio: float, block_px: int, rng: np.random.Generator) -> np.ndarray:
    """Return the pixels that are left, (H, W) bool: each block of a grid is taken out with probability ``ratio``.

    Hoyer et al., "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR 2023.
    """
    rows, columns = (-(-side // block_px) for side in size_hw)
    kept = rng.random((rows, columns)) >= ratio
    large: np.ndarray = kept.repeat(block_px, 0).repeat(block_px, 1)[: size_hw[0], : size_hw[1]]
    return large


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return sum of w CE over all pixels of all devices' batch, by their number: unsure images count little.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W); a pixel of label 255 adds 0.
        weights: (B, H, W).
    """
    loss = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORE, reduction="none")
    return (weights * loss).sum() / global_positives(torch.full((), loss.numel(), device=loss.device))
