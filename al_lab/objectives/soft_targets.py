"""How far a student's predictions are from soft targets: of class probabilities, and of boxes.

Shapes: S anchors, K logits, C classes.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

BoxDistance = Literal["giou", "l1"]
_EPS = 1e-7  # torchvision's


def soft_focal(logits: Tensor, target: Tensor, activation: str, gamma: float) -> Tensor:
    """Return (S,): sum_c |p_T - p_S|^gamma BCE(p_S, p_T), 0 where student and teacher agree.

    Args:
        logits: (S, K), the student's.
        target: (S, C), p_T.
        activation: of the head.
        gamma: focuses on what they disagree about.
    """
    log_yes, log_no = log_probs(logits.float(), activation)
    cross_entropy = -(target * log_yes + (1 - target) * log_no)
    return ((target - log_yes.exp()).abs().pow(gamma) * cross_entropy).sum(-1)


def log_probs(logits: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Return ln p_c and ln(1 - p_c) of each class, (…, C); both stay finite however sure the head is."""
    if activation == "sigmoid":
        return F.logsigmoid(logits), F.logsigmoid(-logits)
    log_yes = logits.log_softmax(-1)
    likeliest = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, logits.argmax(-1, keepdim=True), True)
    # Only the likeliest one can be so near to 1 that 1 - p is lost in rounding; its complement is the sum of the
    # others.
    others = log_yes.masked_fill(likeliest, -torch.inf).logsumexp(-1, keepdim=True)
    log_no = torch.where(likeliest, others, torch.log1p(-log_yes.masked_fill(likeliest, -1.0).exp()))
    return log_yes[..., 1:], log_no[..., 1:]


def box_distance(boxes: Tensor, target: Tensor, kind: BoxDistance) -> Tensor:
    """Return (S,): how far pairs of boxes are apart, xyxy in fractions of the input."""
    if kind == "l1":
        return (boxes - target).abs().sum(-1)
    return giou_distance(boxes, target)


def giou_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - GIoU of pairs of boxes (S, 4) xyxy in fractions of the input, (S,) in [0, 2].

    Rezatofighi et al., CVPR 2019. The numbers are those of torchvision's ``generalized_box_iou_loss``, which selects
    boxes that overlap by a mask and so makes a GPU's host wait; gradients are the same.
    """
    # The distance does not depend on the unit, but 1e-7 is added to areas: small boxes want a small unit.
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (a * 1000).unbind(-1), (b * 1000).unbind(-1)
    width = torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)
    height = torch.minimum(ay2, by2) - torch.maximum(ay1, by1)
    inter = torch.where((width > 0) & (height > 0), width * height, torch.zeros_like(width))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
    hull = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)) * (torch.maximum(ay2, by2) - torch.minimum(ay1, by1))
    return 1 - (inter / (union + _EPS) - (hull - union) / (hull + _EPS))
