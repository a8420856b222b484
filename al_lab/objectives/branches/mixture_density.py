"""Mixture densities (PM): losses of class logits and box deltas that are mixtures of K components with variances.

Shapes: B images, P anchors, N positives, K components, Q columns of the class distribution (column 0 background).
"""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from al_lab.core.fields import check_fields, one_of
from al_lab.models.detectors.branches.mixture import Mixture, MixtureBranch
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.supervised import Supervised, Targets, Terms, hardest, per_image

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


class MixtureDensity(Supervised):
    """Trains mixtures of K components: of class logits and of box deltas.

    Choi et al., "Active Learning for Deep Object Detection via Probabilistic Modeling", ICCV 2021. Of an anchor and its
    target, class y and deltas t:

        type 1     l = sum_k pi_k CE(softmax(mu_k + sqrt(v_k) eps), y),  eps ~ N(0, 1)
        type 2     l = -ln sum_k pi_k softmax(mu_k)_y
        box        b = sum over 4 coordinates of -1/2 ln(sum_k pi_k g_k(t) + 1e-9)        `box_losses`
        L = (sum over positives and mined negatives of l + sum over positives of b) / N

    as MultiBox has it: three negatives a positive, the hardest under the same draw of eps, N the batch's positives.

    Args:
        class_loss: ``type1`` | ``type2``.
        negative_ratio: mined negatives per positive.
        box_weight: weight of the box loss.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)

    def __init__(
        self, class_loss: Literal["type1", "type2"] = "type1", negative_ratio: float = 3.0, box_weight: float = 1.0
    ) -> None:
        given = dict(locals())
        super().__init__(negative_ratio=negative_ratio, box_weight=box_weight)
        check_fields(given, {"class_loss": one_of("type1", "type2")}, "objective")
        self.class_loss = class_loss

    def attach(self, network: Any) -> None:
        """Refuse a network without the branch.

        Raises:
            ConfigError: saying what to set.
        """
        super().attach(network)
        network.branch("mixture")

    def terms(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> Terms:
        """See `Supervised.terms`."""
        branch = network.branch("mixture")
        assert isinstance(branch, MixtureBranch)
        losses_BPQ = self._class_losses(head, branch.read(head.extra))
        image, anchor = hardest(losses_BPQ[..., 0], targets, self.negative_ratio)
        at = branch.read(head.extra, (targets.image, targets.anchor))
        boxes_N = box_losses(at.box_weight, at.box_mean, at.box_variance, targets.deltas).sum(-1)
        num = len(head.logits)
        return Terms(
            per_image(losses_BPQ[targets.image, targets.anchor, targets.label + 1], targets.image, num),
            per_image(losses_BPQ[image, anchor, 0], image, num),
            per_image(boxes_N, targets.image, num),
            targets.num_positives,
        )

    def _class_losses(self, head: HeadOutput, mixture: Mixture) -> Tensor:
        if self.class_loss == "type2":
            return -head.logits.float()  # the branch gives the logarithm of the mixed probabilities
        noise = torch.randn_like(mixture.class_mean)
        return noisy_class_losses(mixture.class_weight, mixture.class_mean, mixture.class_variance, noise)
