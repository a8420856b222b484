"""What every detector looks like from outside.

One flat set of anchors, whole class distributions, one image embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.core.fields import at_least, below_one, check_fields, optional, share
from al_lab.models.detectors.boxes import BoxCoder, Matching
from al_lab.models.detectors.flip_anchors import AnchorPairs, corresponding_anchors
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.recent import Recent

#: Input sizes of which anchors and their partners are kept: batches padded to multiples of 32 have some hundred.
SIZES = 32
Activation = Literal["softmax", "sigmoid"]
Resize = Literal["fixed", "keep_ratio"]


@dataclass(frozen=True)
class Postprocess:
    """How raw predictions become detections.

    Attributes:
        conf_min: a box enters with a class only if that class's probability is above this.
        nms_iou: within a class, boxes overlapping a more confident one by more than this go.
        max_per_class: most confident boxes per image and class that enter NMS; None = all.
        max_per_level: most confident (box, class) pairs per image and feature level that enter NMS; None = all.
        max_per_image: detections kept per image over all classes, after NMS; None = all.
        clip: clip boxes to the image before NMS and drop those left empty.
    """

    conf_min: float = 0.01
    nms_iou: float = 0.45
    max_per_class: int | None = 200
    max_per_level: int | None = None
    max_per_image: int | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "conf_min": below_one,
                "nms_iou": share,
                **dict.fromkeys(("max_per_class", "max_per_level", "max_per_image"), optional(at_least(1))),
            },
            "detector.postprocess",
        )


class DetectorNetwork(nn.Module):
    """A single-stage detector with anchors.

    Attributes:
        provides: what strategies may ask of it; a plain literal, read without importing.
        num_classes: C, foreground classes.
        activation: how logits become probabilities.
        input_hw: input size; with ``keep_ratio`` the largest (shorter, longer) side.
        mean, std: per channel, applied to float RGB in 0..255.
        resize: ``fixed`` stretches to ``input_hw``; ``keep_ratio`` scales to fit within and pads right and below.
        pad_divisor: with ``keep_ratio``, batches are padded to a multiple of this.
        code: the box coder.
        matching: how anchors are matched with ground truth in training.
        postprocess: how predictions become detections.
    """

    provides: tuple[str, ...] = ("detections", "class_probs", "flip_probs", "image_embedding")
    priors: Tensor

    def __init__(
        self,
        num_classes: int,
        input_hw: tuple[int, int],
        *,
        activation: Activation = "softmax",
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        resize: Resize = "fixed",
        pad_divisor: int = 1,
        code: BoxCoder | None = None,
        matching: Matching | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(
                explain(
                    expected="at least one foreground class",
                    got=str(num_classes),
                    where=f"{type(self).__name__}.num_classes",
                    do="look at the dataset's classes",
                )
            )
        self.num_classes = int(num_classes)
        self.input_hw = (int(input_hw[0]), int(input_hw[1]))
        self.activation: Activation = activation
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.resize: Resize = resize
        self.pad_divisor = int(pad_divisor)
        self.code = code or BoxCoder()
        self.matching = matching or Matching()
        self.postprocess = postprocess or Postprocess()
        self._flip_anchors: Recent[AnchorPairs] = Recent(SIZES)
        # Travels with the weights, so that a checkpoint made for other classes is named as such.
        self.register_buffer("class_count", torch.tensor(self.num_classes))

    @property
    def num_logits(self) -> int:
        """K: columns of the class distribution."""
        return self.num_classes + (self.activation == "softmax")

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        raise NotImplementedError

    def embedding(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return one (B, E) float32 vector per image."""
        raise NotImplementedError

    def class_layers(self) -> list[nn.Module]:
        """Return the layers of weights that give the class logits, each a convolution; what comes before is shared.

        A forward calls them in the order of the feature levels, one of them several times if levels share it.

        Raises:
            ConfigError: if nobody knows which they are.
        """
        raise ConfigError(
            explain(
                expected="a detector whose last class layers are known",
                got=type(self).__name__,
                where="detector",
                do="define its class_layers() as al_lab/models/detectors/tiny.py does, or choose what needs no "
                "gradients (strategy.lut.reward=training)",
            )
        )

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
        return logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()


def flatten_maps(maps: list[Tensor], width: int) -> Tensor:
    """Flatten head maps (B, A * width, H, W) to (B, P, width): levels, rows, columns, then the cell's anchors."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps], dim=1)
