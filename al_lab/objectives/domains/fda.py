"""Fourier domain adaptation: source images in the target's style, and a target of small entropy; a cheap control."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from al_lab.core.fields import check_fields, not_negative, number_in, positive
from al_lab.data.device import constant
from al_lab.models.segmenters.segmenter import SegmenterNetwork
from al_lab.objectives.adapt import CROSS_ENTROPIES, Adaptation, Seen
from al_lab.objectives.domains.fourier import in_style, robust_entropy
from al_lab.objectives.reduce import global_positives


class FDA(Adaptation):
    """What `Adaptation` minimizes, with the source's images in the style of the step's target images.

    Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020 (arXiv 2004.05498); constants
    from the released commands.

        L = L_adaptation(in_style(x_s, x_t), y_s; x_t, bought labels) + entropy mean (h(x_t)^2 + 1e-8)^eta

    Source image k takes the style of the target image at the same part of the batch. h is the entropy of the network's
    logits at their own resolution, divided by ln C.

    | symbol | argument | default | where |
    |---|---|---|---|
    | beta | beta | 0.01 | released command; the paper also trains .05 and .09 |
    | lambda_ent | entropy | 0.005 | released command |
    | eta | eta | 2 | released command |

    Deviations: one beta, so no mean over three networks and no further training on its pseudo-labels, which the
    published 50.5 (GTAV) has; the window, see `in_style`; a target of another size is brought to the source's, where
    the released code crops the source to the target's.

    Args:
        beta: side of the window of frequencies, in [0, 0.5]; 0: images as they are.
        entropy: weight, >= 0; 0: not computed.
        eta: > 0.
        adaptation: arguments of `Adaptation`; None: cross-entropies of source and bought pixels alone.

    Raises:
        ConfigError: for a value out of range.
    """

    needs_both_domains: ClassVar[bool] = True
    target_terms: ClassVar[tuple[str, ...]] = (*Adaptation.target_terms, "entropy")

    def __init__(
        self, beta: float = 0.01, entropy: float = 0.005, eta: float = 2.0, adaptation: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(**cast(dict[str, Any], CROSS_ENTROPIES | dict(adaptation or {})))
        kinds = {"beta": number_in(0, 0.5), "entropy": not_negative, "eta": positive}
        check_fields(locals(), kinds, "objective")
        self.beta, self.eta = float(beta), float(eta)
        self.weights["entropy"] = float(entropy)

    @property
    def uses_unlabeled(self) -> bool:
        """Every target image has a style."""
        return True

    def forward(self, network: SegmenterNetwork, batch: Any, step: int, total_steps: int) -> dict[str, Tensor]:
        """See `Adaptation`."""
        return super().forward(network, self.styled(network, batch), step, total_steps)

    @torch.no_grad()
    def styled(self, network: SegmenterNetwork, batch: Any) -> Any:
        """Return the batch with its source images in the style of its target images."""
        source, target = batch.source_images, batch.target_images
        if self.beta == 0:
            return batch
        partner = torch.arange(len(source), device=source.device) * len(target) // len(source)
        with torch.autocast(source.device.type, enabled=False):
            mean, std = (constant(tuple(v), source)[:, None, None] for v in (network.mean, network.std))
            own, theirs = (images.float() * std + mean for images in (source, target[partner]))
            return replace(batch, source_images=((in_style(own, theirs, self.beta) - mean) / std).to(source.dtype))

    def more_terms(self, network: SegmenterNetwork, source: Seen | None, target: Seen | None) -> dict[str, Tensor]:
        """Return the target's entropy."""
        if target is None or not self.weights["entropy"]:
            return {}
        penalty = robust_entropy(target.output.logits, self.eta)
        return {"entropy": penalty.sum() / global_positives(torch.full((), penalty.numel(), device=penalty.device))}
