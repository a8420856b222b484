"""Comparing an image's predictions with those of its flipped image (or of a mixture), anchor by anchor.

Shapes: B images, P anchors, K logits, S selected anchors of the whole batch. Nothing here copies a (B, P, K) tensor:
the anchors that count are chosen first and only their rows enter the graph.
"""

from typing import Literal

import torch
from torch import Tensor

from al_lab.acquisition.divergence import distribution, jensen_shannon, symmetric_kl
from al_lab.models.detectors.network import AnchorDetector
from al_lab.objectives.reduce import global_positives

EPS = 1e-7  # added to every probability before its logarithm (CSD's, ISD's and AL-SSL's code)
Distance = Literal["symkl", "js"]
BoxResidual = Literal["legacy", "geom_corrected"]


def foreground(logits: Tensor, activation: str) -> Tensor:
    """Background elimination: (B, P) bool, anchors that are more likely some class than none.

    softmax: max_{c >= 1} p_c > p_0.  sigmoid has no background class; its anchors are taken when the likeliest class is
    more likely there than not, max_c p_c > 1/2.  Equal is not enough in both.
    """
    with torch.no_grad():
        return logits[..., 1:].amax(-1) > logits[..., 0] if activation == "softmax" else logits.amax(-1) > 0


def rows_of(network: AnchorDetector, logits: Tensor, image: Tensor, anchor: Tensor) -> Tensor:
    """Return the class distributions (S, K) of some anchors."""
    return distribution(network.probs(logits[image, anchor]), network.activation)


def class_distance(p: Tensor, q: Tensor, kind: Distance, detach: bool) -> Tensor:
    """Return the distance of two predictions, (S,).

    That is J with detached targets (``symkl``), or the Jensen-Shannon divergence with its own gradient (``js``).
    """
    return symmetric_kl(p, q, EPS, detach) if kind == "symkl" else jensen_shannon(p, q, EPS)


def flip_residual(deltas: Tensor, flipped: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return (S,): 1/4 [(dx + dx')^2 + (dy - dy')^2 + (dw - dw')^2 + (dh - dh')^2] of encoded boxes.

    Args:
        deltas: (S, 4), the image's.
        flipped: (S, 4), the flipped image's as its own head gives them, dx not negated.
        offset: (S,), what dx + dx' is for two perfect predictions; None: 0, as in every published result.
    """
    deltas, flipped = deltas.float(), flipped.float()
    dx = deltas[:, 0] + flipped[:, 0] - (0 if offset is None else offset)
    return (dx.square() + (deltas[:, 1:] - flipped[:, 1:]).square().sum(-1)) / 4


def mean_over_batch(values: Tensor) -> Tensor:
    """Mean over the selected anchors of the global batch; 0 (with a zero gradient) if there are none."""
    return values.sum() / global_positives(values.new_full((), float(len(values))))
