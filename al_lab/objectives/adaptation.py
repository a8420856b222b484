"""Losses of active domain adaptation for segmentation, as pure functions of logits.

RIPU's two, Density Matters' two, cross-entropies.

Shapes: B images, C classes, H x W pixels, D feature channels. Logits are (B, C, H, W) at image size; labels are (B, H,
W) integers with 255 where there is none. A mean over nothing is 0 with a gradient of 0, never NaN. Means are over the
batch of all devices together.

| symbol | here | default | where |
|---|---|---|---|
| p, P | softmax of the logits | | |
| m | ``margin`` | 1 | Density Matters, Eq. (6) |
| tau_n | ``threshold`` of negative learning | 0.05 | RIPU, released configs |
| F, Fhat | ``features``, ``reconstruction`` | | Density Matters, Eq. (7), (8) |
| weights | 0.1 consistency, 1 negative, 1 all others | | RIPU's configs; the others UNSPECIFIED |

Deviations: `margin_loss` and `reconstruction_loss` are means (per class, per channel), since neither paper gives
reduction or weight; `boundary_consistency` counts ground-truth boundaries only, as the released code does, with a
switch for all pixels.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.objectives.reduce import global_positives

IGNORE = 255  # a pixel without a label
CONSISTENCY_WEIGHT = 0.1  # released configs of RIPU
NEGATIVE_WEIGHT = 1.0  # released configs of RIPU

Reduction = Literal["sum", "mean_pixel", "mean_pixel_class"]


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    if mask is None:
        return values.sum() / global_positives(torch.full((), values.numel(), device=values.device))
    return _sum(values, mask) / global_positives(mask.sum())


def _sum(values: Tensor, mask: Tensor) -> Tensor:
    # where, not a product: a value that is not counted may be inf
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device)).sum()


def cross_entropy(logits: Tensor, labels: Tensor, ignore: int = IGNORE, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the labeled pixels of a batch.

    0 if there is none (then the released code skips the term).

    Source and target are two calls: each has weight 1 whatever its number of pixels.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W).
        ignore: the label of pixels that don't count.
        class_weights: (C,) >= 0, the smallest positive one 1: the mean is sum w_y L / sum w_y, as torch's.
    """
    labeled = labels != ignore
    if class_weights is not None:
        per_pixel = F.cross_entropy(
            _at_least_float32(logits), labels.long(), ignore_index=ignore, reduction="none", weight=class_weights
        )
        weight = class_weights[torch.where(labeled, labels, 0).long()] * labeled
        return per_pixel.sum() / global_positives(weight.sum())
    if labels.is_cuda or 2 * int(labeled.sum()) > labels.numel():
        return _mean(
            F.cross_entropy(_at_least_float32(logits), labels.long(), ignore_index=ignore, reduction="none"), labeled
        )
    # Of the target a few pixels are bought: a softmax of these alone (a GPU would have to wait for their number).
    per_pixel = F.cross_entropy(
        _at_least_float32(logits.permute(0, 2, 3, 1)[labeled]), labels[labeled].long(), reduction="none"
    )
    return _mean(per_pixel, torch.ones_like(per_pixel, dtype=torch.bool))


def window_mean(values: Tensor) -> Tensor:
    """Return the 3 x 3 mean of every channel of (B, C, H, W), center included; the border is repeated."""
    return _WindowMean.apply(values)


