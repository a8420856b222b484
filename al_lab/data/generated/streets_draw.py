"""Draw one street of the generated `streets` domains: what stands where, then its colors.

Both domains are built by one geometry (a road to a vanishing point, facades, cars, poles with signs, persons). The
source is painted flat in clean colors. The target is a bad photograph: textures, windows, colors that classes share,
shadows, haze, dusk, blur and noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from al_lab.core.rng import Rng
from al_lab.data.transforms.dense import VOID

VERSION = 2  # raise it when a drawing changes: the folder's name changes with it

CLASSES = ("sky", "building", "road", "sidewalk", "car", "pole", "sign", "person")
SKY, BUILDING, ROAD, SIDEWALK, CAR, POLE, SIGN, PERSON = range(len(CLASSES))
DomainName = Literal["source", "target"]

# What a part is painted as; "marking" is road, "glass" and "wheel" are car, "skin" is person, "hood" (the camera's own
# car) is void.
_PAINTS = (
    "sky",
    "facade",
    "asphalt",
    "paving",
    "marking",
    "body",
    "glass",
    "wheel",
    "steel",
    "plate",
    "cloth",
    "skin",
    "hood",
)
_Palette = dict[str, tuple[tuple[int, int, int], ...]]
_SOURCE_COLORS: _Palette = {
    "sky": ((120, 180, 240), (200, 215, 235)), "facade": ((180, 120, 90), (200, 150, 110), (160, 100, 90)), "asphalt": ((90, 90, 100),),  # noqa: E501
    "paving": ((200, 185, 170),), "marking": ((250, 250, 250),), "glass": ((60, 80, 120),), "wheel": ((20, 20, 20),),
    "body": ((220, 30, 30), (30, 60, 220), (240, 240, 60), (240, 240, 240), (50, 50, 60)), "steel": ((60, 60, 60),),
    "plate": ((250, 200, 30), (230, 40, 40), (40, 90, 230)), "cloth": ((230, 90, 30), (150, 40, 180), (30, 180, 190)),
    "skin": ((240, 190, 150),),
}  # fmt: skip
_TARGET_COLORS: _Palette = {
    "sky": ((205, 212, 220), (232, 232, 230), (150, 185, 220)), "asphalt": ((92, 92, 92), (112, 110, 106), (76, 80, 86)),  # noqa: E501
    "facade": ((128, 82, 68), (150, 148, 140), (84, 96, 104), (196, 182, 158), (110, 104, 96)),
    "paving": ((124, 120, 114), (140, 134, 126), (104, 102, 100)), "marking": ((190, 190, 180),),
    "body": ((36, 36, 40), (150, 152, 156), (225, 225, 222), (110, 30, 32), (60, 70, 90), (96, 98, 100)),
    "glass": ((40, 46, 52), (120, 130, 138)), "wheel": ((28, 28, 28),), "steel": ((104, 104, 98), (62, 66, 62), (140, 140, 136)),  # noqa: E501
    "plate": ((170, 172, 172), (170, 60, 56), (60, 84, 140), (190, 160, 70)), "skin": ((196, 150, 124), (120, 86, 68)),
    "cloth": ((42, 44, 52), (84, 72, 62), (120, 120, 124), (60, 76, 104), (140, 60, 60)), "hood": ((24, 26, 30),),
}  # fmt: skip


@dataclass(frozen=True)
class Street:
    """An image (H, W, 3) uint8 and its classes (H, W) uint8."""

    image: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class _Part:
    label: int
    paint: str
    points: tuple[tuple[float, float], ...]  # a polygon, or the two corners of an ellipse
    depth: float  # 0 at the horizon, 1 at the lower border
    is_ellipse: bool = False


def draw_street(data_seed: int, domain: DomainName, split: str, number: int, size_hw: tuple[int, int]) -> Street:
    """Draw street ``number`` of a split; a pure function of its arguments.

    Args:
        data_seed: of the dataset.
        domain: "source" or "target".
        split: "train" or "test".
        number: which street.
        size_hw: height and width in pixels.
    """
    rng = Rng(data_seed, "streets", domain, split, number)
    parts = _Layout(rng.generator("layout"), domain, size_hw).parts()
    height, width = size_hw
    canvas = Image.new("I", (width, height))
    draw = ImageDraw.Draw(canvas)
    for k, part in enumerate(parts):
        if part.is_ellipse:
            draw.ellipse((*part.points[0], *part.points[1]), fill=k)
        else:
            draw.polygon(part.points, fill=k)
    which_HW = np.asarray(canvas, np.int64)
    label_HW = np.array([part.label for part in parts], np.uint8)[which_HW]
    colors = _SOURCE_COLORS if domain == "source" else _TARGET_COLORS
    generator = rng.generator("paint")
    flat = np.array([colors[part.paint][generator.integers(len(colors[part.paint]))] for part in parts], np.float64)
    if domain == "source":  # flat: one color a part, one light a picture
        flat = np.clip((flat + generator.normal(0, 10, flat.shape)) * generator.uniform(0.6, 1.1), 0, 255)
        return Street(flat[which_HW].astype(np.uint8), label_HW)
    return Street(_photograph(generator, parts, which_HW, flat), label_HW)


class _Layout:
    """What stands where, far to near."""

    def __init__(self, generator: np.random.Generator, domain: DomainName, size_hw: tuple[int, int]) -> None:
        self.rng, self.is_target = generator, domain == "target"
        self.h, self.w = size_hw
        self.horizon = self.h * generator.uniform(*((0.36, 0.48) if self.is_target else (0.45, 0.55)))
        self.vanish = self.w * generator.uniform(0.35, 0.65)
        # at the lower border
        self.curbs = self.w * generator.uniform(-0.20, 0.15), self.w * generator.uniform(0.85, 1.20)

    def parts(self) -> list[_Part]:
        """Return everything, in the order of painting."""
        h, w, y = self.h, self.w, self.horizon
        parts = [_rectangle(SKY, "sky", -1, -1, w, h, 0.0), _rectangle(SIDEWALK, "paving", -1, y, w, h, 0.6)]
        if self.rng.random() < 0.7:
            parts.append(_rectangle(BUILDING, "facade", -1, y - h * self.rng.uniform(0.03, 0.12), w, y, 0.0))
        parts += [part for side in (0, 1) for part in self._facades(side)]
        (left, bottom), (right, _) = self._ground(0, 1.0), self._ground(1, 1.0)
        parts.append(_Part(ROAD, "asphalt", ((self.vanish, y), (right, bottom), (left, bottom)), 0.6))
        parts += self._markings()
        standing = [*self._cars(), *self._poles(), *self._persons()]
        parts += [part for _, group in sorted(standing, key=lambda item: item[0]) for part in group]
        if self.is_target and self.rng.random() < 0.7:
            top = h * self.rng.uniform(0.91, 0.96)
            parts.append(_Part(VOID, "hood", ((-0.1 * w, top), (1.1 * w, 2 * h - top)), 1.0, is_ellipse=True))
        return parts

    def _ground(self, side: int, depth: float, beyond: float = 0.0) -> tuple[float, float]:
        """Return the point of a curb at a depth, or ``beyond`` image widths (at depth 1) outside it."""
        end = self.curbs[side] + (beyond if side else -beyond) * self.w
        return self.vanish + (end - self.vanish) * depth, self.horizon + (self.h - self.horizon) * depth

    def _facades(self, side: int) -> Iterator[_Part]:
        depth, beyond = 0.05, self.rng.uniform(0.15, 0.45)
        while depth < 2.0:
            nearer = depth * self.rng.uniform(1.3, 2.1)
            tall = self.h * self.rng.uniform(0.5, 1.8)
            if self.rng.random() < 0.85:
                (x0, y0), (x1, y1) = self._ground(side, depth, beyond), self._ground(side, nearer, beyond)
                yield _Part(
                    BUILDING,
                    "facade",
                    ((x0, y0), (x1, y1), (x1, y1 - tall * nearer), (x0, y0 - tall * depth)),
                    min(nearer, 1.0),
                )
            depth = nearer

    def _markings(self) -> Iterator[_Part]:
        middle = (self.curbs[0] + self.curbs[1]) / 2 - self.vanish
        for depth in (0.15, 0.25, 0.40, 0.64):
            points = []
            for d, across in ((depth, -1), (depth, 1), (depth * 1.3, 1), (depth * 1.3, -1)):
                points.append(
                    (self.vanish + (middle + across * 0.012 * self.w) * d, self.horizon + (self.h - self.horizon) * d)
                )
            yield _Part(ROAD, "marking", tuple(points), depth)

    def _cars(self) -> Iterator[tuple[float, list[_Part]]]:
        for _ in range(self.rng.integers(1, 5)):
            depth, across = self.rng.uniform(0.14, 0.8), self.rng.uniform(0.12, 0.88)
            (left, y), (right, _) = self._ground(0, depth), self._ground(1, depth)
            x, half = left + across * (right - left), 0.5 * self.w * self.rng.uniform(0.24, 0.32) * depth
            tall = half * self.rng.uniform(1.0, 1.25)
            roof, waist, sill = y - tall, y - 0.58 * tall, y - 0.12 * tall
            yield (
                depth,
                [
                    _rectangle(CAR, "wheel", x - 0.85 * half, sill, x - 0.5 * half, y, depth),
                    _rectangle(CAR, "wheel", x + 0.5 * half, sill, x + 0.85 * half, y, depth),
                    _rectangle(CAR, "body", x - half, waist, x + half, sill, depth),
                    _Part(
                        CAR,
                        "body",
                        (
                            (x - 0.85 * half, waist),
                            (x - 0.6 * half, roof),
                            (x + 0.6 * half, roof),
                            (x + 0.85 * half, waist),
                        ),
                        depth,
                    ),
                    _rectangle(
                        CAR, "glass", x - 0.55 * half, roof + 0.12 * tall, x + 0.55 * half, waist - 0.05 * tall, depth
                    ),
                ],
            )

    def _poles(self) -> Iterator[tuple[float, list[_Part]]]:
        for _ in range(self.rng.integers(2, 6)):
            depth = self.rng.uniform(0.25, 0.95)
            x, y = self._ground(int(self.rng.integers(2)), depth, self.rng.uniform(0.02, 0.10))
            tall, half = self.h * self.rng.uniform(0.55, 0.9) * depth, max(0.5, 0.010 * self.w * depth)
            group = [_rectangle(POLE, "steel", x - half, y - tall, x + half, y, depth)]
            if self.rng.random() < 0.6:
                r, top = max(1.5, self.h * self.rng.uniform(0.06, 0.10) * depth), y - tall
                shape = int(self.rng.integers(3))
                if shape == 0:
                    group.append(_rectangle(SIGN, "plate", x - r, top - r, x + r, top + r, depth))
                elif shape == 1:
                    group.append(_Part(SIGN, "plate", ((x - r, top - r), (x + r, top + r)), depth, is_ellipse=True))
                else:
                    group.append(
                        _Part(
                            SIGN, "plate", ((x - 1.2 * r, top + r), (x, top - 1.2 * r), (x + 1.2 * r, top + r)), depth
                        )
                    )
            yield depth, group

    def _persons(self) -> Iterator[tuple[float, list[_Part]]]:
        for _ in range(self.rng.integers(0, 5)):
            depth = self.rng.uniform(0.25, 0.9)
            on_road = self.rng.random() < 0.2
            x, y = self._ground(
                int(self.rng.integers(2)),
                depth,
                -self.rng.uniform(0.1, 0.4) if on_road else self.rng.uniform(0.05, 0.25),
            )
            tall = self.h * self.rng.uniform(0.30, 0.40) * depth
            half, head = max(0.8, 0.13 * tall), max(0.8, 0.08 * tall)
            yield (
                depth,
                [
                    _rectangle(PERSON, "cloth", x - 0.8 * half, y - 0.5 * tall, x + 0.8 * half, y, depth),
                    _rectangle(PERSON, "cloth", x - half, y - 0.84 * tall, x + half, y - 0.45 * tall, depth),
                    _Part(
                        PERSON,
                        "skin",
                        ((x - head, y - tall), (x + head, y - tall + 2.2 * head)),
                        depth,
                        is_ellipse=True,
                    ),
                ],
            )


def _rectangle(label: int, paint: str, x0: float, y0: float, x1: float, y1: float, depth: float) -> _Part:
    return _Part(label, paint, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), depth)


def _photograph(rng: np.random.Generator, parts: list[_Part], which_HW: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Paint the parts as a camera might see them, (H, W, 3) uint8."""
    height, width = which_HW.shape
    paint_HW = np.array([_PAINTS.index(part.paint) for part in parts])[which_HW]
    depth_HW = np.array([part.depth for part in parts])[which_HW]
    canvas = (flat + rng.normal(0, 8, flat.shape))[which_HW]
    canvas += _texture(rng, parts, which_HW, paint_HW)[..., None]
    ground = (
        (paint_HW == _PAINTS.index("asphalt"))
        | (paint_HW == _PAINTS.index("paving"))
        | (paint_HW == _PAINTS.index("marking"))
    )
    for _ in range(rng.integers(0, 4)):
        canvas[ground & _shadow(rng, height, width)] *= rng.uniform(0.5, 0.7)
    sideways = np.linspace(-1, 1, width) * rng.uniform(-0.25, 0.25)
    canvas *= (1 + sideways)[None, :, None]
    haze = rng.uniform(0.0, 0.35)
    canvas += (haze * (1 - depth_HW) * (paint_HW != _PAINTS.index("sky")))[..., None] * (flat[0] - canvas)
    light = rng.choice(3, p=(0.5, 0.3, 0.2))  # day, overcast, dusk
    if light == 1:
        canvas = 0.8 * (0.4 * canvas + 0.6 * canvas.mean(-1, keepdims=True))
    elif light == 2:
        canvas *= rng.uniform(0.45, 0.65) * np.array([0.9, 0.95, 1.25])
    canvas *= rng.uniform(0.94, 1.06, 3)
    blurred = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9))
    )
    noisy = np.asarray(blurred, np.float64) + rng.normal(0, rng.uniform(2, 6), (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, parts: list[_Part], which_HW: np.ndarray, paint_HW: np.ndarray) -> np.ndarray:
    """Return what is added to the parts' colors, (H, W)."""
    height, width = which_HW.shape
    ys, xs = np.mgrid[0:height, 0:width]
    fine, coarse = rng.normal(0, 1, (height, width)), _clouds(rng, height, width)
    period = np.array([rng.uniform(0.05, 0.10) * height * (0.4 + part.depth) for part in parts])[which_HW]
    phase = rng.uniform(0, 1, len(parts))[which_HW]
    panes = ((xs / period + phase) % 1 < 0.5) & ((ys / (1.3 * period) + phase) % 1 < 0.55)
    window = rng.uniform(-70, 60, len(parts))[which_HW]
    by_paint = {"sky": 45 * coarse, "facade": panes * window + 6 * fine + 14 * coarse, "asphalt": 30 * coarse + 9 * fine,  # noqa: E501
                "paving": 22 * coarse + 14 * (((xs + 2 * ys) // 4) % 2) + 6 * fine, "marking": 40 * coarse, "body": 18 * coarse + 4 * fine,  # noqa: E501
                "plate": 25 * fine, "cloth": 12 * fine}  # fmt: skip
    texture = 4 * fine
    for paint, values in by_paint.items():
        where = paint_HW == _PAINTS.index(paint)
        texture[where] = values[where]
    return texture


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a smooth random field in about -1..1, (H, W)."""
    small = Image.fromarray(rng.normal(0, 0.7, (6, 10)).astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def _shadow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    layer = Image.new("1", (width, height))
    x, y, across, along = rng.uniform(-0.2, 1.0), rng.uniform(0.4, 0.95), rng.uniform(0.2, 0.7), rng.uniform(0.05, 0.2)
    slant = rng.uniform(-0.3, 0.3)
    corners = ((x, y), (x + across, y), (x + across + slant, y + along), (x + slant, y + along))
    ImageDraw.Draw(layer).polygon([(cx * width, cy * height) for cx, cy in corners], fill=1)
    return np.asarray(layer)
