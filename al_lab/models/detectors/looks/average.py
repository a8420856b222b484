"""Several looks at a batch become one prediction: class distributions averaged before anything is suppressed.

Shapes: B images, P priors, K columns of a class distribution, N members.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from al_lab.acquisition.boxes.mutual_information import Looks, member_entropy
from al_lab.core.fields import at_least, check_fields
from al_lab.core.rng import Rng
from al_lab.core.types import Detections
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.looks.dropout import one_draw
from al_lab.models.detectors.network import AnchorDetector

#: names of `HeadOutput.extra`: (B, P, 1) of each prior, and (B, N) of each image
DISAGREEMENT, MEMBER_ENTROPY = "mutual_information", "member_entropy"


@dataclass(frozen=True)
class Passes:
    """View option ``passes``: a network with dropout looks several times.

    Attributes:
        count: T.
        as_released: see `Looks`.
        seed: pass t drops the same channels from every image, drawn from (seed, t).
    """

    count: int = 25
    as_released: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields({"count": self.count}, {"count": at_least(1)}, "strategy.passes")

    def look(self, network: AnchorDetector, plain: HeadOutput, images: Tensor) -> HeadOutput:
        """Return the average of the passes; features are those of the network without dropout, ``plain``."""
        averaged = average(network, self._heads(network, images), self.as_released)
        return averaged._replace(features=plain.features)

    def _heads(self, network: AnchorDetector, images: Tensor) -> Iterator[HeadOutput]:
        trunk = network.trunk(images)
        for number in range(self.count):
            with one_draw(network, Rng(self.seed, "pass", number)):
                yield network.onward(trunk, images).in_full()


@dataclass(frozen=True)
class Members:
    """View option ``members``: several networks with the same priors look once each.

    Attributes:
        as_released: see `Looks`.
    """

    as_released: bool = False

    def look(
        self,
        networks: Sequence[AnchorDetector],
        plain: HeadOutput,
        images: Tensor,
        valid_hw: Tensor,
        sizes_hw: Sequence[tuple[int, int]],
    ) -> HeadOutput:
        """Return the average of the members, with `MEMBER_ENTROPY` among its ``extra``; features are the first one's.

        Args:
            networks: the members.
            plain: what the first one says.
            images: (B, 3, h, w), normalized.
            valid_hw: (B, 2), see `Detector.look`.
            sizes_hw: of the original images.
        """
        heads = [plain, *(network.look(images, valid_hw) for network in networks[1:])]
        averaged = average(networks[0], heads, self.as_released)
        found = [n.detections(head, sizes_hw, valid_hw) for n, head in zip(networks, heads, strict=True)]
        return averaged._replace(extra={**averaged.extra, MEMBER_ENTROPY: _entropies(found)})


def average(network: AnchorDetector, heads: Iterable[HeadOutput], as_released: bool = False) -> HeadOutput:
    """Return one prediction whose class distributions and box offsets are the means of several.

    UNSPECIFIED: what becomes of the boxes; the mean of the offsets is ours. All else is the first one's.

    Args:
        network: says what logits mean.
        heads: of the same images and priors; at least one, made one by one.
        as_released: see `Looks`.

    Returns:
        A prediction with `DISAGREEMENT` among its ``extra``.
    """
    looks = Looks(network.activation, as_released)
    first: HeadOutput | None = None
    deltas: Tensor | None = None
    for head in heads:
        looks.add(network.probs(head.logits))
        first = head if first is None else first
        deltas = head.deltas.clone() if deltas is None else deltas.add_(head.deltas)
    if first is None or deltas is None:
        raise ValueError("average: expected at least one prediction, got none")
    return first._replace(
        logits=logits_of(looks.probs(), network.activation),
        deltas=deltas / looks.count,
        extra={**first.extra, DISAGREEMENT: looks.mutual_information()[..., None]},
    )


def logits_of(probs: Tensor, activation: str) -> Tensor:
    """Return finite logits (…, K) of which these are the class distributions, up to rounding."""
    log_p = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    if activation != "sigmoid":
        return log_p
    return log_p - (1 - probs).clamp_min(torch.finfo(probs.dtype).eps / 2).log()


def _entropies(found: Sequence[Sequence[Detections]]) -> Tensor:
    """Return (B, N) of N members' detections in B images."""
    by_member = [[member_entropy(torch.from_numpy(d.confidence)) for d in of_member] for of_member in found]
    return torch.tensor(by_member).T
