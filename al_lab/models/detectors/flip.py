"""An image and its flipped image: the boxes by which they are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torchvision
from torch import Tensor

from al_lab.acquisition.divergence import distribution, symmetric_kl
from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import one_of
from al_lab.core.types import Detections
from al_lab.models.detectors.detector import Detector
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.postprocess import at_least, decode_batch
from al_lab.models.detectors.settings import Postprocess

Matching = Literal["index", "iou"]
_MIN_OVERLAP = 0.5
_DOUBT = 0.01


@dataclass(frozen=True)
class FlipRule:
    """Which boxes of an image are compared with its flipped image, and with what there.

    Elezi et al., CVPR 2022, Eq. 1-2, and the released code.

    Attributes:
        count_thresh: boxes of an image count from this confidence on. It is applied before suppression, which gives the
            same boxes: an outcome depends on more confident boxes only.
        nms_acq: suppression within a class (the code's acquisition: .5, where its detector has .45).
        matching: ``index``: the flipped image's prediction at the anchor that corresponds to the box's own; ``iou``:
            boxes found in the flipped image, by overlap (`match_flipped`); what has no partner there is compared with
            background.
    """

    count_thresh: float = 0.5
    nms_acq: float = 0.5
    matching: Matching = "index"

    def __post_init__(self) -> None:
        one_of(*get_args(Matching))(self.matching, "strategy.matching")

    def compare(
        self,
        network: Detector,
        seen: Any,
        flipped: Any,
        sizes_hw: Sequence[tuple[int, int]],
        valid_hw: Tensor,
    ) -> list[Detections]:
        """Return the boxes that count, with both class distributions; one `Detections` an image.

        Args:
            network: which looked.
            seen: of the images, see `Detector.look_flipped`.
            flipped: of the flipped images.
            sizes_hw: (height, width) of the original images.
            valid_hw: (B, 2), the part of each input that is image.

        Raises:
            ConfigError: for ``index`` and a network without anchors.
        """
        settings = at_least(Postprocess(conf_min=0.0, nms_iou=self.nms_acq, max_per_class=200), self.count_thresh)
        if self.matching == "index":
            if not isinstance(network, AnchorDetector):
                raise no_anchors(network)
            return decode_batch(seen, network, sizes_hw, settings, valid_hw, flipped)
        found, found_flipped = (network.detections(s, sizes_hw, valid_hw, settings) for s in (seen, flipped))
        widths = [
            network.flip_width(seen, size, valid) for size, valid in zip(sizes_hw, valid_hw.tolist(), strict=True)
        ]
        return [match_flipped(*pair) for pair in zip(found, found_flipped, widths, strict=True)]


def no_anchors(network: Any) -> ConfigError:
    """Say that boxes can't be compared by anchor."""
    return ConfigError(
        explain(
            expected="a detector with anchors for strategy.matching=index",
            got=type(network).__name__,
            where="strategy.matching",
            do="set strategy.matching=iou: boxes are then compared with those that overlap them in the flipped image",
        )
    )


def reflect(boxes_xyxy: np.ndarray, width: float) -> np.ndarray:
    """Flip boxes (N, 4) horizontally in an image of this width: (x1, x2) -> (width - x2, width - x1)."""
    out = boxes_xyxy.copy()
    out[:, 0], out[:, 2] = width - boxes_xyxy[:, 2], width - boxes_xyxy[:, 0]
    return out


def match_flipped(found: Detections, flipped: Detections, width: float) -> Detections:
    """Give each box the class distribution of the flipped image's box that matches it.

    Elezi et al., CVPR 2022, Eq. 1: every box of the flipped image belongs to the box it overlaps most, if by at least
    one half; of several the most different one counts. The paper says nothing of boxes that none belongs to: such a box
    has that of the flipped image which overlaps it most, if by at least one half, else the distribution of background
    (`background`): an object that the flipped image does not show is no consistent one.

    Args:
        found: of the image.
        flipped: of its flipped image, in the flipped image's coordinates.
        width: of the image, in the unit of the boxes.
    """
    flip_probs = np.repeat(background(found.probs.shape[1], found.activation)[None], len(found), 0)
    if len(found) and len(flipped):
        overlap = torchvision.ops.box_iou(
            torch.from_numpy(reflect(flipped.boxes_xyxy, width)), torch.from_numpy(found.boxes_xyxy)
        )
        nearest, of_flipped = overlap.max(0)
        for row in torch.nonzero(nearest >= _MIN_OVERLAP).flatten().tolist():
            flip_probs[row] = flipped.probs[int(of_flipped[row])]
        best, partner = overlap.max(1)
        p, q = (distribution(torch.from_numpy(d.probs), found.activation) for d in (found, flipped))
        difference = symmetric_kl(p[partner], q)
        for row in torch.argsort(difference).tolist():  # the most different one is written last
            if best[row] >= _MIN_OVERLAP:
                flip_probs[int(partner[row])] = flipped.probs[row]
    return Detections(found.boxes_xyxy, found.confidence, found.labels, found.probs, found.activation, flip_probs)


def background(num_probs: int, activation: str) -> np.ndarray:
    """Return (K,) float32: the class distribution of a place where nothing is seen, with a doubt of 1 % (own choice).

    With ``softmax`` the doubt is shared by the classes, with ``sigmoid`` each class has it, as focal heads begin. None
    at all would make every divergence from it infinite. With ``softmax_fg`` nothing is seen where no class is likelier.
    """
    if activation == "softmax_fg":
        return np.full(num_probs, 1 / num_probs, np.float32)
    if activation == "sigmoid":
        return np.full(num_probs, _DOUBT, np.float32)
    of_classes = np.full(num_probs - 1, _DOUBT / max(num_probs - 1, 1), np.float32)
    return np.concatenate([np.array([1 - _DOUBT], np.float32), of_classes])