class _WindowMean(torch.autograd.Function):
    """Rows, then columns; the same backwards without a zero-filled map for every slice, as autograd would make it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
        rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
        return (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).div_(9)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _window_sum(_window_sum(gradient / 9, -1), -2)


def _window_sum(gradient: Tensor, dim: int) -> Tensor:
    """Return what a mean over three neighbors along ``dim`` hands back: their sum, and of the repeated border twice."""
    size = gradient.shape[dim]
    total = gradient.clone()
    total.narrow(dim, 1, size - 1).add_(gradient.narrow(dim, 0, size - 1))
    total.narrow(dim, 0, size - 1).add_(gradient.narrow(dim, 1, size - 1))
    for border in (0, size - 1):
        total.narrow(dim, border, 1).add_(gradient.narrow(dim, border, 1))
    return total


def boundary(labels: Tensor, ignore: int = IGNORE) -> Tensor:
    """Return (B, H, W) bool: where a ground-truth label differs from its surroundings.

    It is found as RIPU's released code does.

    8 l_ij - sum of the 8 neighbors' l != 0 and l_ij != ignore.

    Quirks of that Laplacian of class *numbers*, kept: outside the image counts as class 0, so border pixels of any
    other class are flagged; 255 enters its neighbors' sums; a pixel whose neighbors' numbers average to its own is
    missed (stripes 1 | 2 | 3).

    Args:
        labels: (B, H, W).
        ignore: never flagged itself.
    """
    return (laplacian(labels) != 0) & (labels != ignore)


def laplacian(labels: Tensor) -> Tensor:
    """Return 8 l_ij - sum of the 8 neighbors, zero outside; (B, H, W) int64."""
    padded = F.pad(labels.long(), (1, 1, 1, 1))
    height, width = labels.shape[-2:]
    around = sum(padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3))
    return 9 * labels.long() - around


def boundary_consistency(
    logits: Tensor, labels: Tensor, where: Literal["boundary", "all"] = "boundary", ignore: int = IGNORE
) -> Tensor:
    """Predictions should agree with their 3 x 3 mean.  L = mean_{ij in M} sum_c |p_c,ij - pbar_c,ij|.

    The gradient goes through p and through its mean. RIPU applies it to source images with weight 0.1.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) ground truth.
        where: M: ``boundary`` (released code) or ``all`` pixels (the paper, as recalled), labeled or not.
        ignore: the label of pixels without one.

    Raises:
        ValueError: for another ``where``.
    """
    if where not in ("boundary", "all"):
        raise ValueError(
            f"boundary_consistency: expected where boundary | all, got {where!r}; boundary is the released code's"
        )
    probs = _at_least_float32(logits).softmax(1)
    per_pixel = (probs - window_mean(probs)).abs().sum(1)
    return _mean(per_pixel, None if where == "all" else boundary(labels, ignore))


def negative_learning(logits: Tensor, threshold: float = 0.05, eps: float = 1e-6) -> Tensor:
    """What a pixel surely is not, it should be even less.  L = 1/|N| sum_{N} -ln(1 - p_c + eps),  N = {(c, i, j).

    P_c,ij < threshold}.

    N is a fixed set (no gradient); all pixels of the target images, labeled ones too. 0 if N is empty.

    Args:
        logits: (B, C, H, W).
        threshold: 0.05.
        eps: 1e-6, as released.
    """
    probs = _at_least_float32(logits).softmax(1)
    return _mean(-(1 - probs + eps).log(), probs.detach() < threshold)


def margin_loss(
    logits: Tensor, labels: Tensor, reduction: Reduction = "mean_pixel_class", margin: float = 1.0, ignore: int = IGNORE
) -> Tensor:
    """Categorical margin loss on probabilities; Density Matters, Eq. (6), on labeled source pixels.

    L_ij = sum_{c != y} max(0, m - P_y + P_c).

    For m = 1 no hinge ever clips (P_y - P_c <= 1), so L_ij = C (1 - P_y), with dL/dz_k = -C P_y (1[k = y] - P_k): no
    (C, H, W) hinge is built. Other margins take the sum as written.

    Args:
        logits: (B, C, H, W) of the main classifier.
        labels: (B, H, W).
        reduction: over pixels and classes. UNSPECIFIED in the paper, which writes a sum; the mean over both lies in [0,
            1].
        margin: m.
        ignore: the label of pixels that don't count.

    Raises:
        ValueError: for another reduction.
    """
    if reduction not in ("sum", "mean_pixel", "mean_pixel_class"):
        raise ValueError(
            f"margin_loss: expected reduction sum | mean_pixel | mean_pixel_class, got {reduction!r}; the default is "
            f"mean_pixel_class"
        )
    num_classes, valid = logits.shape[1], labels != ignore
    target = labels.long().masked_fill(~valid, 0)[:, None]
    probs = _at_least_float32(logits).softmax(1)
    of_target = probs.gather(1, target)
    if margin == 1:
        per_pixel = num_classes * (1 - of_target[:, 0])
    else:
        hinge = (margin - of_target + probs).clamp(min=0)
        per_pixel = hinge.sum(1) - hinge.gather(1, target)[:, 0]
    if reduction == "sum":
        # gradients are averaged over devices
        return _sum(per_pixel, valid) / global_positives(torch.zeros((), device=logits.device))
    return _mean(per_pixel, valid) / (1 if reduction == "mean_pixel" else num_classes)


def reconstruction_error(reconstruction: Tensor, features: Tensor) -> Tensor:
    """Return e = |Fhat - F|^2 of every location, summed over channels: (B, D, H, W) twice to (B, H, W)."""
    return (_at_least_float32(reconstruction) - _at_least_float32(features)).square().sum(1)


def reconstruction_loss(reconstruction: Tensor, features: Tensor, tau: float | None = None) -> Tensor:
    """Density reconstruction loss; Density Matters, Eq. (8) without its constant ln beta.

    L = mean_ij e_ij / D, or literally mean_ij e_ij / tau (the negative log-likelihood is that minus ln beta).

    F is the target and not detached: the paper trains it jointly and guards against collapse with an auxiliary
    classifier on F.

    Args:
        reconstruction: Fhat, (B, D, H, W).
        features: F, the same shape.
        tau: None for the mean over channels, whose size does not depend on D. UNSPECIFIED weight in the paper; e / tau
            is D / tau times larger.
    """
    error = _mean(reconstruction_error(reconstruction, features))
    return error / (features.shape[1] if tau is None else tau)


def source_target_sum(source: Tensor, target: Tensor) -> Tensor:
    """Return (L_source + L_target) / 2.

    Each domain has the same weight, whatever its number of pixels.
    """
    return (source + target) / 2
