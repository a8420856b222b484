"""What a detector's head says of a batch, before anything is decoded."""

from typing import NamedTuple

from torch import Tensor


class HeadOutput(NamedTuple):
    """Raw predictions of B images at P anchors.

    Attributes:
        logits: (B, P, K); with ``softmax`` K = C + 1 and column 0 is background, with ``sigmoid`` K = C.
        deltas: (B, P, 4), boxes as `BoxCoder` encodes them against ``priors``.
        features: maps for `DetectorNetwork.embedding`, whatever that network needs.
        priors: (P, 4) cxcywh in fractions of ``input_hw``.
        input_hw: size of the (padded) input.
        level_sizes: number of anchors on each feature level, in order; sums to P.
    """

    logits: Tensor
    deltas: Tensor
    features: tuple[Tensor, ...]
    priors: Tensor
    input_hw: tuple[int, int]
    level_sizes: tuple[int, ...]
