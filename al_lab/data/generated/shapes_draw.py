"""Draw one scene of the generated `shapes` dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from al_lab.core.rng import Rng

VERSION = 2  # raise it when a drawing changes: the folder's name changes with it

CLASSES = ("circle", "square", "triangle", "ring", "cross", "star")
# Frequencies of the classes, frequent to rare; hard scenes hold more of the rare ones.
_CLASS_SHARE = {"easy": (0.55, 0.40, 0.05, 0.0, 0.0, 0.0), "normal": (0.34, 0.26, 0.18, 0.11, 0.07, 0.04),
                "hard": (0.22, 0.20, 0.18, 0.16, 0.13, 0.11)}  # fmt: skip
# Shares of easy, normal and hard scenes.
_SCENE_SHARE = {"train": (0.60, 0.25, 0.15), "val": (0.30, 0.45, 0.25), "test": (0.30, 0.45, 0.25)}
_NUM_TEMPLATES = 24  # distinct easy scenes that the pool's near copies repeat
_SUPERSAMPLE = 3
_MIN_VISIBLE = 0.35  # objects seen less than this are not drawn at all
_DIFFICULT_VISIBLE = 0.6  # below this an object is flagged difficult

RGB = np.ndarray  # (3,) float in 0..255


@dataclass(frozen=True)
class ShapeObject:
    """One drawn object; edges are 0-based pixels that belong to it."""

    label: str
    left: int
    top: int
    right: int
    bottom: int
    difficult: bool


@dataclass(frozen=True)
class Scene:
    """An image and what is in it."""

    image: Image.Image
    objects: tuple[ShapeObject, ...]


def draw_scene(data_seed: int, split: str, number: int, size_px: int) -> Scene:
    """Draw scene ``number`` of a split; a pure function of its arguments.

    Args:
        data_seed: of the dataset.
        split: "train" (the pool), "val" or "test".
        number: which scene.
        size_px: side of the square image.
    """
    rng = Rng(data_seed, "shapes", split, number).generator()
    kind = ("easy", "normal", "hard")[rng.choice(3, p=_SCENE_SHARE[split])]
    if kind != "easy":
        return _compose(rng, rng, kind, size_px)
    if split != "train":
        return _compose(rng, rng, "easy", size_px)
    # A near copy: the template's generator decides what is where, this scene's generator only jitters it.
    template = int(rng.integers(_NUM_TEMPLATES))
    return _compose(Rng(data_seed, "shapes", "template", template).generator(), rng, "easy", size_px)


def _compose(layout: np.random.Generator, jitter: np.random.Generator, kind: str, size_px: int) -> Scene:
    canvas = _background(layout, kind, size_px)
    count = int(layout.integers(*{"easy": (1, 3), "normal": (2, 5), "hard": (3, 7)}[kind]))
    low, high = {"easy": (0.26, 0.46), "normal": (0.20, 0.44), "hard": (0.15, 0.34)}[kind]
    for _ in range({"easy": 0, "normal": 1, "hard": 3}[kind]):
        _distract(layout, canvas)
    placed: list[tuple[str, np.ndarray]] = []
    for _ in range(count):
        label = CLASSES[layout.choice(len(CLASSES), p=_CLASS_SHARE[kind])]
        side = layout.uniform(low, high) * size_px
        center = layout.uniform(0.35 * side, size_px - 0.35 * side, 2)
        angle = layout.uniform(0, 2 * math.pi)
        faint = kind == "hard" and layout.random() < 0.25
        color_seed = int(layout.integers(2**32))
        if layout is not jitter:
            center = center + jitter.normal(0, 0.015 * size_px, 2)
            side = side * jitter.uniform(0.95, 1.05)
        alpha = _mask(label, side, angle, center, size_px)
        solid = alpha > 0.5
        if solid.sum() < 24 or _would_hide(solid, placed):
            continue
        _paint(np.random.default_rng(color_seed), canvas, alpha, faint, kind)
        placed.append((label, solid))
    canvas += jitter.normal(0, {"easy": 3.0, "normal": 6.0, "hard": 10.0}[kind], canvas.shape)
    canvas *= jitter.uniform(0.92, 1.08)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return Scene(image, tuple(_object(n, placed) for n in range(len(placed))))


def _visible(n: int, placed: list[tuple[str, np.ndarray]], above: np.ndarray | None = None) -> float:
    mask = placed[n][1].copy()
    for _, later in placed[n + 1 :]:
        mask &= ~later
    if above is not None:
        mask &= ~above
    return float(mask.sum() / placed[n][1].sum())


def _would_hide(solid: np.ndarray, placed: list[tuple[str, np.ndarray]]) -> bool:
    return any(_visible(n, placed, solid) < _MIN_VISIBLE for n in range(len(placed)))


def _object(n: int, placed: list[tuple[str, np.ndarray]]) -> ShapeObject:
    label, solid = placed[n]
    rows, cols = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    difficult = _visible(n, placed) < _DIFFICULT_VISIBLE
    return ShapeObject(label, int(cols[0]), int(rows[0]), int(cols[-1]), int(rows[-1]), difficult)


def _background(rng: np.random.Generator, kind: str, size_px: int) -> np.ndarray:
    """Return a (size, size, 3) float texture."""
    ys, xs = np.mgrid[0:size_px, 0:size_px] / size_px
    first, second = rng.uniform(40, 215, 3), rng.uniform(40, 215, 3)
    strength = {"easy": 0.15, "normal": 0.5, "hard": 0.8}[kind]
    second = first + strength * (second - first)
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.08, 0.35)
    along = xs * math.cos(angle) + ys * math.sin(angle)
    across = -xs * math.sin(angle) + ys * math.cos(angle)
    texture = int(rng.integers(4))
    if texture == 0:
        weight = along - along.min()
    elif texture == 1:
        weight = 0.5 + 0.5 * np.sin(2 * math.pi * along / period)
    elif texture == 2:
        weight = ((np.floor(along / period) + np.floor(across / period)) % 2).astype(float)
    else:
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
        weight = np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC)) / 255.0
    return first + weight[..., None] * (second - first)


def _paint(rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, faint: bool, kind: str) -> None:
    """Blend one object into the canvas, in place."""
    rows, cols = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    part = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    under, cover = canvas[part], alpha[part][..., None]
    color = _contrasting(rng, under[alpha[part] > 0.5].mean(0), (36, 60) if faint else (80, 160))
    fill = np.broadcast_to(color, under.shape)
    if kind != "easy" and rng.random() < 0.35:
        slope_x, slope_y = rng.uniform(-1, 1), rng.uniform(-1, 1)
        ys, xs = np.mgrid[part]
        fill = fill + 18 * np.sin((xs * slope_x + ys * slope_y) * 1.2)[..., None]
    under += cover * (fill - under)


def _contrasting(rng: np.random.Generator, under: RGB, distance: tuple[float, float]) -> RGB:
    """Return a color whose distance from ``under`` lies in a range (nearly: colors are cut at 0 and 255)."""
    wanted = rng.uniform(*distance)
    directions = rng.normal(size=(12, 3))
    colors = np.clip(under + wanted * directions / np.linalg.norm(directions, axis=1, keepdims=True), 0, 255)
    return colors[np.abs(np.linalg.norm(colors - under, axis=1) - wanted).argmin()]


def _mask(label: str, side: float, angle: float, center: np.ndarray, size_px: int) -> np.ndarray:
    """Return the (size, size) coverage in 0..1 of one shape whose bounding circle has diameter ``side``."""
    s = _SUPERSAMPLE
    big = Image.new("L", (size_px * s, size_px * s))
    draw = ImageDraw.Draw(big)
    radius, (cx, cy) = side / 2 * s, center * s
    if label in ("circle", "ring"):
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
        if label == "ring":
            hole = 0.55 * radius
            draw.ellipse((cx - hole, cy - hole, cx + hole, cy + hole), fill=0)
    else:
        draw.polygon([(cx + radius * x, cy + radius * y) for x, y in _polygon(label, angle)], fill=255)
    return np.asarray(big.reduce(s), np.float64) / 255.0


def _polygon(label: str, angle: float) -> list[tuple[float, float]]:
    """Return a shape's corners on or in the unit circle."""
    if label == "cross":
        arm = 0.33
        corners = [(arm, 1), (arm, arm), (1, arm), (1, -arm), (arm, -arm), (arm, -1),
                   (-arm, -1), (-arm, -arm), (-1, -arm), (-1, arm), (-arm, arm), (-arm, 1)]  # fmt: skip
        length = math.hypot(1, arm)
        corners = [(x / length, y / length) for x, y in corners]
    else:
        points, inner = {"triangle": (3, 1.0), "square": (4, 1.0), "star": (5, 0.42)}[label]
        steps = points if inner == 1.0 else 2 * points
        corners = []
        for n in range(steps):
            r = inner if inner != 1.0 and n % 2 else 1.0
            corners.append((r * math.cos(2 * math.pi * n / steps), r * math.sin(2 * math.pi * n / steps)))
    c, s = math.cos(angle), math.sin(angle)
    return [(c * x - s * y, s * x + c * y) for x, y in corners]


def _distract(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Draw something that is none of the classes: a line, a thin bar, an arc or a few dots."""
    size = canvas.shape[0]
    layer = Image.new("L", (size, size))
    draw = ImageDraw.Draw(layer)
    x, y = rng.uniform(0, size, 2)
    length, angle = rng.uniform(0.15, 0.5) * size, rng.uniform(0, 2 * math.pi)
    end = (x + length * math.cos(angle), y + length * math.sin(angle))
    kind = int(rng.integers(4))
    if kind == 0:
        draw.line((x, y, *end), fill=255, width=1)
    elif kind == 1:
        draw.line((x, y, *end), fill=255, width=max(2, size // 24))
    elif kind == 2:
        start = float(np.degrees(angle))
        draw.arc(
            (x - length / 2, y - length / 2, x + length / 2, y + length / 2), start, start + 120, fill=255, width=2
        )
    else:
        for px, py in rng.normal((x, y), 0.06 * size, (6, 2)):
            draw.ellipse((px - 1, py - 1, px + 1, py + 1), fill=255)
    alpha = np.asarray(layer, np.float64)[..., None] / 255.0
    canvas += alpha * (rng.uniform(30, 225, 3) - canvas)
