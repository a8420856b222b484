"""What a detector's head says of a batch, before anything is decoded."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
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
        extra: what branches say, by name: (B, P, w) of each anchor, or (B, w) of each image.
    """

    logits: Tensor
    deltas: Tensor
    features: tuple[Tensor, ...]
    priors: Tensor
    input_hw: tuple[int, int]
    level_sizes: tuple[int, ...]
    extra: Mapping[str, Tensor] = MappingProxyType({})

    def rows(self, index: Tensor) -> "HeadOutput":
        """Return the predictions of some of the images, by mask or index."""
        return self._of_images(lambda values: values[index])

    def parts(self, count: int) -> list["HeadOutput"]:
        """Take predictions of ``count`` equally large batches, one behind the other, apart again."""
        size = len(self.logits) // count
        return [self._of_images(lambda v, n=n: v[n * size : (n + 1) * size]) for n in range(count)]  # type: ignore[misc]

    def in_full(self) -> "HeadOutput":
        """Return predictions in float32, whatever the network computes in; features stay."""
        extra = {name: values.float() for name, values in self.extra.items()}
        return self._replace(logits=self.logits.float(), deltas=self.deltas.float(), extra=extra)

    def _of_images(self, pick: Callable[[Tensor], Tensor]) -> "HeadOutput":
        return self._replace(
            logits=pick(self.logits),
            deltas=pick(self.deltas),
            features=tuple(map(pick, self.features)),
            extra={name: pick(values) for name, values in self.extra.items()},
        )


def flatten_maps(maps: list[Tensor], width: int) -> Tensor:
    """Flatten head maps (B, A * width, H, W) to (B, P, width): levels, rows, columns, then the cell's anchors."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps], dim=1)


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
