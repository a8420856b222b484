import colorsys

import numpy as np
import torch

from al_lab.data.transforms.color import changed, scale_saturation, shift_hue, ssd_distortion


def _by_colorsys(image, change):
    out = torch.empty_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            h, s, v = colorsys.rgb_to_hsv(*(image[:, y, x] / 255).tolist())
            out[:, y, x] = torch.tensor(colorsys.hsv_to_rgb(*change(h, s, v))) * 255
    return out


def test_hue_and_saturation_equal_the_way_over_hsv():
    image = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0)) * 255
    image[:, 0, :3] = torch.tensor([0.0, 128.0, 255.0])  # grays, black and white
    for degrees in (-18.0, 7.5, 18.0):
        expected = _by_colorsys(image, lambda h, s, v, d=degrees: ((h + d / 360) % 1, s, v))
        torch.testing.assert_close(shift_hue(image, degrees), expected, atol=1e-2, rtol=0)
    expected = _by_colorsys(image, lambda h, s, v: (h, 0.6 * s, v))
    torch.testing.assert_close(scale_saturation(image, 0.6), expected, atol=1e-2, rtol=0)


def test_a_distortion_is_a_function_of_its_generator_and_leaves_its_input_alone():
    image = torch.rand(3, 8, 9) * 255
    before = image.clone()
    results = [changed(image, ssd_distortion(np.random.default_rng(n))) for n in range(20)]
    again = [changed(image, ssd_distortion(np.random.default_rng(n))) for n in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(results, again, strict=True))
    assert len({tuple(r.flatten().tolist()) for r in results}) > 12
    assert all(torch.isfinite(r).all() for r in results)
    assert torch.equal(image, before)
    assert min(float(r.min()) for r in results) < 0  # not clamped, as published
