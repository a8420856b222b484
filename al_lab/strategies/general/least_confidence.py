"""Least confidence: buy where even the most probable class is improbable."""

import torch
from torch import Tensor

from al_lab.acquisition.uncertainty import least_confidence
from al_lab.strategies.general._uncertainty import Uncertainty


class LeastConfidence(Uncertainty):
    """One minus the probability of the most probable answer.

    Lewis & Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994; "SCONF" of the segmentation
    papers:

        U = 1 - p_(1),    p_(1) the largest probability of a box or pixel

    softmax: over all classes with background. sigmoid: a box answers "its class" with s or "not its class" with 1 - s,
    so p_(1) = max(s, 1 - s) and a box of confidence 0.05 counts as sure. Over the boxes of an image: max | mean | sum.
    """

    def of_boxes(self, probs_DK: Tensor, confidence_D: Tensor, activation: str) -> Tensor:
        """Return 1 - p_(1) of every box, (D,)."""
        return torch.minimum(confidence_D, 1 - confidence_D) if activation == "sigmoid" else least_confidence(probs_DK)

    def of_pixels(self, probs_CHW: Tensor) -> Tensor:
        """Return 1 - p_(1) of every pixel, (H, W)."""
        return least_confidence(probs_CHW, dim=0)
