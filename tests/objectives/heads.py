"""Predictions as tests want them: a row of anchors, one a column, with given distributions."""

import torch
from torch import Tensor

from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector


class Row(AnchorDetector):
    """W anchors side by side; its flipped image reverses their order."""

    def __init__(self, num_classes: int, width: int, activation: str = "softmax") -> None:
        super().__init__(num_classes, (10, 10 * width), activation=activation)
        centers = (torch.arange(width) + 0.5) / width
        self.priors = torch.stack(
            [centers, torch.full((width,), 0.5), torch.full((width,), 0.1), torch.full((width,), 0.5)], 1
        )

    def head(self, probs: Tensor, deltas: Tensor | None = None, requires_grad: bool = False) -> HeadOutput:
        """Predictions (B, W, K) given as probabilities."""
        logits = (probs.log() if self.activation == "softmax" else probs.logit()).detach().requires_grad_(requires_grad)
        deltas = torch.zeros(*probs.shape[:2], 4) if deltas is None else deltas
        return HeadOutput(
            logits, deltas.detach().requires_grad_(requires_grad), (), self.priors, self.input_hw, (probs.shape[1],)
        )
