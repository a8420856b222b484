"""From a decoded image to a network's input: the published training recipes and the plain resize of prediction.

Pixels are float RGB in 0..255 until the network's mean and std are applied at the very end: SSD's published pipeline
subtracts (104, 117, 123) from BGR and then swaps the channels, which is RGB minus (123, 117, 104). Every draw comes
from the generator that is passed in, never from a global one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F  # noqa: N812 - torchvision's own name for it

from al_lab.core.fields import check_fields, fraction, number_from, one_of
from al_lab.data.transforms.geometry import CropRule, Rect, crop, expand, kept_in, resized_hw, ssd_crop_rect
from al_lab.data.transforms.photometric import photometric_distort

Resize = Literal["fixed", "keep_ratio"]


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to see.

    Attributes:
        hw: input size; with "keep_ratio" the limits of the shorter and the longer side.
        mean: per channel, RGB in 0..255.
        std: per channel.
        resize: "fixed" stretches to ``hw``, "keep_ratio" scales to fit.
        pad_divisor: batches are padded to a multiple of this.
    """

    hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Resize = "fixed"
    pad_divisor: int = 1

    @classmethod
    def of(cls, network: Any) -> InputSpec:
        """Read it from a network's attributes."""
        return cls(
            tuple(network.input_hw), tuple(network.mean), tuple(network.std), network.resize, network.pad_divisor
        )


@dataclass(frozen=True)
class Sample:
    """An image and its objects between two transforms.

    Attributes:
        image: (3, H, W), uint8 or float32, RGB in 0..255.
        boxes: (G, 4) float32 xyxy pixels of ``image``.
        labels: (G,) int64.
    """

    image: tv_tensors.Image
    boxes: tv_tensors.BoundingBoxes
    labels: Tensor

    @classmethod
    def of(cls, image_u8: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Sample:
        """Wrap a decoded (H, W, 3) image and its (G, 4) xyxy boxes."""
        image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image_u8)).permute(2, 0, 1))
        xyxy = torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
        return cls(image, _boxes(xyxy, image_u8.shape[:2]), torch.from_numpy(np.array(labels, np.int64).reshape(-1)))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image as it is now."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


def _boxes(xyxy: Tensor, size_hw: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=tuple(size_hw))


