"""How differently two classifiers judge the anchors of an image, and which anchors that is counted at (MI-AOD).

Shapes: B images, P anchors of some feature levels, K columns of the class distribution, C foreground classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_EPS = 1e-5  # of an image's probabilities, released code


def mean_square_gap(p_BPK: Tensor, q_BPK: Tensor) -> Tensor:
    """Return (B, P): mean_c (p_c - q_c)^2 of two judgements."""
    return (p_BPK - q_BPK).square().mean(-1)


def mean_of_largest(values_BP: Tensor, count: int) -> Tensor:
    """Return (B,): the mean of the ``count`` largest values of each image, of all if there are fewer."""
    return values_BP.topk(min(count, values_BP.shape[1]), dim=1, sorted=False).values.mean(1)


def instance_weights(instances_BPC: Tensor, mean_logits_BPC: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """Return y (B, P, C): how much anchor i stands for class c; a level's y sum to at most 1.

        y_ic = softmax_c(m_i)_c softmax_i(max_c sigma(z_ic))        over the anchors i of each level        Eq. 4

    Args:
        instances_BPC: m, logits of the multiple instance classifier.
        mean_logits_BPC: z, of both classifiers; a fixed weight.
        level_sizes: of the P anchors.
    """
    likeliest_BP = mean_logits_BPC.detach().float().sigmoid().amax(-1)
    share_BP = torch.cat([part.softmax(1) for part in likeliest_BP.split(list(level_sizes), 1)], 1)
    return instances_BPC.float().softmax(-1) * share_BP[..., None]


def image_probs(weights_BPC: Tensor, level_sizes: Sequence[int]) -> Tensor:
    """Return Y (B, C): the largest sum of a level's weights, in [1e-5, 1 - 1e-5]."""
    sums = [part.sum(1) for part in weights_BPC.split(list(level_sizes), 1)]
    return torch.stack(sums).amax(0).clamp(_EPS, 1 - _EPS)


def classes_seen(logits_BPC: Tensor, logits2_BPC: Tensor, least: float = 0.5) -> Tensor:
    """Return (B, C) of 0 and 1: classes that both heads, on average, find at some anchor (pseudo label of an image)."""
    mean_BPC = (logits_BPC.detach().float().sigmoid() + logits2_BPC.detach().float().sigmoid()) / 2
    return (mean_BPC.amax(1) >= least).float()
