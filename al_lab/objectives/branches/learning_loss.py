"""LL4AL's training: the detector's loss, and a module that learns to rank images by it."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import check_fields, not_negative, positive, share
from al_lab.models.detectors.branches.learning_loss import LearningLossBranch
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.supervised import Supervised, Targets, Terms

_PAIR = 2
_ROUNDING = 1e-6


def ranking_loss(predicted_B: Tensor, loss_B: Tensor, margin: float = 1.0) -> Tensor:
    """Return the mean hinge over the pairs (i, B - 1 - i), i < B // 2; the middle one of an odd batch has no partner.

        rho_i = +1 if l_i > l_j else -1,   mean_i max(0, xi - rho_i (lhat_i - lhat_j))           Eq. 2

    Args:
        predicted_B: lhat, of each image.
        loss_B: l, a fixed target.
        margin: xi.
    """
    predicted, loss, num = predicted_B.float(), loss_B.detach().float(), len(predicted_B) // _PAIR
    order = torch.where(loss[:num] > loss.flip(0)[:num], 1.0, -1.0)
    return (margin - order * (predicted[:num] - predicted.flip(0)[:num])).clamp(min=0).mean()


def loss_of_images(terms: Terms, box_weight: float = 1.0) -> Tensor:
    """Return l, (B,): class and box loss of each image over its own positives, at least one."""
    sums = terms.class_positive + terms.class_negative + box_weight * terms.box
    return sums.detach() / terms.num_positives.clamp(min=1)


class LearningLoss(Supervised):
    """The ordinary loss, and a module that learns which of two images has more of it.

    Yoo & Kweon, "Learning Loss for Active Learning", CVPR 2019. With lhat_i what the module (`LearningLossBranch`) says
    of image i, l_i its own loss, divided by its own positives, and pairs of images of a batch of B:

        L = L_det + lambda 2/B sum_pairs max(0, xi - rho (lhat_i - lhat_j)),   rho = sign(l_i - l_j)        Eq. 1-3

    | symbol | argument | default | where |
    |---|---|---|---|
    | lambda | weight | 1 | Sec. 4 |
    | xi | margin | 1 | Sec. 3.3 |
    | | detach_from | 0.8 | Sec. 4: after 240 of 300 epochs the module's gradient stays in the module |

    The public re-implementations test ``epoch > 240`` counting from 0, which is 241 / 300. Equal losses count as -1, as
    there. The module is new in each training, as the detector is; its parameters are in the same optimizer.

    Deviations: image i is paired with i + B/2, so that several devices find the same pairs; images lie in random order,
    so it is the papers' draw. With an odd number on a device the last image has no partner.

    Args:
        weight: of the ranking.
        margin: of the hinge.
        detach_from: share of the training from which on the module's gradient does not reach the detector.
        supervised: arguments of `Supervised`.
    """

    needs: ClassVar[tuple[str, ...]] = ("anchors",)
    least_on_device: ClassVar[int] = 2  # labeled images of a step; read by the check of a configuration

    def __init__(
        self,
        weight: float = 1.0,
        margin: float = 1.0,
        detach_from: float = 0.8,
        supervised: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(**(supervised or {}))
        check_fields(locals(), {"weight": not_negative, "margin": positive, "detach_from": share}, "objective")
        self.weight, self.margin, self.detach_from = float(weight), float(margin), float(detach_from)

    def attach(self, network: Any) -> None:
        """Refuse a network without the module.

        Raises:
            ConfigError: saying what to set.
        """
        super().attach(network)
        network.branch("learning_loss")

    def forward(self, network: AnchorDetector, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for one `Batch`."""
        module = network.branch("learning_loss")
        assert isinstance(module, LearningLossBranch)
        module.is_detached = step >= int(self.detach_from * total_steps + _ROUNDING)
        return super().forward(network, batch, step, total_steps)

    def beside(self, network: AnchorDetector, head: HeadOutput, targets: Targets, terms: Terms) -> dict[str, Tensor]:
        """See `Supervised.beside`: the ranking, with its weight."""
        predicted, loss = head.extra["predicted_loss"][:, 0], loss_of_images(terms, self.box_weight)
        num = len(loss) // _PAIR
        if not num:
            raise ConfigError(
                explain(
                    expected="two labeled images or more a device and step, to be ranked",
                    got=str(len(loss)),
                    where="trainer.batch_size",
                    do="raise it",
                )
            )
        predicted, loss = (torch.cat([v[:num], v[num : 2 * num].flip(0)]) for v in (predicted, loss))
        return {"loss_ranking": self.weight * ranking_loss(predicted, loss, self.margin)}
