"""From a decoded image to a network's input: the published training recipes and the plain resize of prediction.

Pixels are float RGB in 0..255 until the network's mean and std are applied at the very end: SSD's published pipeline
subtracts (104, 117, 123) from BGR and then swaps the channels, which is RGB minus (123, 117, 104). Every draw comes
from the generator that is passed in, never from a global one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F  # noqa: N812 - torchvision's own name for it

from al_lab.core.fields import check_fields, fraction, number_from, one_of
from al_lab.data.transforms.color import Change, ssd_distortion
from al_lab.data.transforms.geometry import CropRule, Rect, crop, expand, kept_in, resized_hw, ssd_crop_rect
from al_lab.data.transforms.picture import Canvas, Rest, normalized, painted, rendered

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
        image: (3, h, w), uint8 or float32, RGB in 0..255.
        boxes: (G, 4) float32 xyxy pixels of what is shown: the canvas if there is one, else the image.
        labels: (G,) int64.
        changes: of color, still to be made; None: bytes stay bytes.
        canvas: what surrounds the image then; see `drawn`.
    """

    image: tv_tensors.Image
    boxes: tv_tensors.BoundingBoxes
    labels: Tensor
    changes: tuple[Change, ...] | None = None
    canvas: Canvas | None = None

    @classmethod
    def of(cls, image_u8: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> Sample:
        """Wrap a decoded (H, W, 3) image and its (G, 4) xyxy boxes."""
        image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(image_u8)).permute(2, 0, 1))
        xyxy = torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))
        return cls(image, _boxes(xyxy, image_u8.shape[:2]), torch.from_numpy(np.array(labels, np.int64).reshape(-1)))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of what is shown now."""
        return self.canvas.size_hw if self.canvas else (int(self.image.shape[-2]), int(self.image.shape[-1]))


class Loaded(NamedTuple):
    """What a loader makes of an image: pixels, what is left to do to them, and its objects in the network's input.

    Attributes:
        pixels: (3, h, w), uint8 unless the recipe computes with colors itself, RGB in 0..255.
        rest: see `Rest`.
        boxes: (G, 4) float32 xyxy in input pixels.
        labels: (G,) int64.
    """

    pixels: Tensor
    rest: Rest
    boxes: Tensor
    labels: Tensor


def _boxes(xyxy: Tensor, size_hw: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=tuple(size_hw))


def drawn(sample: Sample) -> Sample:
    """Make what is still to be made of a sample's image, at its own resolution."""
    image = painted(sample.image.as_subclass(Tensor), sample.changes, sample.canvas)
    return Sample(tv_tensors.Image(image), sample.boxes, sample.labels)


def loaded(sample: Sample, spec: InputSpec) -> Loaded:
    """Return a sample as it leaves its loader."""
    target = resized_hw(sample.size_hw, spec.hw, spec.resize)
    boxes = F.resize(sample.boxes, list(target)).as_subclass(Tensor)
    rest = Rest(sample.changes, sample.canvas, target)
    return Loaded(sample.image.as_subclass(Tensor), rest, boxes, sample.labels)


