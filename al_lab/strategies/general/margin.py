"""Margin: buy where the two most probable classes are nearly as probable."""

from torch import Tensor

from al_lab.acquisition.uncertainty import margin
from al_lab.strategies.general._uncertainty import Uncertainty


class Margin(Uncertainty):
    """Best versus second best.

    Scheffer et al., "Active Hidden Markov Models for Information Extraction", IDA 2001. With p_(1) >= p_(2) the two
    largest probabilities of a box or pixel:

        U = 1 - (p_(1) - p_(2))

    in [0, 1]; 1 on a decision boundary. On pixels it ranks like I of Density Matters' candidate filter. softmax: over
    all classes with background. sigmoid: the answers are "its class" and "not its class", so p_(1) - p_(2) = |2 s - 1|.
    Over the boxes of an image: max | mean | sum; 0 for an image without boxes.
    """

    def of_boxes(self, probs_DK: Tensor, confidence_D: Tensor, activation: str) -> Tensor:
        """Return 1 - gap of every box, (D,)."""
        return 1 - (2 * confidence_D - 1).abs() if activation == "sigmoid" else 1 - margin(probs_DK)

    def of_pixels(self, probs_CHW: Tensor) -> Tensor:
        """Return 1 - gap of every pixel, (H, W)."""
        return 1 - margin(probs_CHW, dim=0)
