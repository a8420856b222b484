"""Mixture densities (PM): losses of class logits and box deltas that are mixtures of K components with variances.

Shapes: B images, P anchors, N positives, K components, Q columns of the class distribution (column 0 background).
"""

import math

import torch
from torch import Tensor

_SPREAD = 0.3  # added to v in the density; released code
_FLOOR = 1e-9  # added to the density; released code
_SMALLEST = 1e-6  # deviations below it: a squared distance would be infinite


def box_losses(
    weight: Tensor, mean: Tensor, deviation: Tensor, target: Tensor, spread: float = _SPREAD, floor: float = _FLOOR
) -> Tensor:
    """Return -1/2 ln(sum_k pi_k g_k + 1e-9) of each coordinate, (…).

        g_k = exp(-1/2 ((y - mu_k) / v_k)^2) / (sqrt(2 pi) (v_k + .3))

    v is the standard deviation here, as in the released code; the uncertainty takes it for a variance.

    Args:
        weight: pi of each coordinate's components, (…, K).
        mean: mu, (…, K).
        deviation: v, (…, K).
        target: y, (…).
        spread: what is added to v; 0: g is a normal density.
        floor: what is added to the mixture.
    """
    deviation = deviation.clamp_min(_SMALLEST)
    z = (target[..., None] - mean) / deviation
    density = torch.exp(-0.5 * z.square()) / (math.sqrt(2 * math.pi) * (deviation + spread))
    return -0.5 * torch.log((weight * density).sum(-1) + floor)


def noisy_class_losses(weight: Tensor, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Return sum_k pi_k CE(softmax(mu_k + sqrt(v_k) eps), y) for every answer y, (…, Q): type 1.

    Args:
        weight: pi, (…, K).
        mean: mu, logits, (…, K, Q).
        variance: v, (…, K, Q).
        noise: eps, one draw of N(0, 1) for the choice of negatives and the loss, (…, K, Q).
    """
    log_p = (mean + variance.clamp_min(_SMALLEST**2).sqrt() * noise).log_softmax(-1)
    return -(weight[..., None] * log_p).sum(-2)


def log_mixed_probs(weight: Tensor, mean: Tensor) -> Tensor:
    """Return ln sum_k pi_k softmax(mu_k), (…, Q); its negative is the class loss of type 2.

    Args:
        weight: pi, (…, K).
        mean: mu, (…, K, Q).
    """
    return (weight.log()[..., None] + mean.log_softmax(-1)).logsumexp(-2)
