"""What a detector of any kind says of a batch: scored boxes, which become detections here.

Shapes: B images, P scored boxes of an image, K columns of the class distribution, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from al_lab.core.errors import LabError, explain
from al_lab.core.types import Detections
from al_lab.models.detectors.postprocess import best_of_groups, hand_over, suppress
from al_lab.models.detectors.settings import Activation, Postprocess


class Seen(NamedTuple):
    """Scored boxes of B images, before anything is suppressed.

    Attributes:
        boxes: of each image (P, 4) xyxy in pixels of the input; (P, C, 4) where each class has a box of its own.
        probs: of each image (P, K), whole class distributions; with ``softmax`` K = C + 1 and column 0 is background,
            with ``sigmoid`` K = C.
        features: maps (B, E, h, w), from which `Detector.embedding` is taken.
        level_sizes: how many of the P boxes belong to each feature level, in order; empty: they have no levels.
        is_one_class: a box is a detection of its most probable class only.
    """

    boxes: Sequence[Tensor]
    probs: Sequence[Tensor]
    features: tuple[Tensor, ...] = ()
    level_sizes: tuple[int, ...] = ()
    is_one_class: bool = False


def detections_of(
    seen: Seen, activation: Activation, settings: Postprocess, sizes_hw: Sequence[tuple[int, int]], valid_hw: Tensor
) -> list[Detections]:
    """Suppress and hand over: boxes in pixels of the original images, most confident first.

    Args:
        seen: of B images.
        activation: of its probabilities.
        settings: what is kept.
        sizes_hw: (height, width) of the original images.
        valid_hw: (B, 2), the part of each input that is image.

    Raises:
        LabError: if a prediction is not finite.
    """
    first, found = int(activation == "softmax"), []
    ends = torch.tensor([(float(w), float(h)) * 2 for h, w in valid_hw.tolist()])
    scale = torch.tensor([(float(w), float(h)) * 2 for h, w in sizes_hw]) / ends
    for number, (boxes, probs) in enumerate(zip(seen.boxes, seen.probs, strict=True)):
        boxes, probs = boxes.float(), probs.float()
        if not bool(torch.isfinite(probs).all() & torch.isfinite(boxes).all()):
            do = "the model diverged or its checkpoint is damaged: train it again with a lower learning rate"
            raise LabError(explain(expected="finite predictions", got="NaN or inf", where="detections", do=do))
        row, label = _candidates(probs[:, first:], settings, seen)
        chosen = boxes[row] if boxes.ndim == 2 else boxes[row, label]
        if settings.clip:
            chosen = torch.minimum(chosen.clamp(min=0), ends[number].to(chosen.device))
        alive = (chosen[:, 2:] > chosen[:, :2]).all(-1)
        row, label, chosen = row[alive], label[alive], chosen[alive]
        confidence = probs[row, label + first]
        image = torch.full_like(row, number)
        keep = torch.arange(len(row), device=row.device)
        if settings.nms_iou < 1:  # else nothing overlaps by more
            keep = suppress(chosen, confidence, image, label, settings.nms_iou)
        keep = keep[torch.argsort(confidence[keep], descending=True, stable=True)][: settings.max_per_image]
        box = chosen[keep] * scale[number].to(chosen.device)
        found.append((box, image[keep], label[keep], confidence[keep], probs[row[keep]]))
    box, image, label, confidence, kept = (torch.cat(values) for values in zip(*found, strict=True))
    return hand_over(box, image, label, confidence, kept, activation, seen.probs[0].shape[1], len(seen.probs))


def _candidates(probs_PC: Tensor, settings: Postprocess, seen: Seen) -> tuple[Tensor, Tensor]:
    """Return row and class of what may enter suppression."""
    level_sizes = seen.level_sizes
    enters = probs_PC > settings.conf_min
    if seen.is_one_class:
        enters &= torch.zeros_like(enters).scatter_(1, probs_PC.argmax(1, keepdim=True), value=True)
    row, label = enters.nonzero(as_tuple=True)
    if settings.max_per_level is not None and level_sizes:
        level = torch.searchsorted(torch.tensor(level_sizes, device=row.device).cumsum(0), row, right=True)
        chosen = best_of_groups(level, probs_PC[row, label], settings.max_per_level, len(level_sizes))
        row, label = row[chosen], label[chosen]
    if settings.max_per_class is not None:
        chosen = best_of_groups(label, probs_PC[row, label], settings.max_per_class, probs_PC.shape[1])
        row, label = row[chosen], label[chosen]
    return row, label


def means_over_boxes(
    features: Tensor, found: Sequence[Detections], sizes_hw: Sequence[tuple[int, int]], valid: Tensor
) -> list[Tensor]:
    """Return, of each image, (D, E) float32: the mean of its map over each detection.

    Args:
        features: (B, E, h, w).
        found: detections of the B images, in original pixels.
        sizes_hw: of the original images.
        valid: (B, 2), height and width of each image as a fraction of its (padded) input.
    """
    height, width = features.shape[-2:]
    rois = []
    for detections, (h, w), (share_h, share_w) in zip(found, sizes_hw, valid.tolist(), strict=True):
        scale = torch.tensor([width * share_w / w, height * share_h / h] * 2)
        rois.append((torch.from_numpy(detections.boxes_xyxy) * scale).to(features.device))
    pooled = roi_align(features.float(), rois, 3, aligned=True, sampling_ratio=2).mean((2, 3))
    return list(pooled.split([len(r) for r in rois]))


def flip_valid(images: Tensor, valid_hw: Tensor) -> Tensor:
    """Flip each image horizontally within its own part of the input, so that padding stays right and below."""
    flipped = torch.zeros_like(images)
    for row, (h, w) in enumerate(valid_hw.tolist()):
        flipped[row, :, :h, :w] = images[row, :, :h, :w].flip(-1)
    return flipped
