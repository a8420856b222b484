"""Box geometry of the anchors: IoU, encoding, matching; everything over images and anchors at once.

Shapes: B images, P anchors, G ground-truth boxes (padded). ``cxcywh`` and ``xyxy`` are fractions of the input size.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.data.device import constant

BACKGROUND = -1
IGNORED = -2
#: Matching materialises images x boxes x anchors overlaps; larger batches go through in blocks of images of this size.
_BLOCK = 32_000_000
#: Overlaps closer than this are one overlap: fractions of the input round where whole pixels don't.
_SAME_IOU = 1e-6


def to_corners(cxcywh: Tensor) -> Tensor:
    """Center and size to corners."""
    center, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def to_centers(xyxy: Tensor) -> Tensor:
    """Corners to center and size."""
    return torch.cat([(xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]], dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the (…, N, M) intersection over union of boxes ``a`` (…, N, 4) and ``b`` (…, M, 4), xyxy.

    0 for empty boxes.
    """
    inter, area_a, area_b = _intersection(a, b)
    union = (area_a + area_b).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def _intersection(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    ax1, ay1, ax2, ay2 = (v.unsqueeze(-1) for v in a.unbind(-1))
    bx1, by1, bx2, by2 = (v.unsqueeze(-2) for v in b.unbind(-1))
    inter = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp_(min=0)
    inter = inter.mul_((torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp_(min=0))
    area_a = (ax2 - ax1).clamp(min=0) * (ay2 - ay1).clamp(min=0)
    area_b = (bx2 - bx1).clamp(min=0) * (by2 - by1).clamp(min=0)
    return inter, area_a, area_b


@dataclass(frozen=True)
class BoxCoder:
    """Boxes relative to anchors: dx = (gx - cx) / (v0 w), dw = ln(gw / w) / v2.

    Attributes:
        variances: divisors of dx, dy, dw, dh; SSD's are .1, .1, .2, .2, RetinaNet's are 1.
        max_log_ratio: bound of |ln(gw / w)| when decoding, so that an untrained head stays finite (mmdet and
            torchvision use the same ln(1000/16)).
    """

    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    max_log_ratio: float = math.log(1000 / 16)

    def encode(self, xyxy: Tensor, priors: Tensor) -> Tensor:
        """Return the deltas of boxes (…, 4) xyxy against priors (…, 4) cxcywh."""
        box = to_centers(xyxy)
        deltas = torch.cat(
            [(box[..., :2] - priors[..., :2]) / priors[..., 2:], (box[..., 2:] / priors[..., 2:]).log()], dim=-1
        )
        return deltas / constant(self.variances, deltas)

    def decode(self, deltas: Tensor, priors: Tensor) -> Tensor:
        """Return xyxy boxes of deltas (…, 4) against priors (…, 4) cxcywh; not clipped to the image."""
        deltas = deltas.float() * constant(self.variances, priors)
        center = priors[..., :2] + deltas[..., :2] * priors[..., 2:]
        half = priors[..., 2:] * deltas[..., 2:].clamp(-self.max_log_ratio, self.max_log_ratio).exp() / 2
        return torch.cat([center - half, center + half], dim=-1)


@dataclass(frozen=True)
class Matching:
    """Which anchors learn which ground-truth box.

    Attributes:
        pos_iou: an anchor is positive if its best box overlaps it by at least this (SSD and RetinaNet: .5).
        neg_iou: it is background below this, ignored in between (SSD .5, RetinaNet .4).
        forced: besides, the best anchor of each box is positive whatever the overlap; all its equals if ``force_ties``.
        force_ties: mmdet's ``gt_max_assign_all``, on for RetinaNet and off for SSD.
        ignore_iof: anchors whose own area lies within an ignored box (a crowd) by at least this are left out unless
            positive.
    """

    pos_iou: float = 0.5
    neg_iou: float = 0.5
    forced: bool = True
    force_ties: bool = False
    ignore_iof: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.neg_iou <= self.pos_iou <= 1:
            raise ConfigError(
                explain(
                    expected="0 < neg_iou <= pos_iou <= 1",
                    got=f"{self.neg_iou} and {self.pos_iou}",
                    where="detector.matching",
                    do="correct the thresholds",
                )
            )


def has_area(boxes: Tensor) -> Tensor:
    """Return (…,) bool of boxes (…, 4) xyxy: those without area, as in padding, carry nothing to learn (ln 0)."""
    return ((boxes[..., 2:] - boxes[..., :2]) > 0).all(-1)


def match(
    boxes: Tensor,
    valid: Tensor,
    priors: Tensor,
    matching: Matching,
    ignored: Tensor | None = None,
    usable: Tensor | None = None,
) -> Tensor:
    """Assign a ground-truth box to each anchor of each image.

    Args:
        boxes: (B, G, 4) xyxy, padded.
        valid: (B, G) bool, which of them are real.
        priors: (P, 4) cxcywh.
        matching: thresholds.
        ignored: (B, I, 4) xyxy, padded with empty boxes: regions to learn nothing from (crowds).
        usable: (B, P) bool, anchors that take part; the others (in a batch's padding) are ignored.

    Returns:
        (B, P) int64: index of the box in 0..G-1, `BACKGROUND` or `IGNORED`. On conflict the later box wins.
    """
    num_images, num_boxes = valid.shape
    anchors = to_corners(priors)
    extra = 0 if ignored is None else ignored.shape[1]
    step = max(1, _BLOCK // (max(num_boxes, extra, 1) * len(priors)))
    blocks = [slice(i, i + step) for i in range(0, num_images, step)]
    parts = [
        _match_block(
            boxes[s],
            valid[s],
            anchors,
            matching,
            None if ignored is None else ignored[s],
            None if usable is None else usable[s],
        )
        for s in blocks
    ]
    return torch.cat(parts)


def _match_block(
    boxes: Tensor, valid: Tensor, anchors: Tensor, matching: Matching, ignored: Tensor | None, usable: Tensor | None
) -> Tensor:
    shape = (len(boxes), len(anchors))
    assigned = torch.full(shape, BACKGROUND, dtype=torch.int64, device=anchors.device)
    if boxes.shape[1]:
        overlap_BGP = iou(boxes, anchors).masked_fill_(~valid[..., None], -1)
        if usable is not None:
            overlap_BGP.masked_fill_(~usable[:, None], -1)
        best_BP, index_BP = overlap_BGP.max(dim=1)
        assigned.masked_fill_(best_BP >= matching.neg_iou, IGNORED)
        assigned = torch.where(best_BP >= matching.pos_iou, index_BP, assigned)
        if matching.forced:
            forced_BP = _forced(overlap_BGP, matching.force_ties)
            assigned = torch.where(forced_BP >= 0, forced_BP, assigned)
    if ignored is not None and ignored.shape[1]:
        inter, _, area = _intersection(ignored, anchors)
        covered = (inter >= matching.ignore_iof * area).any(dim=1)
        assigned = assigned.masked_fill(covered & (assigned < 0), IGNORED)
    return assigned if usable is None else assigned.masked_fill(~usable, IGNORED)


def _forced(overlap_BGP: Tensor, ties: bool) -> Tensor:
    """Return (B, P): the last box that has this anchor as its best, or -1.

    A box that overlaps nothing forces nothing.
    """
    best_BG, anchor_BG = overlap_BGP.max(dim=2)
    num_boxes = overlap_BGP.shape[1]
    number_G = torch.arange(num_boxes, device=overlap_BGP.device)
    if ties:
        is_best = (overlap_BGP >= best_BG[..., None] - _SAME_IOU) & (best_BG[..., None] > 0)
        return torch.where(is_best, number_G[:, None], -1).amax(dim=1)
    number_BG = torch.where(best_BG > 0, number_G, -1)
    forced = overlap_BGP.new_full((overlap_BGP.shape[0], overlap_BGP.shape[2]), -1, dtype=torch.int64)
    return forced.scatter_reduce_(1, anchor_BG, number_BG, reduce="amax")


def merged_into(boxes: Tensor, image: Tensor, label: Tensor, keep: Tensor, nms_iou: float) -> Tensor:
    """Return (N,): of each box that is left the size of its cluster, itself included; 0 of the others.

    A box belongs to the most confident one left of its image and class that overlaps it by more than ``nms_iou``: the
    one that suppressed it.

    Args:
        boxes: (N, 4) all that entered suppression.
        image: (N,).
        label: (N,).
        keep: (M,) indices of those left, the most confident first.
        nms_iou: of the suppression.
    """
    count = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for number in image.unique().tolist():
        mine, left = (image == number).nonzero().flatten(), keep[image[keep] == number]
        overlap = iou(boxes[mine], boxes[left]).masked_fill(label[mine][:, None] != label[left], -1)
        suppressed = overlap > nms_iou
        # The overlap that suppressed a box may be a rounding error more than this one.
        owner = torch.where(suppressed.any(1), suppressed.to(torch.uint8).argmax(1), overlap.argmax(1))
        owner = owner.scatter(0, torch.searchsorted(mine, left), torch.arange(len(left), device=left.device))
        count.index_add_(0, left[owner], torch.ones_like(owner))
    return count
