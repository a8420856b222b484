"""How unsure a class distribution is; the only home of the numerics (0 log 0, half precision) behind it.

Every function reduces the class axis ``dim``: box distributions are (…, K) with ``dim=-1``, dense maps (C, H, W) with
``dim=0``.
"""

import math

import torch
from torch import Tensor


def _at_least_float32(probs: Tensor) -> Tensor:
    # A half has 11 bits of mantissa: a sum over 81 classes would be good to two digits.
    return probs.float() if probs.dtype in (torch.float16, torch.bfloat16) else probs


def plogp(probs: Tensor) -> Tensor:
    """Return p ln p elementwise, with 0 ln 0 = 0 and never NaN for p in [0, 1]."""
    probs = _at_least_float32(probs)
    return torch.xlogy(probs, probs)


def entropy(probs: Tensor, dim: int = -1, normalized: bool = False) -> Tensor:
    """Shannon entropy of a class distribution: H = -sum_c p_c ln p_c.

    Args:
        probs: sums to 1 over ``dim``; a background class counts as a class.
        dim: the class axis.
        normalized: divide by ln C, C the length of ``dim``.

    Returns:
        ``probs`` without ``dim``; in nats, [0, ln C], or [0, 1] if ``normalized``.
    """
    # Rounding can leave a one-hot vector at -1e-8; adding 0 turns -0.0 into 0.0.
    h = (-plogp(probs).sum(dim)).clamp_min(0.0) + 0.0
    num_classes = probs.shape[dim]
    return h / math.log(num_classes) if normalized and num_classes > 1 else h


def binary_entropy(probs: Tensor) -> Tensor:
    """Entropy of a yes/no probability, elementwise: Hb(p) = -p ln p - (1 - p) ln(1 - p), in nats, [0, ln 2]."""
    probs = _at_least_float32(probs)
    return -(plogp(probs) + plogp(1 - probs)) + 0.0


def least_confidence(probs: Tensor, dim: int = -1) -> Tensor:
    """One minus the largest probability: 1 - p_(1), in [0, 1 - 1/C]."""
    return 1 - _at_least_float32(probs).amax(dim)


def margin(probs: Tensor, dim: int = -1) -> Tensor:
    """Gap between the two largest probabilities: p_(1) - p_(2), in [0, 1]; small means unsure.

    Raises:
        ValueError: if there is only one class, so no second one to compare with.
    """
    if probs.shape[dim] < 2:
        raise ValueError(
            f"margin: expected at least 2 classes on dim {dim}, got {probs.shape[dim]} in shape {tuple(probs.shape)}; "
            "for a yes/no probability use abs(2 p - 1)"
        )
    probs = _at_least_float32(probs)
    if probs.device.type == "cpu" and probs.stride(dim) > 1:  # of maps topk would sort every pixel's classes
        first, second = _two_largest(probs, dim)
    else:
        first, second = probs.topk(2, dim=dim).values.unbind(dim)
    return first - second


def _two_largest(probs: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return both by running maxima, class after class: the numbers of topk, NaN where a class is NaN."""
    classes = probs.unbind(dim)
    first, second = torch.maximum(*classes[:2]), torch.minimum(*classes[:2])
    for one in classes[2:]:
        torch.maximum(second, torch.minimum(first, one), out=second)
        torch.maximum(first, one, out=first)
    return first, second