def finish(found: Loaded, spec: InputSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Return (image (3, h, w) float32 normalized, boxes, labels): the input of a network."""
    return normalized(rendered(found.pixels, found.rest), spec.mean, spec.std), found.boxes, found.labels


def plain(image_u8: np.ndarray, boxes: np.ndarray, labels: np.ndarray, spec: InputSpec) -> Loaded:
    """Return what prediction sees: the image, resized."""
    return loaded(Sample.of(image_u8, boxes, labels), spec)


class Augmentation(ABC):
    """A training recipe. Its constructor holds numbers only; what the network wants comes with each call."""

    def __call__(
        self,
        image_u8: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        generator: np.random.Generator,
        spec: InputSpec,
    ) -> Loaded:
        """Return pixels, boxes and labels, from which `finish` makes an input; a pure function of its arguments.

        Args:
            image_u8: (H, W, 3) uint8 RGB.
            boxes: (G, 4) xyxy pixels; none for an unlabeled image, which is then cropped without looking for objects.
            labels: (G,).
            generator: source of every draw.
            spec: what the network wants.
        """
        return loaded(self.augment(Sample.of(image_u8, boxes, labels), generator, spec), spec)

    @abstractmethod
    def augment(self, sample: Sample, rng: np.random.Generator, spec: InputSpec) -> Sample:
        """Change color and geometry at the image's own resolution.

        `recolored`, `expanded`, `cropped` and `flip_horizontally` leave colors and canvas to be made later, on a GPU if
        there is one. A recipe may also compute with `Sample.image` itself, after `drawn`.
        """


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
        return recolored(sample, (Change("dim", factor),))


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
        sample = recolored(sample, ssd_distortion(rng) if rng.random() < self.photometric else ())
        has_dummy = self.unlabeled_crop == "legacy_dummy" and not len(sample.labels)
        if has_dummy:
            dummy = _boxes(torch.zeros(1, 4), sample.size_hw)
            sample = replace(sample, boxes=dummy, labels=torch.zeros(1, dtype=torch.int64))
        if rng.random() < self.expand_prob:
            (height, width), ratio = sample.size_hw, rng.uniform(1.0, self.max_expand)
            left = int(rng.uniform(0, width * ratio - width))
            top = int(rng.uniform(0, height * ratio - height))
            sample = expanded(sample, ratio, left, top, spec.mean)
        rect = ssd_crop_rect(sample.boxes.numpy(), sample.size_hw, rng, self.crop_iou)
        if rect is not None:
            sample = cropped(sample, rect)
        if has_dummy:
            sample = replace(sample, boxes=_boxes(torch.zeros(0, 4), sample.size_hw), labels=sample.labels[:0])
        return flip_horizontally(sample) if rng.random() < self.flip else sample


def _check(**fractions: float) -> None:
    """Refuse probabilities and parts that are none."""
    check_fields(fractions, dict.fromkeys(fractions, fraction), "trainer.augmentation")


def recolored(sample: Sample, changes: tuple[Change, ...]) -> Sample:
    """Add changes of color to those that are still to be made."""
    if changes and sample.canvas is not None:
        sample = drawn(sample)  # a canvas that is there already changes its color, too
    return replace(sample, changes=(sample.changes or ()) + tuple(changes))


def flip_horizontally(sample: Sample) -> Sample:
    """Reflect left and right."""
    canvas = sample.canvas
    if canvas is not None:
        canvas = replace(canvas, left=canvas.size_hw[1] - canvas.left - sample.image.shape[-1])
    return replace(sample, image=F.horizontal_flip(sample.image), boxes=F.horizontal_flip(sample.boxes), canvas=canvas)


def cropped(sample: Sample, rect: Rect) -> Sample:
    """Cut out a rectangle; objects whose center is outside go."""
    left, top, right, bottom = rect
    size_hw, canvas = (bottom - top, right - left), sample.canvas
    boxes, keep = crop(sample.boxes.numpy(), rect)
    y, x = (0, 0) if canvas is None else (canvas.top, canvas.left)
    # of the image, what the rectangle shows; perhaps nothing
    rows, columns = slice(max(top - y, 0), max(bottom - y, 0)), slice(max(left - x, 0), max(right - x, 0))
    if canvas is not None:
        canvas = Canvas(size_hw, min(max(y - top, 0), size_hw[0]), min(max(x - left, 0), size_hw[1]), canvas.fill)
    return replace(
        sample,
        image=tv_tensors.Image(sample.image[:, rows, columns]),
        boxes=_boxes(torch.from_numpy(boxes), size_hw),
        labels=sample.labels[torch.from_numpy(keep)],
        canvas=canvas,
    )


def expanded(sample: Sample, ratio: float, left: int, top: int, fill: tuple[float, float, float]) -> Sample:
    """Place the image on a canvas ``ratio`` times as large, filled with a color."""
    if sample.canvas is not None:
        sample = drawn(sample)
    height, width = sample.size_hw
    canvas = Canvas((int(height * ratio), int(width * ratio)), top, left, fill)
    boxes = _boxes(torch.from_numpy(expand(sample.boxes.numpy(), left, top)), canvas.size_hw)
    return replace(sample, boxes=boxes, canvas=canvas)
