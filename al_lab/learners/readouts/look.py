"""What a read-out sees of a batch, and what it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from al_lab.core.types import Detections
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector


@dataclass(frozen=True)
class Look:
    """A batch of B images that a network has looked at, in inference mode.

    Attributes:
        network: in evaluation mode.
        images: (B, 3, h, w) normalized, on the device.
        head: what the network said, float32.
        detections: one of each image, with ``anchor``; None each if no word needs them.
        sizes_hw: (height, width) of the original images.
        valid_hw: (B, 2) on the CPU, the part of each input that is image.
    """

    network: AnchorDetector
    images: Tensor
    head: HeadOutput
    detections: Sequence[Detections]
    sizes_hw: Sequence[tuple[int, int]]
    valid_hw: Tensor

    def inside(self) -> list[Tensor | None]:
        """Return, of each image, (P,) bool: anchors whose centers lie in it; None: nothing of its input is padding."""
        (height, width), centers = self.head.input_hw, self.head.priors[:, :2]
        found: list[Tensor | None] = []
        for h, w in self.valid_hw.tolist():
            parts = [
                centers[:, k] * whole < end for k, (end, whole) in enumerate(((w, width), (h, height))) if end < whole
            ]
            found.append(torch.stack(parts).all(0) if parts else None)
        return found


class ReadOut(NamedTuple):
    """How one word of `Strategy.needs` is answered.

    Attributes:
        read: called with the batch and the options of ``option``; returns what each image's ``extras`` get, B of them.
        of_boxes: it reads the detections.
        option: key of `Strategy.view_options` that holds its numbers; None: the word itself.
        accepts: which numbers these may be.
    """

    read: Callable[[Look, Mapping[str, Any]], Sequence[Mapping[str, np.ndarray]]]
    of_boxes: bool = False
    option: str | None = None
    accepts: tuple[str, ...] = ()
