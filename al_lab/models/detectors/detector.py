"""What every detector looks like from outside, whatever it is made of."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.core.types import Detections
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.boxes import has_area
from al_lab.models.detectors.seen import detections_of, flip_valid, means_over_boxes
from al_lab.models.detectors.settings import Activation, Postprocess, Resize
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD


class Detector(nn.Module):
    """A detector with a training loss of its own.

    A subclass says what it sees (`look`) and what it minimizes (`loss`). What needs more, a flat set of anchors, is an
    `AnchorDetector`.

    Attributes:
        provides: what strategies and objectives may ask of it; a plain literal, read without importing.
        num_classes: C, foreground classes.
        activation: whether a class distribution is one choice among C + 1 (``softmax``), C questions (``sigmoid``), or
            one choice among C classes without background (``softmax_fg``).
        input_hw: input size; with ``keep_ratio`` the largest (shorter, longer) side.
        mean, std: per channel, applied to float RGB in 0..255.
        resize: ``fixed`` stretches to ``input_hw``; ``keep_ratio`` scales to fit within and pads right and below.
        pad_divisor: with ``keep_ratio``, batches are padded to a multiple of this.
        postprocess: how predictions become detections.
    """

    provides: tuple[str, ...] = ("detections", "class_probs", "flip_probs", "image_embedding", "box_embedding")

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
        self.postprocess = postprocess or Postprocess()
        # Travels with the weights, so that a checkpoint made for other classes is named as such.
        self.register_buffer("class_count", torch.tensor(self.num_classes))

    @property
    def num_logits(self) -> int:
        """K: columns of the class distribution."""
        return self.num_classes + (self.activation == "softmax")

    def smallest_usual_hw(self) -> tuple[int, int]:
        """Return (h, w) of an input: with ``keep_ratio`` a square image's."""
        if self.resize == "fixed":
            return self.input_hw
        side = -(-min(self.input_hw) // self.pad_divisor) * self.pad_divisor
        return side, side

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss``, normalized over this device's images, and its parts, for a batch of labeled images."""
        raise NotImplementedError

    def look(self, images: Tensor, valid_hw: Tensor) -> Any:
        """Return what is seen in (B, 3, h, w) normalized images, as `detections` takes it: a `Seen`.

        Args:
            images: the batch.
            valid_hw: (B, 2) on the CPU, the part of each input that is image.
        """
        raise NotImplementedError

    def look_flipped(self, images: Tensor, valid_hw: Tensor) -> tuple[Any, Any]:
        """Return what is seen in the images, and in the flipped images."""
        return self.look(images, valid_hw), self.look(flip_valid(images, valid_hw), valid_hw)

    def flip_width(self, seen: Any, size_hw: tuple[int, int], valid_hw: tuple[int, int]) -> float:
        """Return the width, in original pixels, of what `look_flipped` flipped for an image of this size."""
        return float(size_hw[1])

    def detections(
        self,
        seen: Any,
        sizes_hw: Sequence[tuple[int, int]],
        valid_hw: Tensor,
        settings: Postprocess | None = None,
    ) -> list[Detections]:
        """Return what is found in each image, with whole class distributions; boxes in original pixels.

        Args:
            seen: what `look` returned.
            sizes_hw: (height, width) of the original images.
            valid_hw: (B, 2), see `look`.
            settings: instead of the network's own.
        """
        return detections_of(seen, self.activation, settings or self.postprocess, sizes_hw, valid_hw)

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

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return the map (B, E, h, w) that box embeddings are taken from; the deepest by default."""
        return features[-1]

    def embedding(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return one (B, E) float32 vector per image; by default the mean over `embedding_map`."""
        return self.embedding_map(features).float().mean(dim=(2, 3))

    def box_embeddings(
        self, seen: Any, found: Sequence[Detections], sizes_hw: Sequence[tuple[int, int]], valid: Tensor
    ) -> list[Tensor]:
        """Return (D, E) float32 of each image: the mean of `embedding_map` over each of its detections.

        Args:
            seen: what `look` returned.
            found: detections of the same images.
            sizes_hw: of the original images.
            valid: (B, 2), height and width of each image as a fraction of its input.
        """
        return means_over_boxes(self.embedding_map(seen.features), found, sizes_hw, valid)


def targets_of_images(batch: Batch, first_label: int = 0) -> list[dict[str, Tensor]]:
    """Return ``boxes`` (G, 4) xyxy in input pixels and ``labels`` (G,) of each image, without the batch's padding.

    Args:
        batch: on the device.
        first_label: number of the first class.
    """
    real = has_area(batch.boxes)
    return [
        {"boxes": boxes[keep], "labels": labels[keep] + first_label}
        for boxes, labels, keep in zip(batch.boxes, batch.labels, real, strict=True)
    ]
