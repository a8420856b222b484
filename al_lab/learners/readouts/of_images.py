"""Numbers of whole images, of all their anchors or of a branch; what pads an input is none of its image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.boxes.disagreement import mean_of_largest, mean_square_gap
from al_lab.acquisition.diversity.mixtures import class_mixtures, mixture
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.branches.class_quality import ClassQualityBranch
from al_lab.models.detectors.settings import Activation


def predicted_loss(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``predicted_loss`` () float32 of each image, see `LearningLossBranch`."""
    return [{"predicted_loss": value} for value in look.head.extra["predicted_loss"][:, 0].float().cpu().numpy()]


def class_difficulty(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``class_difficulty`` (C,) float32, d = 1 - Q, the same of each image, see `ClassQualityBranch`."""
    branch = look.network.branch("class_quality")
    assert isinstance(branch, ClassQualityBranch)
    difficulty = (1 - branch.quality).float().cpu().numpy()
    return [{"class_difficulty": difficulty} for _ in look.sizes_hw]


_SIGMOID_FLOOR = 0.05  # anchors of a sigmoid head below it have no class at all; RetinaNet's own threshold


def prior_mixture(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``prior_mixture`` of each image: what its anchors' class distributions are on average, see `mixture`.

    A distribution is the softmax of an anchor's foreground logits, background left out; of a sigmoid head p / sum p.

    Args:
        look: the batch.
        options: ``min_confidence``: anchors count whose likeliest class is above it; null: all of a softmax head, those
            above .05 of a sigmoid one. ``by_class``: one mixture for each class.

    Returns:
        (C,) float32, or (C, C).
    """
    network, floor = look.network, options.get("min_confidence")
    floor = _SIGMOID_FLOOR if floor is None and network.activation == "sigmoid" else floor
    mix = class_mixtures if options.get("by_class") else mixture
    found = []
    for logits_PK, inside_P in zip(look.head.logits, look.inside(), strict=True):
        if inside_P is not None:
            logits_PK = logits_PK[inside_P]
        if floor is not None:
            first = int(network.activation == "softmax")
            logits_PK = logits_PK[network.probs(logits_PK)[:, first:].amax(1) > floor]
        found.append({"prior_mixture": mix(_foreground(logits_PK, network.activation)).cpu().numpy()})
    return found


def _foreground(logits_PK: Tensor, activation: Activation) -> Tensor:
    """Return (P, C) float32, distributions over the foreground classes."""
    if activation == "sigmoid":
        p_PC = logits_PK.float().sigmoid()
        return p_PC / p_PC.sum(1, keepdim=True)
    return logits_PK[:, int(activation == "softmax") :].float().softmax(1)


def head_disagreement(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``head_disagreement`` () float32 of each image: the mean square gap of two heads where it is largest.

    Options: ``top``, of how many anchors (10,000); ``space``, sigmoid of the logits, every column (the default), or
    softmax.
    """
    both = look.head.logits, look.head.extra["logits2"]
    is_softmax = options.get("space", "sigmoid") == "softmax"
    p, q = (z.softmax(-1) if is_softmax else z.sigmoid() for z in both)
    gaps_BP, top = mean_square_gap(p, q), int(options.get("top", 10_000))
    values = [
        mean_of_largest(gaps_P[None] if inside_P is None else gaps_P[None, inside_P], top)
        for gaps_P, inside_P in zip(gaps_BP, look.inside(), strict=True)
    ]
    return [{"head_disagreement": value} for value in torch.cat(values).cpu().numpy()]