def finish(sample: Sample, spec: InputSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Resize and normalize: (image (3, h, w) float32, boxes (G, 4) in input pixels, labels (G,)).

    Bilinear without antialiasing, as OpenCV's default, with which every published recipe here was trained.
    """
    target = resized_hw(sample.size_hw, spec.hw, spec.resize)
    image = F.resize(sample.image, list(target), F.InterpolationMode.BILINEAR, antialias=False)
    boxes = F.resize(sample.boxes, list(target))
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (spec.mean, spec.std))
    pixels = image.as_subclass(Tensor).to(torch.float32).sub(mean).div_(std)
    return pixels, boxes.as_subclass(Tensor), sample.labels


def plain(
    image_u8: np.ndarray, boxes: np.ndarray, labels: np.ndarray, spec: InputSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the test-time input: nothing but `finish`."""
    return finish(Sample.of(image_u8, boxes, labels), spec)


class Augmentation(ABC):
    """A training recipe. Its constructor holds numbers only; what the network wants comes with each call."""

    def __call__(
        self,
        image_u8: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        generator: np.random.Generator,
        spec: InputSpec,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (image, boxes, labels) as `finish` does; a pure function of its arguments.

        Args:
            image_u8: (H, W, 3) uint8 RGB.
            boxes: (G, 4) xyxy pixels; none for an unlabeled image, which is then cropped without looking for objects.
            labels: (G,).
            generator: source of every draw.
            spec: what the network wants.
        """
        return finish(self.augment(Sample.of(image_u8, boxes, labels), generator, spec), spec)

    @abstractmethod
    def augment(self, sample: Sample, rng: np.random.Generator, spec: InputSpec) -> Sample:
        """Change color and geometry at the image's own resolution."""


class FlipAugmentation(Augmentation):
    """Flip half of the images horizontally: the recipe of RetinaNet (1x/2x schedules) and of MI-AOD and PPAL."""

    def __init__(self, flip: float = 0.5) -> None:
        """Take the probability of a horizontal flip."""
        _check(flip=flip)
        self.flip = flip

    def augment(self, sample: Sample, rng: np.random.Generator, spec: InputSpec) -> Sample:
        """See the base class."""
        return flip_horizontally(sample) if rng.random() < self.flip else sample


class LightAugmentation(Augmentation):
    """AnchorPairs, a slight zoom and a little light: what a small detector can use in a few hundred steps."""

    def __init__(self, flip: float = 0.5, zoom: float = 0.5, min_scale: float = 0.7, brightness: float = 0.15) -> None:
        """Take the recipe's numbers.

        Args:
            flip: probability of a horizontal flip.
            zoom: probability of cropping to a part of the image.
            min_scale: smallest side of that part, as a fraction.
            brightness: pixels are multiplied by U(1 - b, 1 + b).
        """
        _check(flip=flip, zoom=zoom, min_scale=min_scale, brightness=brightness)
        self.flip, self.zoom, self.min_scale, self.brightness = flip, zoom, min_scale, brightness

    def augment(self, sample: Sample, rng: np.random.Generator, spec: InputSpec) -> Sample:
        """See the base class."""
        if rng.random() < self.zoom:
            (height, width), scale = sample.size_hw, rng.uniform(self.min_scale, 1.0)
            h, w = max(1, int(scale * height)), max(1, int(scale * width))
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            rect = (left, top, left + w, top + h)
            if not len(sample.labels) or bool(kept_in(sample.boxes.numpy(), rect).any()):
                sample = cropped(sample, rect)
        if rng.random() < self.flip:
            sample = flip_horizontally(sample)
        factor = float(rng.uniform(1 - self.brightness, 1 + self.brightness))
        image = tv_tensors.Image((sample.image.to(torch.float32) * factor).clamp_(0, 255))
        return Sample(image, sample.boxes, sample.labels)


class SSDAugmentation(Augmentation):
    """SSD's recipe, in its order: photometric distortion, expansion, IoU-guided crop, horizontal flip.

    Liu et al., ECCV 2016 (arXiv 1512.02325), Sec. 2.2 and 3.6; numbers of amdegroot/ssd.pytorch @ 5b0b77f, on which
    CSD, ISD-SSD and AL-SSL are built. Pixels are never clamped in between.

    ``crop_iou``: "legacy" draws among {whole, .1, .3, .7, .9, free} and never rejects a crop for its IoU, which is what
    that code really does (its issues 68 and 119) and what published numbers were made with; "caffe" is the original
    rule: .5 is among the modes and at least one box must overlap the crop by the drawn IoU.

    ``unlabeled_crop``: how an image without boxes is cropped: "free" by shape alone; "legacy_dummy" as CSD's and
    ISD-SSD's code: by a box without area at the image's corner, so that hardly any crop succeeds. AL-SSL's code crops
    unlabeled images by their hidden boxes, which nothing here can.

    Deviations: photometric distortion works on RGB, not BGR (the same operations; a random channel permutation is part
    of them).
    """

    def __init__(
        self,
        crop_iou: CropRule = "legacy",
        photometric: float = 1.0,
        expand_prob: float = 0.5,
        max_expand: float = 4.0,
        flip: float = 0.5,
        unlabeled_crop: Literal["free", "legacy_dummy"] = "free",
    ) -> None:
        """Take the recipe's numbers.

        Args:
            crop_iou: "legacy" or "caffe", as said above.
            photometric: probability of drawing the distortions at all (each has its own after that).
            expand_prob: probability of placing the image on a larger canvas.
            max_expand: largest ratio of canvas to image.
            flip: probability of a horizontal flip.
            unlabeled_crop: "free" or "legacy_dummy", as said above.

        Raises:
            ConfigError: for another crop rule, or a number that is none.
        """
        check_fields(
            locals(),
            {
                "crop_iou": one_of(*get_args(CropRule)),
                "unlabeled_crop": one_of("free", "legacy_dummy"),
                **dict.fromkeys(("photometric", "expand_prob", "flip"), fraction),
                "max_expand": number_from(1),
            },
            "trainer.augmentation",
        )
        self.crop_iou: CropRule = crop_iou
        self.unlabeled_crop = unlabeled_crop
        self.photometric, self.expand_prob, self.max_expand, self.flip = photometric, expand_prob, max_expand, flip

    def augment(self, sample: Sample, rng: np.random.Generator, spec: InputSpec) -> Sample:
        """See the base class."""
        image = sample.image.as_subclass(Tensor).to(torch.float32)
        if rng.random() < self.photometric:
            image = photometric_distort(image, rng)
        has_dummy = self.unlabeled_crop == "legacy_dummy" and not len(sample.labels)
        boxes, labels = (
            (_boxes(torch.zeros(1, 4), sample.size_hw), torch.zeros(1, dtype=torch.int64))
            if has_dummy
            else (sample.boxes, sample.labels)
        )
        sample = Sample(tv_tensors.Image(image), boxes, labels)
        if rng.random() < self.expand_prob:
            (height, width), ratio = sample.size_hw, rng.uniform(1.0, self.max_expand)
            left = int(rng.uniform(0, width * ratio - width))
            top = int(rng.uniform(0, height * ratio - height))
            sample = expanded(sample, ratio, left, top, spec.mean)
        rect = ssd_crop_rect(sample.boxes.numpy(), sample.size_hw, rng, self.crop_iou)
        if rect is not None:
            sample = cropped(sample, rect)
        if has_dummy:
            sample = Sample(sample.image, _boxes(torch.zeros(0, 4), sample.size_hw), sample.labels[:0])
        return flip_horizontally(sample) if rng.random() < self.flip else sample


def _check(**fractions: float) -> None:
    """Refuse probabilities and parts that are none."""
    check_fields(fractions, dict.fromkeys(fractions, fraction), "trainer.augmentation")


def flip_horizontally(sample: Sample) -> Sample:
    """Reflect left and right."""
    return Sample(F.horizontal_flip(sample.image), F.horizontal_flip(sample.boxes), sample.labels)


def cropped(sample: Sample, rect: Rect) -> Sample:
    """Cut out a rectangle; objects whose center is outside go."""
    left, top, right, bottom = rect
    image = tv_tensors.Image(sample.image[:, top:bottom, left:right])
    boxes, keep = crop(sample.boxes.numpy(), rect)
    return Sample(
        image, _boxes(torch.from_numpy(boxes), (bottom - top, right - left)), sample.labels[torch.from_numpy(keep)]
    )


def expanded(sample: Sample, ratio: float, left: int, top: int, fill: tuple[float, float, float]) -> Sample:
    """Place the image on a canvas ``ratio`` times as large, filled with a color."""
    height, width = sample.size_hw
    canvas_hw = (int(height * ratio), int(width * ratio))
    canvas = torch.tensor(fill, dtype=torch.float32)[:, None, None].repeat(1, *canvas_hw)
    canvas[:, top : top + height, left : left + width] = sample.image.as_subclass(Tensor)
    boxes = expand(sample.boxes.numpy(), left, top)
    return Sample(tv_tensors.Image(canvas), _boxes(torch.from_numpy(boxes), canvas_hw), sample.labels)
