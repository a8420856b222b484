"""Adversarial adaptation of outputs (AdaptSeg): where rivals of active domain adaptation start from."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, below_one, check_fields, list_of, not_negative, positive
from al_lab.models.segmenters.segmenter import SegmenterNetwork
from al_lab.objectives.adapt import CROSS_ENTROPIES, Adaptation, Seen
from al_lab.objectives.reduce import global_positives

_STRIDE_PX = 32  # of the discriminator: smaller images leave it nothing to see
_SOURCE, _TARGET = 0.0, 1.0


class Adversary(NamedTuple):
    """Parameters that another optimizer trains, Adam, within the same step.

    Attributes:
        params: of the second network.
        lr_factor: on the recipe's rate, with its schedule.
        betas: Adam's.
    """

    params: list[nn.Parameter]
    lr_factor: float
    betas: tuple[float, float]


class Discriminator(nn.Sequential):
    """Maps of class probabilities (B, C, H, W) -> logits (B, 1, H / 32, W / 32): is this place of the target?

    Five 4 x 4 convolutions of stride 2, leaky ReLU of slope 0.2 between them.

    Args:
        num_classes: C.
        channels: of the first; each next one but the last has twice as many.
    """

    def __init__(self, num_classes: int, channels: int = 64) -> None:
        widths = [num_classes, *(channels * 2**k for k in range(4))]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 2, 1))


class Adversarial(Adaptation):
    """What `Adaptation` minimizes, while target predictions should look to a discriminator like the source's.

    Tsai et al., "Learning to Adapt Structured Output Space for Semantic Segmentation" (AdaptSeg), CVPR 2018
    (arXiv 1802.10349), on the last output alone; constants as D2ADA's released warm-up. With P the probabilities at
    image size, D the discriminator, source 0 and target 1, both at once and each with its own optimizer

        L_network = L_adaptation + adversarial BCE(D(P(x_t)), 0)                           D stays as it is
        L_D       = (BCE(D(P(x_s)), 0) + BCE(D(P(x_t)), 1)) / 2                            P stays as it is

    | symbol | argument | default | where |
    |---|---|---|---|
    | lambda_adv | adversarial | 0.0005 | D2ADA's code; AdaptSeg: 0.001 |
    | rate of D, as a factor on the recipe's | discriminator_lr | 1 | D2ADA's code: 2.5e-4 of both |
    | Adam's betas of D | betas | 0.9, 0.99 | both |
    | channels of D's first layer | channels | 64 | both |

    Deviations: no second discriminator on an inner output.

    Args:
        adversarial, discriminator_lr, betas, channels: see above.
        adaptation: arguments of `Adaptation`; None: cross-entropies of source and bought pixels alone.

    Raises:
        ConfigError: for a value out of range, or images of less than 32 pixels a side.
    """

    needs_both_domains: ClassVar[bool] = True
    source_terms: ClassVar[tuple[str, ...]] = (*Adaptation.source_terms, "discriminator")
    target_terms: ClassVar[tuple[str, ...]] = (*Adaptation.target_terms, "adversarial", "discriminator")
    discriminator: Discriminator | None

    def __init__(
        self,
        adversarial: float = 0.0005,
        discriminator_lr: float = 1.0,
        betas: Sequence[float] = (0.9, 0.99),
        channels: int = 64,
        adaptation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(**cast(dict[str, Any], CROSS_ENTROPIES | dict(adaptation or {})))
        kinds: dict[str, Any] = {"adversarial": not_negative, "discriminator_lr": positive, "channels": at_least(1)}
        check_fields(locals(), kinds, "objective")
        first, second = list_of(below_one, length=2)(list(betas), "objective.betas", do="Adam's, e.g. [0.9,0.99]")
        self.weights |= {"adversarial": float(adversarial), "discriminator": 1.0}
        self.discriminator_lr, self.betas, self.channels = float(discriminator_lr), (first, second), int(channels)
        self.register_module("discriminator", None)

    @property
    def uses_unlabeled(self) -> bool:
        """Every target image is shown to the discriminator."""
        return True

    def attach(self, network: SegmenterNetwork) -> None:
        """Build the discriminator; learners call this before a checkpoint is read."""
        super().attach(network)
        self.discriminator = Discriminator(network.num_classes, self.channels)

    def adversary(self) -> Adversary:
        """Return what the second optimizer trains."""
        assert self.discriminator is not None  # attached
        return Adversary(list(self.discriminator.parameters()), self.discriminator_lr, self.betas)

    def more_terms(self, network: SegmenterNetwork, source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
        """Return both players' losses; no gradient of either reaches the other's weights."""
        if source is None or target is None or self.discriminator is None:
            return {}
        of_source, of_target = (self._probs(seen) for seen in (source, target))
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, fixed, (of_target,))
        told = [
            _entropy(self.discriminator(probs.detach()), label)
            for probs, label in ((of_source, _SOURCE), (of_target, _TARGET))
        ]
        return {"adversarial": _entropy(fooled, _SOURCE), "discriminator": (told[0] + told[1]) / 2}

    @staticmethod
    def _probs(seen: Seen) -> Tensor:
        if min(seen.logits.shape[2:]) < _STRIDE_PX:
            raise ConfigError(
                explain(
                    expected=f"images of at least {_STRIDE_PX} pixels a side",
                    got=f"{seen.logits.shape[2]} x {seen.logits.shape[3]}",
                    where="objective, Adversarial",
                    do="set larger sizes in dataset.source_hw and dataset.target_hw",
                )
            )
        return seen.logits.softmax(1)


def _entropy(logits: Tensor, label: float) -> Tensor:
    """Return the mean binary cross-entropy with one label, over the places of all devices' images."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, label).float(), reduction="sum")
    return loss / global_positives(torch.full((), logits.numel(), device=logits.device))
