"""Where crops may lie and what they do to boxes: the deterministic and the drawn part, in numpy."""

from __future__ import annotations

from typing import Literal

import numpy as np

CropRule = Literal["legacy", "caffe"]
Rect = tuple[int, int, int, int]  # left, top, right, bottom

_WHOLE = "whole"
# Minimum IoU of each mode, None = no constraint; drawn uniformly.
_MODES: dict[str, tuple[str | float | None, ...]] = {
    "legacy": (_WHOLE, 0.1, 0.3, 0.7, 0.9, None),  # 0.5 is absent from ssd.pytorch (fact sheet §1.6)
    "caffe": (_WHOLE, 0.1, 0.3, 0.5, 0.7, 0.9, None),  # arXiv 1512.02325, Sec. 2.2
}
_TRIES = 50  # per mode, then another mode is drawn
_MIN_SIDE = 0.3  # of the image's side
_ASPECT = (0.5, 2.0)  # height / width


def resized_hw(size_hw: tuple[int, int], input_hw: tuple[int, int], resize: str) -> tuple[int, int]:
    """Return an image's size after resizing.

    "keep_ratio" fits it into the shorter and longer limits, rounded half up.
    """
    if resize == "fixed":
        return input_hw
    scale = min(max(input_hw) / max(size_hw), min(input_hw) / min(size_hw))
    return int(size_hw[0] * scale + 0.5), int(size_hw[1] * scale + 0.5)


def expand(boxes: np.ndarray, left: int, top: int) -> np.ndarray:
    """Return boxes (G, 4) moved with an image that was placed at (left, top) of a canvas."""
    return boxes + np.array([left, top, left, top], np.float32)


def kept_in(boxes: np.ndarray, rect: Rect) -> np.ndarray:
    """Say which boxes (G,) have their center strictly inside a rectangle."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((center > rect[:2]) & (center < rect[2:])).all(1)


def crop(boxes: np.ndarray, rect: Rect) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes (G, 4) to a rectangle, in its coordinates.

    Returns:
        boxes (M, 4) float32 and keep (G,) bool: those whose center is strictly inside.
    """
    keep = kept_in(boxes, rect)
    corner, size = np.array(rect[:2]), np.array(rect[2:]) - np.array(rect[:2])
    shifted = boxes[keep] - np.tile(corner, 2)
    return np.clip(shifted, 0, np.tile(size, 2)).astype(np.float32), keep


def iou_with(boxes: np.ndarray, rect: Rect) -> np.ndarray:
    """Return the IoU (G,) of each box with a rectangle."""
    inner = np.minimum(boxes[:, 2:], rect[2:]) - np.maximum(boxes[:, :2], rect[:2])
    overlap = np.clip(inner, 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return overlap / (area + (rect[2] - rect[0]) * (rect[3] - rect[1]) - overlap)


def ssd_crop_rect(boxes: np.ndarray, size_hw: tuple[int, int], rng: np.random.Generator, rule: CropRule) -> Rect | None:
    """Draw SSD's crop; None keeps the whole image.

    Args:
        boxes: (G, 4); with none the crop is drawn by its shape alone.
        size_hw: of the image.
        rng: source of every draw.
        rule: see `al_lab.data.transforms.detection.SSDAugmentation`.
    """
    if not len(boxes):
        return _free_rect(size_hw, rng)
    modes = _MODES[rule]
    while True:
        mode = modes[int(rng.integers(len(modes)))]
        if mode == _WHOLE:
            return None
        for _ in range(_TRIES):
            rect = _draw_rect(size_hw, rng)
            if rect is None:
                continue
            if rule == "caffe" and mode is not None and iou_with(boxes, rect).max() < mode:
                continue
            if kept_in(boxes, rect).any():
                return rect


def _free_rect(size_hw: tuple[int, int], rng: np.random.Generator) -> Rect | None:
    """Draw a crop as often as SSD does (5 of 6) and of its shapes, without looking at any box.

    None: the whole image.
    """
    if rng.integers(len(_MODES["legacy"])) == 0:
        return None
    for _ in range(_TRIES):
        rect = _draw_rect(size_hw, rng)
        if rect is not None:
            return rect
    return None


def _draw_rect(size_hw: tuple[int, int], rng: np.random.Generator) -> Rect | None:
    height, width = size_hw
    w, h = rng.uniform(_MIN_SIDE * width, width), rng.uniform(_MIN_SIDE * height, height)
    if not _ASPECT[0] <= h / w <= _ASPECT[1]:
        return None
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    rect = (int(left), int(top), int(left + w), int(top + h))
    return rect if rect[2] > rect[0] and rect[3] > rect[1] else None
