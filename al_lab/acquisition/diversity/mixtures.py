"""What an image's predictions look like on average, the unsure ones weighing more (CDAL's contextual diversity).

Shapes: P predictions of an image, C classes.
"""

import torch
from torch import Tensor

from al_lab.acquisition.uncertainty import entropy

_LEAST = 1e-12  # weight of a prediction without any doubt, so that a mixture of such is their mean


def mixture(probs: Tensor) -> Tensor:
    """Return the entropy-weighted mean of an image's class distributions.

    CDAL (Agarwal et al., ECCV 2020, Eq. 1):  P_I = sum_r H(p_r) p_r / sum_r H(p_r).

    Args:
        probs: (P, C), rows that sum to 1.

    Returns:
        (C,), sums to 1. Uniform where there is no prediction; the plain mean where none is unsure.
    """
    if len(probs) == 0:
        return probs.new_full((probs.shape[1],), 1 / probs.shape[1])
    weight_P1 = entropy(probs).clamp_min(_LEAST)[:, None]
    return (weight_P1 * probs).sum(0) / weight_P1.sum()


def class_mixtures(probs: Tensor) -> Tensor:
    """Return a `mixture` of the predictions of each class, where a prediction is of its likeliest class.

    Args:
        probs: (P, C), rows that sum to 1.

    Returns:
        (C, C): row c is the mixture of class c, zeros where nothing is predicted as c.
    """
    weight_P1 = entropy(probs).clamp_min(_LEAST)[:, None]
    label_P = probs.argmax(-1)
    summed_CC = torch.zeros(probs.shape[1], probs.shape[1], dtype=probs.dtype, device=probs.device)
    summed_CC.index_add_(0, label_P, weight_P1 * probs)
    total_C1 = summed_CC.sum(1, keepdim=True)  # a row of probabilities sums to 1, so this is the sum of weights
    return torch.where(total_C1 > 0, summed_CC / total_C1.clamp_min(torch.finfo(probs.dtype).tiny), 0.0)
