"""The source-aided filter and densities: fact sheet T2, T5 and T10's upsampling."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from al_lab.acquisition import source_filter as S
from al_lab.acquisition.regions import pixel_entropy
from al_lab.acquisition.uncertainty import entropy, least_confidence, margin
from al_lab.core.budget import alpha_for

ROWS = torch.tensor(
    [[0.6, 0.3, 0.08, 0.02], [0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0, 0]],
    dtype=torch.float64,
)
MAP = ROWS.T[:, None]  # (4, 1, 5)


def test_t2_uncertainties():
    np.testing.assert_allclose(S.informativeness(MAP)[0], [0.7, 0.9, 1, 0.04, 1], atol=1e-9)
    np.testing.assert_allclose(entropy(ROWS), [0.947986, 1.279854, 1.386294, 0.167701, 0.693147], atol=1e-6)
    np.testing.assert_allclose(pixel_entropy(MAP)[0], [0.947982, 1.279850, 1.386290, 0.167697, 0.693145], atol=1e-6)
    np.testing.assert_allclose(
        pixel_entropy(MAP)[0] / np.log(19), [0.321957, 0.434667, 0.470816, 0.056954, 0.235408], atol=1e-6
    )
    mean_bits = entropy(ROWS) / (4 * np.log(2))  # as D2ADA has it: mean over classes, in bits
    np.testing.assert_allclose(mean_bits, [0.341914, 0.461610, 0.5, 0.060485, 0.25], atol=1e-6)
    np.testing.assert_allclose(least_confidence(ROWS), [0.4, 0.6, 0.75, 0.03, 0.5], atol=1e-9)
    np.testing.assert_allclose(-margin(ROWS), [-0.3, -0.1, 0, -0.96, 0], atol=1e-9)


def test_t2_filter():
    pixels, values = S.candidates(S.informativeness(MAP), 1, 2)
    assert pixels.tolist() == [2, 4] and values.tolist() == [1, 1]
    bought = np.array([[False, False, True, False, False]])
    assert S.candidates(S.informativeness(MAP), 2, 1.5, bought)[0].tolist() == [4, 1, 0]
    assert len(S.candidates(S.informativeness(MAP), 40, 20)[0]) == 5
    with pytest.raises(ValueError, match="alpha >= 1"):
        S.candidates(S.informativeness(MAP), 2, 0.5)


def test_alpha():
    assert [alpha_for(share) for share in (40 / (640 * 1280), 0.022, 0.05)] == [20, 20, 10]


def test_t5_density():
    errors = torch.tensor([[0, 0.5, 1], [2, 1.5, 0.25]])
    expected = [[11.023176, 4.055200, 1.491825], [0.201897, 0.548812, 6.685894]]
    np.testing.assert_allclose(S.coverage_density(errors), expected, atol=1e-6)
    np.testing.assert_allclose(
        S.coverage_density(torch.tensor([[0.1, 0.5]], dtype=torch.float64), scale="none"),
        [[7.389056, 1.491825]],
        atol=1e-6,
    )
    np.testing.assert_allclose(S.coverage_density(torch.full((2, 2), 3.0)), np.full((2, 2), 11.023176), atol=1e-6)


def test_an_outlier_squeezes_no_robust_density():
    errors = torch.cat(
        [torch.linspace(0, 1, 999, dtype=torch.float64), torch.tensor([1e6], dtype=torch.float64)]
    ).reshape(40, 25)
    squeezed, robust = S.coverage_density(errors), S.coverage_density(errors, scale="robust")
    assert squeezed.reshape(-1)[:-1].min() > 11 and robust[-1, -1] == robust.min() == pytest.approx(0.201897, abs=1e-6)
    assert robust.reshape(-1)[499] == pytest.approx(11.023176 * np.exp(-0.5 / 0.25), rel=0.01)


def test_relative_errors_do_not_grow_with_features():
    """|Fhat - F|^2 / |F|^2, then the 1 % and 99 % quantiles: as errors of features of length 1 would be."""
    rng = np.random.default_rng(0)
    length, error = rng.uniform(1, 9, (6, 8)), torch.from_numpy(rng.uniform(0, 1, (6, 8)))
    unit = F.normalize(torch.from_numpy(rng.normal(size=(5, 6, 8))), dim=0)
    long = torch.from_numpy(length) * unit
    found = S.coverage_density(error * torch.from_numpy(length) ** 2, tau=1.0, scale="relative", features_DHW=long)
    np.testing.assert_allclose(found, S.coverage_density(error, tau=1.0, scale="robust"), rtol=1e-9)
    assert S.coverage_density(error, scale="relative", features_DHW=0 * unit).isfinite().all()
    with pytest.raises(ValueError, match=r"expected features of \(6, 8\) locations for scale=relative"):
        S.coverage_density(error, scale="relative")


def test_t10_upsampling():
    corner = torch.tensor([[[0.0, 1], [2, 4]]], dtype=torch.float64)
    expected = [
        [0, 1 / 3, 2 / 3, 1],
        [2 / 3, 1.111111, 1.555556, 2],
        [1.333333, 1.888889, 2.444444, 3],
        [2, 2.666667, 3.333333, 4],
    ]
    np.testing.assert_allclose(S.sample_bilinear(corner, np.arange(16), (4, 4)).reshape(4, 4), expected, atol=1e-6)


@pytest.mark.parametrize(("coarse", "full"), [((5, 7), (33, 58)), ((1, 4), (6, 9)), ((6, 6), (6, 6)), ((3, 2), (1, 5))])
def test_sampling_is_upsampling(coarse, full):
    maps = torch.randn(3, *coarse, dtype=torch.float64)
    whole = F.interpolate(maps[None], full, mode="bilinear", align_corners=True)[0]
    pixels = np.random.default_rng(0).choice(full[0] * full[1], 5)
    torch.testing.assert_close(S.sample_bilinear(maps, pixels, full), whole.reshape(3, -1)[:, pixels].T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_side_by_side_give_the_same_digits(dtype):
    maps, pixels = torch.randn(16, 9, 14, dtype=dtype), np.random.default_rng(0).permutation(90 * 120)
    single = torch.cat([S.sample_bilinear(one[None], pixels, (90, 120)) for one in maps], 1)
    assert len(pixels) > S._ROWS and torch.equal(S.sample_bilinear(maps, pixels, (90, 120)), single)
