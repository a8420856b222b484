"""Entropy: buy the images (or pixels) whose class distributions are flattest."""

from typing import Literal

from torch import Tensor

from al_lab.acquisition.uncertainty import binary_entropy, entropy
from al_lab.core.fields import one_of
from al_lab.strategies.general._uncertainty import Uncertainty


class Entropy(Uncertainty):
    """Shannon entropy of what the model believes; natural logarithm.

    Shannon (1948); as a detection baseline: Elezi et al., "Not All Labels Are Equal", CVPR 2022, Eq. 4 (max over
    boxes); Liang et al., MGRAL, Fig. 4 (mean and sum besides). For every box kept by non-maximum suppression with
    confidence >= theta:

        softmax   H_i = -sum_c p_ic ln p_ic         over all classes with background
        sigmoid   H_i = Hb(s_i)                     s_i the confidence,  Hb(s) = -s ln s - (1 - s) ln(1 - s)
              or  H_i = sum_c Hb(p_ic)

    and U(I) = max_i H_i, mean_i H_i or sum_i H_i; 0 for an image without boxes. Mean favors blurred images, sum crowded
    ones. For dense prediction every pixel has its own H; bought by image, U(I) is the mean over pixels, by region that
    over the square.

    | symbol | argument | default | where |
    |---|---|---|---|
    | aggregation | aggregate | max | AL-SSL Eq. 4; MGRAL does not say, ours is sum on COCO |
    | theta | min_confidence | 0.5 | AL-SSL's code |

    Deviations: AL-SSL's code divides by ln(C + 1), which changes no ranking, so we don't.

    Args:
        aggregate: max | mean | sum over the boxes of an image.
        min_confidence: theta.
        radius_px: see `Uncertainty`.
        sigmoid: entropy of a sigmoid detector's box: ``confidence`` (of its own class) or ``classes`` (summed over
            all).
        ties: hash | id.
    """

    def __init__(
        self,
        aggregate: str = "max",
        min_confidence: float = 0.5,
        radius_px: int = 1,
        sigmoid: Literal["confidence", "classes"] = "confidence",
        ties: Literal["hash", "id"] = "hash",
    ) -> None:
        super().__init__(aggregate, min_confidence, radius_px, ties)
        one_of("confidence", "classes")(sigmoid, "strategy.sigmoid")
        self.sigmoid = sigmoid

    def of_boxes(self, probs_DK: Tensor, confidence_D: Tensor, activation: str) -> Tensor:
        """Return H_i, (D,), in nats."""
        if activation != "sigmoid":
            return entropy(probs_DK)
        return binary_entropy(confidence_D) if self.sigmoid == "confidence" else binary_entropy(probs_DK).sum(-1)

    def of_pixels(self, probs_CHW: Tensor) -> Tensor:
        """Return H of every pixel, (H, W), in nats."""
        return entropy(probs_CHW, dim=0)
