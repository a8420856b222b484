"""What a detector's head says of a batch, before anything is decoded."""

from typing import NamedTuple, Protocol

from torch import Tensor

from al_lab.models.detectors.boxes import BoxCoder
from al_lab.models.detectors.settings import Activation, Postprocess, Resize


class HeadOutput(NamedTuple):
    """Raw predictions of B images at P anchors.

    Attributes:
        logits: (B, P, K); with ``softmax`` K = C + 1 and column 0 is background, with ``sigmoid`` and ``softmax_fg``
            K = C.
        deltas: (B, P, 4), boxes as `BoxCoder` encodes them against ``priors``.
        features: maps for `Detector.embedding`, whatever that network needs.
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


class Flipped(Protocol):
    """Which anchor of the flipped image corresponds to each, see `AnchorPairs`."""

    @property
    def anchor(self) -> Tensor:
        """(P,) int64."""


class Anchored(Protocol):
    """What decoding asks of a network with anchors; `AnchorDetector` says what each is."""

    num_classes: int
    input_hw: tuple[int, int]
    activation: Activation
    resize: Resize
    code: BoxCoder
    postprocess: Postprocess

    @property
    def num_logits(self) -> int:
        """K."""

    def probs(self, logits: Tensor) -> Tensor:
        """Return class distributions."""

    def flip_anchors(self, head: HeadOutput) -> Flipped:
        """Return the anchors of the flipped image."""
