"""How much evidence a box's class distribution rests on, and how uncertain that leaves box, level, object and image.

MEH and HUA: Park et al., "Active Learning for Object Detection with Evidential Deep Learning and Hierarchical
Uncertainty Aggregation", ICLR 2023. Shapes: N boxes of one image, O objects, L levels, C columns of the distribution.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from al_lab.acquisition.uncertainty import entropy

Shared = Literal["once", "pairs"]

SCALE = 25.0  # of the evidence; released code
_SMALLEST = 1e-6  # predicted losses below it: none at all would be parameters of 0, which are none of a Dirichlet
_EPS = 1e-7  # released code


class Uncertainty(NamedTuple):
    """Of a class distribution, in nats: all of it, that of the data, and that of the model; ``total`` is their sum."""

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def evidence(loss_hat: Tensor, mean: Tensor) -> Tensor:
    """Return lambda_i = 25 mean / (Lhat_i + 1e-7): a small predicted loss is much evidence.

    Args:
        loss_hat: Lhat, (N,), predicted class losses; at least 1e-6 is counted.
        mean: of the predicted losses with which these are compared; a scalar, or (N,).
    """
    return SCALE * mean / (loss_hat.clamp_min(_SMALLEST) + _EPS)


def dirichlet_uncertainty(alpha_NC: Tensor) -> Uncertainty:
    """Split the uncertainty of the distribution whose parameters these are; each (N,) float64.

        total      T = H(alpha / alpha_0)                                           alpha_0 = sum_c alpha_c
        aleatoric  A = -sum_c (alpha_c / alpha_0) [psi(alpha_c + 1) - psi(alpha_0 + 1)]
        epistemic  u = T - A

    A is the mean entropy of distributions drawn from the Dirichlet, in closed form (the released code draws 500).
    """
    alpha_NC = alpha_NC.double()
    total_N1 = alpha_NC.sum(-1, keepdim=True)
    mean_NC = alpha_NC / total_N1
    total = entropy(mean_NC)
    aleatoric = -(mean_NC * (torch.digamma(alpha_NC + 1) - torch.digamma(total_N1 + 1))).sum(-1)
    return Uncertainty(total, aleatoric, (total - aleatoric).clamp_min(0))


def level_means(loss_hat_N: Tensor, level_N: Tensor, member_NO: Tensor, num_levels: int, shared: Shared) -> Tensor:
    """Return (L,) float64: the mean predicted loss of the boxes of each level that belong to an object; 0 without any.

    Args:
        loss_hat_N: predicted losses.
        level_N: of each box.
        member_NO: which box belongs to which object.
        num_levels: L.
        shared: a box of several objects counts ``once``, or for each of them (``pairs``: the released code).
    """
    loss_N = loss_hat_N.double().clamp_min(_SMALLEST)
    weight_N = (member_NO.any(1) if shared == "once" else member_NO.sum(1)).to(loss_N.dtype)
    sums, counts = (
        loss_N.new_zeros(num_levels).index_add_(0, level_N, values) for values in (loss_N * weight_N, weight_N)
    )
    return sums / counts.clamp_min(1)


def aggregated(u_N: Tensor, level_N: Tensor, label_N: Tensor, member_NO: Tensor, num_levels: int) -> Tensor:
    """Return (O,) float64: HUA, the uncertainty of each object from that of the boxes around it.

        mean over the boxes of an (object, level, class); sum over classes; maximum over levels

    The image's is the sum over its objects.

    Args:
        u_N: epistemic uncertainty of each box.
        level_N: of each box.
        label_N: its likeliest class, 0-based.
        member_NO: which box belongs to which object.
        num_levels: L.
    """
    u_N, member_NO = u_N.double(), member_NO.to(torch.float64)
    num_classes = int(label_N.max()) + 1 if len(label_N) else 1
    cell_N = level_N * num_classes + label_N
    sums, counts = (
        u_N.new_zeros(num_levels * num_classes, member_NO.shape[1]).index_add_(0, cell_N, values)
        for values in (member_NO * u_N[:, None], member_NO)
    )
    means_LCO = (sums / counts.clamp_min(1)).view(num_levels, num_classes, -1)
    return means_LCO.sum(1).amax(0)


def image_uncertainty(
    probs_NC: Tensor,
    loss_hat_N: Tensor,
    level_N: Tensor,
    label_N: Tensor,
    member_NO: Tensor,
    num_levels: int,
    shared: Shared = "once",
) -> Tensor:
    """Return an image's utility, a float64 scalar: the sum over its objects; 0 without any.

    Args:
        probs_NC: class distributions of the boxes.
        loss_hat_N: their predicted losses.
        level_N: of each box.
        label_N: its likeliest class, 0-based.
        member_NO: which box belongs to which object.
        num_levels: L.
        shared: see `level_means`.
    """
    is_member_N = member_NO.any(1)  # boxes of no object count nowhere, and their level may have no mean
    probs_NC, loss_hat_N, level_N, label_N, member_NO = (
        values[is_member_N] for values in (probs_NC, loss_hat_N, level_N, label_N, member_NO)
    )
    mean_L = level_means(loss_hat_N, level_N, member_NO, num_levels, shared)
    lambda_N = evidence(loss_hat_N.double(), mean_L[level_N])
    u_N = dirichlet_uncertainty(lambda_N[:, None] * probs_NC.double()).epistemic
    return aggregated(u_N, level_N, label_N, member_NO, num_levels).sum()
