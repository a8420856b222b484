"""How far several looks at one image disagree: passes of a network with dropout, or the members of an ensemble.

Shapes: T looks, N priors (scored places), K columns of a class distribution, D detections.
"""

import torch
from torch import Tensor

from al_lab.acquisition.uncertainty import binary_entropy, entropy


class Looks:
    """Running sums over looks, so that T maps of all priors never lie beside each other.

    With p_t the class distribution of a prior in look t (Houlsby et al., 2011; Gal et al., ICML 2017):

        p = 1/T sum_t p_t
        MI = H(p) - 1/T sum_t H(p_t),  in nats, >= 0; 0 where all looks agree

    softmax: H(p) = -sum_c p_c ln p_c, background included.  sigmoid: H(p) = sum_c Hb(p_c), C independent questions (no
    source: the papers have softmax heads).

    Args:
        activation: softmax | sigmoid, of the distributions that are added.
        as_released: sigmoid has H(p) = -sum_c p_c ln p_c alone, as in AOD_MEH_HUA's code (380df3d); softmax is the
            same.
    """

    def __init__(self, activation: str, as_released: bool = False) -> None:
        self.activation, self.as_released = activation, as_released
        self.count = 0
        self._probs: Tensor | None = None
        self._entropy: Tensor | None = None

    def add(self, probs: Tensor) -> None:
        """Add the class distributions of one look, (…, N, K)."""
        h = self._of(probs)
        self._probs = probs.clone() if self._probs is None else self._probs.add_(probs)
        self._entropy = h if self._entropy is None else self._entropy.add_(h)
        self.count += 1

    def probs(self) -> Tensor:
        """Return the mean distribution p, (…, N, K).

        Raises:
            ValueError: if nothing was added.
        """
        return self._sums()[0] / self.count

    def mutual_information(self) -> Tensor:
        """Return MI, (…, N); rounding never makes it negative.

        Raises:
            ValueError: if nothing was added.
        """
        return (self._of(self.probs()) - self._sums()[1] / self.count).clamp_min(0)

    def _of(self, probs: Tensor) -> Tensor:
        if self.activation == "sigmoid" and not self.as_released:
            return binary_entropy(probs).sum(-1)
        return entropy(probs)

    def _sums(self) -> tuple[Tensor, Tensor]:
        if self._probs is None or self._entropy is None:
            raise ValueError("Looks: expected at least one look, got none; call add() first")
        return self._probs, self._entropy


def mean_over_levels(values_D: Tensor, level_D: Tensor) -> float:
    """Return the mean over an image's detections level by level, then over the levels that have any.

    AOD_MEH_HUA (380df3d) averages over anchors, then over levels; levels without a detection are left out here. 0 for
    an image without detections.

    Args:
        values_D: one number a detection.
        level_D: its feature level, int.
    """
    if len(values_D) == 0:
        return 0.0
    levels, row = level_D.unique(return_inverse=True)
    sums = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, row, values_D.double())
    return float((sums / torch.bincount(row)).mean())


def member_entropy(confidence_D: Tensor) -> float:
    """Return how unsure one member is of an image: the mean of Hb(s) over its own detections, nats; 0 without any.

    BLAD (76e7bd6): an image's utility is the mean of this over the members.

    Args:
        confidence_D: s of each detection.
    """
    return float(binary_entropy(confidence_D.double()).mean()) if len(confidence_D) else 0.0
