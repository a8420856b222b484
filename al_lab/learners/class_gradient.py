"""What the labels of an image would do to a hold-out's loss, by gradients alone: no training (beyond MGRAL).

MGRAL cites EMOC (Freytag et al., "Selecting Influential Examples: Active Learning with Expected Model Output Changes",
ECCV 2014): an example is worth what its label, whichever it turns out to be, changes in the model's output on average.
Here the output is the loss of images that are held out, and the change is that of one step of gradient descent:

    v(i) = E_{y ~ p_i} |<g_i(y), G>|,   g_i(y) = grad l(i, y),  G = the hold-out's mean gradient, both of the last layer

A step along -g_i(y) lowers the hold-out's loss by <g_i(y), G> times the rate. Where the loss is a cross-entropy the
expectation of g_i under p_i is zero, so the mean projection says nothing; its positive part, what the image gives if
its label turns out to help, is half of its absolute value.

DEVIATIONS from EMOC: a Gaussian process' closed form becomes one gradient step; the output is a loss; the mean over
hold-out images is taken before the absolute value, so that one direction is enough for a pool. Labels of an image's
boxes count as independent, and their values are added.

Shapes: A boxes, K logits of each.
"""

import torch
from torch import Tensor


def expected_change(probs_AK: Tensor, shift_AK: Tensor) -> Tensor:
    """Return E_{y ~ p} |<dl/dz, u>| of a cross-entropy over K classes, (A,): sum_y p_y |p.u - u_y|.

    Args:
        probs_AK: class distributions p, rows sum to 1.
        shift_AK: u, what the logits z gain along a direction of the weights.
    """
    mean_A1 = (probs_AK * shift_AK).sum(-1, keepdim=True)
    return (probs_AK * (mean_A1 - shift_AK).abs()).sum(-1)


def expected_change_of_each(probs_AK: Tensor, present_AK: Tensor, absent_AK: Tensor, shift_AK: Tensor) -> Tensor:
    """Return the same (A,) of a loss that treats every class alone: sum_k p_k |l1'_k u_k| + (1 - p_k) |l0'_k u_k|.

    Args:
        probs_AK: probabilities of each class to be there.
        present_AK: derivatives l1' of the loss by the logit if the class is there.
        absent_AK: l0', if it is not.
        shift_AK: u.
    """
    slope_AK = probs_AK * present_AK.abs() + (1 - probs_AK) * absent_AK.abs()
    return (slope_AK * shift_AK.abs()).sum(-1)


def binary_slopes(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Return l1' and l0' of the binary cross-entropy by the logit."""
    return probs - 1, probs


def focal_slopes(logits: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> tuple[Tensor, Tensor]:
    """Return l1' and l0' of the focal loss by the logit (Lin et al., ICCV 2017, Eq. 5)."""
    p = logits.sigmoid()
    log_p, log_q = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    present = alpha * (1 - p) ** gamma * (gamma * p * log_p - (1 - p))
    absent = (1 - alpha) * p**gamma * (p - gamma * (1 - p) * log_q)
    return present, absent
