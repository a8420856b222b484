"""What a mixture of K components says of a number: its mean, and how unsure it is; how such numbers of a pool compare.

PM: Choi et al., "Active Learning for Deep Object Detection via Probabilistic Modeling", ICCV 2021. Components are on
the last axis; weights sum to 1 there.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

#: Utility of an image in which nothing was found; released code.
NOTHING = -99999.0
_ROUNDING = 1e-12  # of a mean of equal numbers


def log_mixed(weight: Tensor, logits: Tensor) -> Tensor:
    """Return ln sum_k pi_k softmax(mu_k), (…, Q): the mixed class distribution, which its softmax is, too.

    Args:
        weight: pi, (…, K).
        logits: mu, (…, K, Q).
    """
    return (weight.log()[..., None] + logits.log_softmax(-1)).logsumexp(-2)


class MixtureUncertainty(NamedTuple):
    """Of what varies in the data (``aleatoric``), and of what the model does not know (``epistemic``)."""

    aleatoric: Tensor
    epistemic: Tensor


def mixed(weight: Tensor, values: Tensor) -> Tensor:
    """Return sum_k pi_k x_k, (…)."""
    return (weight * values).sum(-1)


def mixture_uncertainty(weight: Tensor, mean: Tensor, variance: Tensor) -> MixtureUncertainty:
    """Return sum_k pi_k v_k and sum_k pi_k (mu_k - sum_j pi_j mu_j)^2, each (…).

    Args:
        weight: pi, (…, K).
        mean: mu, (…, K): coordinates, or probabilities of a class.
        variance: v, (…, K).
    """
    spread = mean - mixed(weight, mean)[..., None]
    return MixtureUncertainty(mixed(weight, variance), mixed(weight, spread.square()))


class Moments(NamedTuple):
    """Of the values of an image's detections: number, mean, sum of squared deviations from it, and the largest.

    Attributes:
        num: (…) number of detections.
        mean, m2, largest: (…, V) of each of V kinds of values; 0 without detections.
    """

    num: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, values_DV: np.ndarray) -> "Moments":
        """Return those of one image's detections, in float64."""
        values_DV = np.asarray(values_DV, np.float64)
        num, kinds = values_DV.shape
        if not num:
            return cls(np.asarray(0), *np.zeros((3, kinds)))
        mean = values_DV.mean(0)
        return cls(np.asarray(num), mean, ((values_DV - mean) ** 2).sum(0), values_DV.max(0))

    def z_scores(self) -> np.ndarray:
        """Return (M,): how far the largest value of each image's most striking kind is from the pool's mean.

            z_IV = (largest_IV - mean_V) / std_V;   image I has max_V z_IV;   `NOTHING` without detections

        Mean and deviation are the population's, over the detections of all images; where all are equal z is 0. The
        deviation comes from each image's own, so that nothing cancels.
        """
        num_M1 = self.num.astype(np.float64)[:, None]
        total = num_M1.sum()
        if not total:
            return np.full(len(self.num), NOTHING)
        mean_V = (num_M1 * self.mean).sum(0) / total
        std_V = np.sqrt((self.m2 + num_M1 * (self.mean - mean_V) ** 2).sum(0) / total)
        is_equal = std_V <= _ROUNDING * np.abs(mean_V)
        z_MV = np.where(is_equal, 0.0, (self.largest - mean_V) / np.where(is_equal, 1.0, std_V))
        return np.where(self.num > 0, z_MV.max(1), NOTHING)
