"""Evidential training (MEH): class probabilities without a background, and a head that predicts each anchor's loss.

Shapes: B images, P anchors, C classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.models.detectors.boxes import IGNORED
from al_lab.objectives.reduce import global_positives, num_processes
from al_lab.objectives.supervised import Targets, focal_negative

_EPS = 1e-9  # released code


def yes_no_logits(logits: Tensor) -> Tensor:
    """Return zhat = ln(p / (1 - p + 1e-9) + 1e-9), (…, C), of p = softmax over C foreground classes.

    The focal loss of C yes/no questions is taken of them. One class alone has p = 1 whatever its logit: a loss without
    a gradient.
    """
    p = logits.float().softmax(-1)
    return (p / (1 - p + _EPS) + _EPS).log()


def focal_anchor_losses(logits: Tensor, targets: Targets, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Return (B, P): the focal loss of each anchor, summed over its C yes/no questions; 0 of ignored anchors.

    Args:
        logits: (B, P, C), of yes/no questions.
        targets: what the anchors should predict.
        gamma: focusing parameter.
        alpha: weight of positives.
    """
    logits = logits.float()
    losses = focal_negative(logits, gamma, alpha).sum(-1).masked_fill(targets.assigned == IGNORED, 0.0)
    hit = logits[targets.image, targets.anchor, targets.label]
    positive = alpha * (1 - hit.sigmoid()).pow(gamma) * F.softplus(-hit) - focal_negative(hit, gamma, alpha)
    return losses.index_put((targets.image, targets.anchor), positive, accumulate=True)


def entropy_anchor_losses(logits: Tensor, targets: Targets) -> Tensor:
    """Return (B, P): the cross-entropy of each anchor, background included (column 0); 0 of ignored anchors."""
    log_p = logits.float().log_softmax(-1)
    column = torch.zeros_like(targets.assigned).index_put((targets.image, targets.anchor), targets.label + 1)
    losses = -log_p.gather(-1, column[..., None]).squeeze(-1)
    return losses.masked_fill(targets.assigned == IGNORED, 0.0)


def level_loss(
    loss_hat: Tensor, loss: Tensor, targets: Targets, level_sizes: Sequence[int], weight: float = 5.0
) -> Tensor:
    """Return RetinaNet's loss of MEH: sum over levels of 5 mean (w (Lhat - l))^2, w = 1 on positives, else 0.

    The mean is over all anchors of the level and of the global batch.

    Args:
        loss_hat: (B, P) predicted class losses.
        loss: (B, P) class losses, a fixed target.
        targets: for the positives.
        level_sizes: of the P anchors.
        weight: 5 in the released code.
    """
    squares = (loss_hat.float() - loss.detach()).square() * (targets.assigned >= 0)
    images = global_positives(torch.tensor(float(len(loss)), device=loss.device))
    return sum(weight * part.sum() / (part.shape[1] * images) for part in squares.split(list(level_sizes), 1))


def image_loss(loss_hat: Tensor, loss: Tensor, weight: float = 2.0) -> Tensor:
    """Return SSD's loss of MEH: sum over the global batch's images of 2 mean (Lhat - l)^2 over all anchors.

    Args:
        loss_hat: (B, P) predicted class losses.
        loss: (B, P) class losses, a fixed target.
        weight: 2 in the released code.
    """
    return weight * num_processes() * (loss_hat.float() - loss.detach()).square().mean(1).sum()
