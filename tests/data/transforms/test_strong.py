"""The strong view: colors and holes, drawn from the generator alone."""

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.data.transforms.strong import StrongView

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
OFF = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "cutout": ()}


def image(height=40, width=60):
    rgb = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 255
    return (rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def rgb_of(pixels):
    return pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def view(seed=0, **options):
    return StrongView(**{**OFF, **options})(image(), Rng(seed, "strong").generator(), MEAN, STD)


def test_nothing_drawn_is_the_image_itself():
    assert torch.equal(view(), image())


def test_the_same_generator_draws_the_same_view_and_leaves_the_image_alone():
    pixels = image()
    views = [StrongView()(pixels, Rng(seed, "x").generator(), MEAN, STD) for seed in (0, 0, 1)]
    assert torch.equal(pixels, image())
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert all(v.shape == pixels.shape and torch.isfinite(v).all() for v in views)


def test_gray_and_jitter_change_colors():
    gray = rgb_of(view(gray=1.0))
    assert torch.allclose(gray[0], gray[1], atol=1e-3)
    assert torch.allclose(gray[1], gray[2], atol=1e-3)
    jittered = rgb_of(view(jitter=1.0))
    assert (jittered - rgb_of(image())).abs().mean() > 1
    assert jittered.min() >= -1e-3
    assert jittered.max() <= 255.001
    assert torch.allclose(view(jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0), image(), atol=1e-4)


def test_blur_smooths():
    def roughness(pixels):
        return (pixels[:, 1:] - pixels[:, :-1]).abs().mean()

    assert roughness(view(blur=1.0, sigma_px=(2.0, 2.0))) < 0.3 * roughness(image())
    small = StrongView(**{**OFF, "blur": 1.0})(image(3, 2), np.random.default_rng(0), MEAN, STD)
    assert small.shape == (3, 3, 2)


def test_a_hole_has_the_area_and_the_ratio_that_were_asked():
    for seed in range(20):
        hole = (view(seed, cutout=((1.0, 0.1, 0.2, 0.5, 2.0),)) == 0).all(0)
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns
        assert 0.08 * 2400 < hole.sum() < 0.22 * 2400
        assert 0.45 < rows / columns < 2.2
    assert (view(cutout=((1.0, 1.0, 1.0, 0.66, 0.67),)) == 0).float().mean() > 0.95


def test_wrong_values_are_named():
    for options in ({"jitter": 2}, {"hue": 0.6}, {"sigma_px": (2, 1)}, {"cutout": ((0.5, 0.1),)}):
        with pytest.raises(ConfigError, match=f"objective.strong.{next(iter(options))}"):
            StrongView(**options)
