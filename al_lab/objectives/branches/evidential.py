"""Evidential training (MEH): class probabilities without a background, and a head that predicts each anchor's loss.

Shapes: B images, P anchors, C classes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import IGNORED
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.reduce import global_positives, num_processes
from al_lab.objectives.supervised import Supervised, Targets, Terms, focal_negative, focal_terms

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


class Evidential(Supervised):
    """Trains class probabilities that evidence can be put behind, and the head that says how much there is (MEH).

    Park et al., "Active Learning for Object Detection with Evidential Deep Learning and Hierarchical Uncertainty
    Aggregation", ICLR 2023. With p = softmax(z) over the C foreground classes of an anchor, l its class loss:

        zhat_c  = ln(p_c / (1 - p_c + 1e-9) + 1e-9)
        l       = sum_c focal(zhat_c)                      RetinaNet; SSD: cross-entropy, background included
        L_MEH   = sum_levels 5 mean_anchors (w (Lhat - l))^2    RetinaNet, w = 1 on positives, else 0
        L_MEH   = sum_images 2 mean_anchors (Lhat - l)^2        SSD
        L       = L_class + L_box + L_MEH

    l is a fixed target there, and Lhat reads features that it does not change, so the detector learns as without it.
    The head's learning rate never drops (`EvidenceBranch`). Its own optimizer in the released code (SGD, 1e-3, momentum
    .9, decay 1e-4) is the detector's here, with a bound on gradients (``trainer.grad_clip``) of its own.

    One class alone can't be trained without background: p is 1 whatever z is.

    Args:
        negative_ratio: MultiBox's mined negatives per positive (softmax heads).
        gamma: the focal loss's (heads without background).
        alpha: the same.
        box_loss: ``smooth_l1``, ``l1``, or ``auto``: smooth L1 with MultiBox and L1 with focal.
        beta: where smooth L1 turns linear.
        box_weight: weight of the box loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)

    def __init__(
        self,
        negative_ratio: float = 3.0,
        gamma: float = 2.0,
        alpha: float = 0.25,
        box_loss: Literal["auto", "smooth_l1", "l1"] = "auto",
        beta: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__("auto", negative_ratio, gamma, alpha, box_loss, beta, box_weight)

    def attach(self, network: Any) -> None:
        """Refuse a network without the branch, and a single class where background is none.

        Raises:
            ConfigError: saying what to set.
        """
        super().attach(network)
        network.branch("evidence")
        if network.activation == "softmax_fg" and network.num_classes < 2:  # noqa: PLR2004 - of one class there is no choice
            raise ConfigError(
                explain(
                    expected="two classes or more, for a head that chooses among them without background",
                    got="one: its probability is 1 whatever the head says, and nothing is learned",
                    where="objective",
                    do="choose a detector whose classes have background beside them, such as detector=squeeze or "
                    "ssd300_voc, or another strategy=…",
                )
            )

    def terms(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> Terms:
        """See `Supervised.terms`."""
        if network.activation == "softmax":
            return super().terms(network, head, targets)
        kind = "l1" if self.box_loss == "auto" else self.box_loss
        asked = yes_no_logits(head.logits)
        return focal_terms(asked, head.deltas, targets, self.gamma, self.alpha, kind, self.beta)

    def beside(self, network: AnchorDetector, head: HeadOutput, targets: Targets, terms: Terms) -> dict[str, Tensor]:
        """Return the loss of the predicted losses."""
        loss_hat = head.extra["loss_hat"].squeeze(-1)
        with torch.no_grad():
            if network.activation == "softmax":
                loss = entropy_anchor_losses(head.logits, targets)
            else:
                loss = focal_anchor_losses(yes_no_logits(head.logits), targets, self.gamma, self.alpha)
        if network.activation == "softmax":
            return {"loss_evidence": image_loss(loss_hat, loss)}
        return {"loss_evidence": level_loss(loss_hat, loss, targets, head.level_sizes)}
