"""From raw predictions of a batch to detections: one pass over the whole batch, one transfer to the CPU.

Shapes: B images, P anchors, K logits, C classes, R anchors that may be more than background, N candidate (image,
anchor, class) triples.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
import torchvision  # noqa: F401 - registers its operators
from torch import Tensor

from al_lab.core.errors import LabError, explain
from al_lab.core.types import Detections
from al_lab.data.device import sent
from al_lab.data.transforms.geometry import resized_hw
from al_lab.models.detectors.boxes import merged_into
from al_lab.models.detectors.head import Anchored, HeadOutput
from al_lab.models.detectors.settings import Activation, Postprocess

#: Above this many candidates per image a partial selection per group is cheaper than sorting them all.
_DENSE = 20_000
#: Without torchvision's checks in Python, which cost a third as much as the suppression of a class of an image.
_nms = torch.ops.torchvision.nms
#: More than rounding can make of a probability or a logit, less than matters.
_ROUNDING = 1e-5


@torch.no_grad()
def decode_batch(
    head: HeadOutput,
    network: Anchored,
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    settings: Postprocess | None = None,
    valid_hw: Tensor | Sequence[tuple[int, int]] | None = None,
    flipped: HeadOutput | None = None,
) -> list[Detections]:
    """Decode, suppress and hand over the detections of a batch.

    Args:
        head: what ``network(images)`` returned.
        network: gives activation, coder, resize rule and default settings.
        sizes_hw: (height, width) of the original images, B of them.
        settings: instead of the network's own.
        valid_hw: (height, width) of the part of each input that is image and not padding; by default what the network's
            resize rule makes of ``sizes_hw``.
        flipped: predictions for the flipped images; each box then also gets the class distribution of the anchor that
            corresponds to its own (``flip_probs``).

    Returns:
        One `Detections` per image with the anchor of each box, boxes in pixels of the original image, most confident
        first.

    Raises:
        LabError: if a prediction is not finite.
    """
    settings = settings or network.postprocess
    _check_finite(head)
    image, anchor, label, confidence, boxes, count = _kept(head, network, sizes_hw, settings, valid_hw)
    probs = [network.probs(head.logits[image, anchor])]
    if flipped is not None:
        probs.append(network.probs(flipped.logits[image, network.flip_anchors(head).anchor[anchor]]))
    columns = (boxes, image, label, confidence, torch.cat(probs, dim=1))
    whole = {"anchor": anchor} | ({} if count is None else {"pre_suppression_count": count})
    return hand_over(*columns, network.activation, network.num_logits, len(sizes_hw), whole)


def kept_anchors(
    head: HeadOutput,
    network: Anchored,
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    valid_hw: Tensor | Sequence[tuple[int, int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return image and anchor (N,) of what `decode_batch` keeps, once each, sorted."""
    image, anchor, *_ = _kept(head, network, sizes_hw, network.postprocess, valid_hw)
    num = head.logits.shape[1]
    flat = torch.unique(image * num + anchor)
    return flat // num, flat % num


