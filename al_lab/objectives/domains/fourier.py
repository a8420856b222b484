"""Images in the style of others: low frequencies of theirs, by Fourier's transform."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def in_style(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """Return the source images with the target's amplitudes of low frequencies, and their own phases.

    With F = A e^(i P) the spectrum of each channel, b = floor(beta min(H, W)), and u, v whole numbers of periods

        F'_uv = A_target,uv e^(i P_source,uv) where |u| < b and |v| < b,     else F_source,uv

    Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, Eq. (3). Nothing changes where
    b = 0; b = 1 changes the mean color alone. DEVIATION: the released window also holds -b of both axes, but not b, of
    which an image of real numbers keeps half.

    Args:
        source: (B, 3, H, W) float, RGB from 0 on: of normalized images the mean color would keep its sign.
        target: (B, 3, h, w) of the same kind, brought to H x W (bilinear).
        beta: in [0, 0.5].
    """
    height, width = source.shape[2:]
    reach = int(beta * min(height, width))
    if reach == 0:
        return source
    if target.shape[2:] != source.shape[2:]:
        target = F.interpolate(target, (height, width), mode="bilinear", align_corners=False)
    own, theirs = torch.fft.rfft2(source.float()), torch.fft.rfft2(target.float())
    low = torch.fft.fftfreq(height, 1 / height, device=source.device).abs()[:, None] < reach
    low = low & (torch.arange(own.shape[-1], device=source.device) < reach)
    return torch.fft.irfft2(torch.where(low, torch.polar(theirs.abs(), own.angle()), own), (height, width))


def robust_entropy(logits: Tensor, eta: float) -> Tensor:
    """Return the Charbonnier penalty of each location's entropy, (B, h, w): (h^2 + 1e-8)^eta with h in [0, 1].

    Yang & Soatto, CVPR 2020, Eq. (5); the 1e-8 is the released code's. With eta > 0.5 unsure locations, which are many
    at first, weigh more than those that are sure already.

    Args:
        logits: (B, C, h, w).
        eta: 2 in the paper.
    """
    log_probs = logits.float().log_softmax(1)
    entropy = -(log_probs.exp() * log_probs).sum(1) / math.log(logits.shape[1])
    return (entropy.square() + 1e-8) ** eta
