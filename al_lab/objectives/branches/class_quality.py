"""The ordinary detection loss, while the network keeps count of how well it detects each class (PPAL)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed

from al_lab.core.fields import below_one, check_fields, fraction, one_of
from al_lab.models.detectors.boxes import iou
from al_lab.models.detectors.branches.class_quality import MOMENTUM, ClassQualityBranch, Decay
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.supervised import Supervised, Targets, Terms

_EPS = 1e-5  # of the mean; PPAL's code


def box_quality(prob: Tensor, overlap: Tensor, power: float = 0.6) -> Tensor:
    """Return q = p^xi IoU^(1 - xi), in [0, 1]: PPAL (CVPR 2024), Eq. 1.

    Args:
        prob: of the true class.
        overlap: IoU of the predicted box with its object.
        power: xi.
    """
    return prob.pow(power) * overlap.pow(1 - power)


def mean_quality(sum_C: Tensor, count_C: Tensor) -> Tensor:
    """Return qbar_c = sum q / (n_c + 1e-5) over the boxes of all devices, (C,)."""
    both_2C = torch.stack([sum_C, count_C])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(both_2C)
    return both_2C[0] / (both_2C[1] + _EPS)


class ClassQuality(Supervised):
    """`Supervised`, and at every step the branch ``class_quality`` takes in how well each class was detected.

    Nothing is added to the loss and no gradient flows: a training ends with the weights it would have without.

        q = p_c^xi IoU^(1 - xi)                 of every positive anchor of an object of class c, with its decoded box
        qbar_c = sum q / (n_c + 1e-5)           over all positives of the global batch

    | symbol | argument | default | where |
    |---|---|---|---|
    | xi | power | 0.6 | PPAL Sec. 4.1 |
    | m_0 | momentum | 0.99 | PPAL Sec. 4.1 |
    | | decay | intended | Q of a class without any box: the paper's stays, the released code's decays |

    With a softmax head p_c is the softmax probability of the class; PPAL has sigmoid heads only.

    Args:
        power: xi.
        momentum: m_0.
        decay: intended | released.
        supervised: arguments of `Supervised`.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)

    def __init__(
        self,
        power: float = 0.6,
        momentum: float = MOMENTUM,
        decay: Decay = "intended",
        supervised: Mapping[str, Any] | None = None,
    ) -> None:
        check_fields(
            {"power": power, "momentum": momentum, "decay": decay},
            {"power": fraction, "momentum": below_one, "decay": one_of("intended", "released")},
            "objective",
        )
        super().__init__(**(supervised or {}))
        self.power, self.momentum, self.decay = power, momentum, decay

    def attach(self, network: Any) -> None:
        """See `Supervised.attach`.

        Raises:
            ConfigError: if the network has no branch ``class_quality``.
        """
        super().attach(network)
        self._branch(network).momentum.fill_(self.momentum)

    def of_head(self, network: AnchorDetector, head: HeadOutput, batch: Any) -> dict[str, Tensor]:
        """See `Supervised.of_head`."""
        self._seen: tuple[Tensor, Tensor] | None = None
        losses = super().of_head(network, head, batch)
        if network.training:
            branch = self._branch(network)
            sums = self._seen or (torch.zeros_like(branch.quality), torch.zeros_like(branch.quality))
            branch.update(mean_quality(*sums), self.decay, self.momentum)
        return losses

    def terms(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> Terms:
        """See `Supervised.terms`."""
        self._seen = self.qualities(network, head, targets)
        return super().terms(network, head, targets)

    @torch.no_grad()
    def qualities(self, network: AnchorDetector, head: HeadOutput, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return sum q and n of each class, (C,) float32, over the positives of this device."""
        column = targets.label + int(network.activation == "softmax")
        prob = network.probs(head.logits[targets.image, targets.anchor]).gather(1, column[:, None])[:, 0]
        anchors = head.priors[targets.anchor]
        boxes = network.code.decode(head.deltas[targets.image, targets.anchor], anchors)
        objects = network.code.decode(targets.deltas, anchors)
        overlap = iou(boxes[:, None], objects[:, None])[:, 0, 0]
        sums = torch.zeros(2, network.num_classes, device=prob.device)
        sums[0].index_add_(0, targets.label, box_quality(prob, overlap, self.power))
        sums[1].index_add_(0, targets.label, torch.ones_like(prob))
        return sums[0], sums[1]

    @staticmethod
    def _branch(network: Any) -> ClassQualityBranch:
        branch = network.branch("class_quality")
        assert isinstance(branch, ClassQualityBranch)
        return branch