def boxes_at(
    head: HeadOutput,
    network: Anchored,
    image: Tensor,
    anchor: Tensor,
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    valid_hw: Tensor | Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Return (N, 4) xyxy in pixels of the original images: the boxes of some anchors, clipped as detections are.

    Args:
        head: of the batch.
        network: whose it is.
        image: (N,) of the batch.
        anchor: (N,).
        sizes_hw: see `decode_batch`.
        valid_hw: see `decode_batch`.
    """
    boxes, scale = _decoded(head, network, image, anchor, sizes_hw, valid_hw, network.postprocess.clip)
    return boxes * scale[image]


def at_least(settings: Postprocess, confidence: float) -> Postprocess:
    """Return settings under which only detections of at least this confidence enter.

    What is left after NMS is the same.
    """
    # conf_min itself is excluded.
    return dataclasses.replace(
        settings, conf_min=max(settings.conf_min, float(np.nextafter(np.float32(confidence), np.float32(0))))
    )


def _kept(
    head: HeadOutput,
    network: Anchored,
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    settings: Postprocess,
    valid_hw: Tensor | Sequence[tuple[int, int]] | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Return image, anchor, label, confidence and box (original pixels) of what is left, most confident first.

    Last, if wanted, how many boxes were merged into each.
    """
    image, anchor, label, confidence = _candidates(head, network, settings)
    boxes, scale = _decoded(head, network, image, anchor, sizes_hw, valid_hw, settings.clip)
    if settings.clip:
        alive = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        image, anchor, label, confidence, boxes = (v[alive] for v in (image, anchor, label, confidence, boxes))
    keep = suppress(boxes, confidence, image, label, settings.nms_iou)
    keep = keep[torch.argsort(confidence[keep], descending=True, stable=True)]
    count = merged_into(boxes, image, label, keep, settings.nms_iou) if settings.count_suppressed else None
    keep = first_of_groups(image[keep], settings.max_per_image, len(sizes_hw), keep)
    image, anchor, label, confidence, boxes = (v[keep] for v in (image, anchor, label, confidence, boxes))
    return image, anchor, label, confidence, boxes * scale[image], None if count is None else count[keep]


def _decoded(
    head: HeadOutput,
    network: Anchored,
    image: Tensor,
    anchor: Tensor,
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    valid_hw: Tensor | Sequence[tuple[int, int]] | None,
    is_clipped: bool,
) -> tuple[Tensor, Tensor]:
    """Return boxes (N, 4) in fractions of the input, and each image's scale, (B, 4), to original pixels."""
    boxes = network.code.decode(head.deltas[image, anchor], head.priors[anchor])
    limit, scale = _geometry(network, head.input_hw, sizes_hw, valid_hw, boxes)
    return torch.minimum(boxes.clamp(min=0), limit[image]) if is_clipped else boxes, scale


def _check_finite(head: HeadOutput) -> None:
    # The extremes of a tensor with a NaN are NaN; nothing as large as the tensor is made.
    extremes = [v.float() for values in (head.logits, head.deltas) if values.numel() for v in values.aminmax()]
    if extremes and not bool(torch.isfinite(torch.stack(extremes)).all()):
        raise LabError(
            explain(
                expected="finite predictions",
                got="NaN or inf",
                where="decode_batch",
                do="the model diverged or its checkpoint is damaged: train it again with a lower learning rate",
            )
        )


def _possible(logits: Tensor, activation: str, conf_min: float) -> Tensor:
    """Return image and anchor, (R, 2), of anchors of which some class may be above ``conf_min``.

    No class's probability is above the sigmoid of what its logit (with softmax: less the background's) is; so in a
    trained network most anchors need no exponential. Without background (softmax_fg) some class is above 1 / C at every
    anchor.
    """
    if activation == "softmax_fg":
        return torch.ones_like(logits[..., 0], dtype=torch.bool).nonzero()
    most = logits[..., 1:].amax(-1) - logits[..., 0] if activation == "softmax" else logits.amax(-1)
    least = conf_min - _ROUNDING
    return (most > (math.log(least / (1 - least)) - _ROUNDING if least > 0 else -math.inf)).nonzero()


def _candidates(head: HeadOutput, network: Anchored, settings: Postprocess) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return image, anchor, label (N,) and confidence (N,) of all pairs that may enter NMS."""
    num_images, num_classes, first = len(head.logits), network.num_classes, int(network.activation == "softmax")
    image, anchor = _possible(head.logits.float(), network.activation, settings.conf_min).unbind(1)
    probs_RC = network.probs(head.logits[image, anchor])[:, first:]
    row, label = (probs_RC > settings.conf_min).nonzero(as_tuple=True)
    is_limited = settings.max_per_class is not None or settings.max_per_level is not None
    if is_limited and len(row) > _DENSE * num_images:
        probs_BPC = network.probs(head.logits)[..., first:]
        image, anchor, label = _of_many(probs_BPC, settings, head.level_sizes).nonzero(as_tuple=True)
        confidence = probs_BPC[image, anchor, label]
    else:
        image, anchor, confidence = image[row], anchor[row], probs_RC[row, label]
    if settings.max_per_level is not None:
        level_sizes = head.level_sizes
        ends = sent(torch.tensor(level_sizes).cumsum(0), anchor.device)
        level = torch.searchsorted(ends, anchor, right=True)
        chosen = best_of_groups(
            image * len(level_sizes) + level, confidence, settings.max_per_level, num_images * len(level_sizes)
        )
        image, anchor, label, confidence = (v[chosen] for v in (image, anchor, label, confidence))
    if settings.max_per_class is not None:
        chosen = best_of_groups(
            image * num_classes + label, confidence, settings.max_per_class, num_images * num_classes
        )
        image, anchor, label, confidence = (v[chosen] for v in (image, anchor, label, confidence))
    return image, anchor, label, confidence


def _of_many(probs_BPC: Tensor, settings: Postprocess, level_sizes: Sequence[int]) -> Tensor:
    """Return which pairs can be among the best of their class and level, (B, P, C) bool."""
    mask = probs_BPC > settings.conf_min
    if settings.max_per_class is not None:
        count = min(settings.max_per_class, probs_BPC.shape[1])
        least = probs_BPC.transpose(1, 2).contiguous().topk(count, dim=-1, sorted=False).values.amin(-1)
        mask &= probs_BPC >= least[:, None]
    if settings.max_per_level is not None and int(mask.sum()) > _DENSE * len(mask):
        for level in torch.arange(probs_BPC.shape[1], device=mask.device).split(list(level_sizes)):
            flat = probs_BPC[:, level].flatten(1)
            least = flat.topk(min(settings.max_per_level, flat.shape[1]), dim=-1, sorted=False).values.amin(-1)
            mask[:, level] &= probs_BPC[:, level] >= least[:, None, None]
    return mask


def best_of_groups(group: Tensor, confidence: Tensor, limit: int, num_groups: int) -> Tensor:
    """Return the indices of at most ``limit`` most confident members of each group (the earlier one of equals)."""
    if len(group) == 0 or int(torch.bincount(group, minlength=num_groups).max()) <= limit:
        return torch.arange(len(group), device=group.device)
    order = torch.argsort(confidence, descending=True, stable=True)
    return first_of_groups(group[order], limit, num_groups, order)


def first_of_groups(group: Tensor, limit: int | None, num_groups: int, values: Tensor) -> Tensor:
    """Keep the first ``limit`` values of each group, in the order given."""
    if limit is None or len(group) == 0:
        return values
    order = torch.argsort(group, stable=True)
    sizes = torch.bincount(group, minlength=num_groups)
    rank = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[group[order]]
    keep = torch.zeros(len(group), dtype=torch.bool, device=group.device)
    keep[order] = rank < limit
    return values[keep]


def suppress(boxes: Tensor, confidence: Tensor, image: Tensor, label: Tensor, nms_iou: float) -> Tensor:
    """Greedy NMS within each class of each image; returns kept indices.

    A call costs the square of its boxes. On a CPU it is one a class and image. A GPU, which every call costs a wait,
    has one an image: its classes are shifted apart, in double precision, because a shift of hundreds in float32 would
    move the boxes. All images in one call would be 33 GB of marks for 80 classes and 32 images.
    """
    if len(boxes) == 0:
        return image
    if boxes.is_cuda:
        group = image
        boxes = boxes.double() + (label.double() * ((boxes.max() - boxes.min()).double() + 1))[:, None]
        confidence = confidence.double()
    else:
        group = image * (label.max() + 1) + label
    order = torch.argsort(group, stable=True)
    sizes = torch.unique_consecutive(group[order], return_counts=True)[1].tolist()
    kept, start = [], 0
    for part_boxes, part_confidence in zip(boxes[order].split(sizes), confidence[order].split(sizes), strict=True):
        kept.append(_nms(part_boxes, part_confidence, nms_iou) + start)
        start += len(part_boxes)
    return order[torch.cat(kept)]


def _geometry(
    network: Anchored,
    input_hw: tuple[int, int],
    sizes_hw: Tensor | Sequence[tuple[int, int]],
    valid_hw: Tensor | Sequence[tuple[int, int]] | None,
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return where each image ends in its input, and its scale.

    Both are (B, 4) as x, y, x, y: fractions of the input, and original pixels per unit of input.
    """
    original = [(int(h), int(w)) for h, w in sizes_hw]
    resized = [resized_hw(hw, network.input_hw, network.resize) for hw in original] if valid_hw is None else valid_hw
    whole = torch.tensor([(w, h, w, h) for h, w in original], dtype=like.dtype)
    ends = torch.tensor([(float(w), float(h)) * 2 for h, w in resized], dtype=like.dtype)
    limit = ends / torch.tensor([input_hw[1], input_hw[0]] * 2, dtype=like.dtype)
    return sent(limit, like.device), sent(whole / limit, like.device)


def hand_over(
    boxes: Tensor,
    image: Tensor,
    label: Tensor,
    confidence: Tensor,
    probs: Tensor,
    activation: Activation,
    num_logits: int,
    num_images: int,
    whole: Mapping[str, Tensor] = MappingProxyType({}),
) -> list[Detections]:
    """Bring detections of a batch to the CPU, all at once, and take them apart; the order within an image stays.

    Args:
        boxes: (N, 4), original pixels.
        image: (N,) which image each belongs to.
        label: (N,).
        confidence: (N,).
        probs: (N, K), or (N, 2 K) with those of the flipped image behind.
        activation: of the probabilities.
        num_logits: K.
        num_images: of the batch.
        whole: columns (N,) of whole numbers below 2^24, which float32 holds, by their names in `Detections`.
    """
    order = torch.argsort(image, stable=True)
    numbers = [v[:, None].float() for v in (image, label, confidence, *whole.values())]
    table = torch.cat([*numbers[:3], boxes, probs, *numbers[3:]], dim=1)[order].cpu().numpy()
    end_of_probs, end = 7 + num_logits, 7 + probs.shape[1]
    ends = (table[:, 0][:, None] < range(1, num_images + 1)).sum(0) if len(table) else [0] * num_images
    out, start = [], 0
    for stop in ends:
        rows = table[start:stop]
        out.append(
            Detections(
                rows[:, 3:7].copy(),
                rows[:, 2].copy(),
                rows[:, 1].astype("int64"),
                rows[:, 7:end_of_probs].copy(),
                activation,
                rows[:, end_of_probs:end].copy() if probs.shape[1] > num_logits else None,
                **{name: rows[:, end + k].astype("int32") for k, name in enumerate(whole)},
            )
        )
        start = stop
    return out
