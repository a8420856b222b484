"""Single-stage detectors with anchors: one flat set of anchors, whole class distributions, one image embedding."""

from collections.abc import Sequence

import torch
from torch import Tensor

from al_lab.core.types import Detections
from al_lab.models.detectors.boxes import BoxCoder, Matching
from al_lab.models.detectors.detector import Detector
from al_lab.models.detectors.flip_anchors import AnchorPairs, corresponding_anchors
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.recent import Recent

#: Input sizes of which anchors and their partners are kept: batches padded to multiples of 32 have some hundred.
SIZES = 32


class AnchorDetector(Detector):
    """A single-stage detector with anchors, whose loss is an objective's.

    Attributes:
        code: the box coder.
        matching: how anchors are matched with ground truth in training.
    """

    provides: tuple[str, ...] = (
        "detections",
        "class_probs",
        "flip_probs",
        "image_embedding",
        "box_embedding",
        "anchors",
    )
    priors: Tensor

    def __init__(
        self,
        num_classes: int,
        input_hw: tuple[int, int],
        *,
        activation: Activation = "softmax",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        resize: Resize = "fixed",
        pad_divisor: int = 1,
        code: BoxCoder | None = None,
        matching: Matching | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            input_hw,
            activation=activation,
            mean=mean,
            std=std,
            resize=resize,
            pad_divisor=pad_divisor,
            postprocess=postprocess,
        )
        self.code = code or BoxCoder()
        self.matching = matching or Matching()
        self._flip_anchors: Recent[AnchorPairs] = Recent(SIZES)

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        raise NotImplementedError

    def look(self, images: Tensor, valid_hw: Tensor) -> HeadOutput:
        """See `Detector.look`."""
        return _in_full(self(images))

    def look_flipped(self, images: Tensor, valid_hw: Tensor) -> tuple[HeadOutput, HeadOutput]:
        """See `Detector.look_flipped`; one forward for both."""
        seen, flipped = map(_in_full, together(self, images, images.flip(-1)))
        return seen, flipped

    def flip_width(self, seen: HeadOutput, size_hw: tuple[int, int], valid_hw: tuple[int, int]) -> float:
        """See `Detector.flip_width`.

        A padded input is flipped with its padding, so the axis of symmetry is the input's, not the image's.
        """
        return size_hw[1] * seen.input_hw[1] / float(valid_hw[1])

    def detections(
        self,
        seen: HeadOutput,
        sizes_hw: Sequence[tuple[int, int]],
        valid_hw: Tensor,
        settings: Postprocess | None = None,
    ) -> list[Detections]:
        """See `Detector.detections`."""
        return decode_batch(seen, self, sizes_hw, settings, valid_hw)

    def class_logits(self, maps: list[Tensor]) -> Tensor:
        """Return (B, P, K) logits from the maps (B, A K, H, W) that the class layers gave, level by level."""
        return flatten_maps(maps, self.num_logits)

    def flip_anchors(self, head: HeadOutput) -> AnchorPairs:
        """Return how the anchors of a prediction correspond to those of the flipped image.

        Found once an input size, as long as it is one of the last `SIZES`.
        """
        key = (head.input_hw, head.level_sizes, head.logits.device)
        return self._flip_anchors.get(key, lambda: corresponding_anchors(head, self.code))

    def probs(self, logits: Tensor) -> Tensor:
        """Return the class distribution of each anchor, in float32."""
        logits = logits.float()
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1)


def flatten_maps(maps: list[Tensor], width: int) -> Tensor:
    """Flatten head maps (B, A * width, H, W) to (B, P, width): levels, rows, columns, then the cell's anchors."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps], dim=1)


def together(network: AnchorDetector, *views: Tensor) -> list[HeadOutput]:
    """Predict for several versions of a batch in one forward, and take the result apart again."""
    head = network(torch.cat(views))
    logits, deltas = (getattr(head, name).chunk(len(views)) for name in ("logits", "deltas"))
    features = zip(*(f.chunk(len(views)) for f in head.features), strict=True) if head.features else [()] * len(views)
    return [
        head._replace(logits=z, deltas=d, features=tuple(f)) for z, d, f in zip(logits, deltas, features, strict=True)
    ]


def _in_full(head: HeadOutput) -> HeadOutput:
    """Return predictions in float32, whatever the network computes in."""
    return head._replace(logits=head.logits.float(), deltas=head.deltas.float())
