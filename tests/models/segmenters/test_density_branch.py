"""Density Matters' branch: fact sheet T4 (masking, dynamic convolution), T5 (density), and that no center leaks."""

import pytest
import torch

from al_lab.acquisition.source_filter import coverage_density
from al_lab.core.errors import ConfigError
from al_lab.models.segmenters.density_branch import (
    DensityBranch,
    dynamic_convolution,
    masked_convolution,
    masked_kernels,
)
from al_lab.objectives.adaptation import reconstruction_error

T4 = torch.tensor([1.0, 0, 2, 0, 5, 0, -1, 0, 1], dtype=torch.float64)
PATCH = torch.tensor([[1.0, 2, 3], [4, 100, 6], [7, 8, 9]], dtype=torch.float64)


def everywhere(values, height=3, width=3):
    """The same K^2 numbers at every location: (1, K^2, h, w)."""
    return values[None, :, None, None].expand(1, len(values), height, width)


def close(value, expected, atol=5e-7):
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=value.dtype), rtol=0, atol=atol)


def test_t4_the_center_weighs_nothing():
    weights = masked_kernels(everywhere(T4))[0, :, 0, 0]
    close(weights, [0.158099, 0.058162, 0.429759, 0.058162, 0, 0.058162, 0.021396, 0.058162, 0.158099])
    assert weights[4] == 0 and weights.sum().item() == pytest.approx(1)
    close(masked_kernels(torch.zeros(1, 9, 1, 1, dtype=torch.float64)).flatten(), [0.125] * 4 + [0] + [0.125] * 4)
    five = masked_kernels(torch.zeros(1, 25, 1, 1, dtype=torch.float64)).flatten()
    assert five[12] == 0 and five[0].item() == pytest.approx(1 / 24)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_masks_without_nan(dtype):
    logits = (torch.randn(1, 25, 4, 4) * 20).to(dtype).requires_grad_()
    weights = masked_kernels(logits)
    weights[:, 0].sum().backward()
    assert not weights[:, 12].any() and weights.isfinite().all() and logits.grad.isfinite().all()


def test_t4_reconstruction_of_one_channel():
    taps = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    for center in (100.0, -7.0):
        patch = PATCH.clone()
        patch[1, 1] = center
        close(dynamic_convolution(patch[None, None], masked_kernels(everywhere(T4)), taps)[0, 0, 1, 1], 4.183275)
    uniform = dynamic_convolution(
        PATCH[None, None], masked_kernels(everywhere(torch.zeros(9, dtype=torch.float64))), taps
    )
    close(uniform[0, 0], [[13.25, 14.25, 13.5], [14.75, 5, 15.25], [14, 15.75, 14.25]])


def test_t4_reconstruction_of_two_channels():
    features = torch.stack([PATCH, torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.float64)])[None]
    mix = torch.tensor([[1.0, 0.5], [0, 1]], dtype=torch.float64)
    out = dynamic_convolution(features, masked_kernels(everywhere(T4)), mix[:, :, None, None].expand(2, 2, 3, 3))[0]
    close(out[:, 1, 1], [4.299598, 0.232646])
    close(out[:, 0, 0], [16.217070, 0.116323])


def test_the_dynamic_convolution_equals_one_over_unfolded_patches():
    features, kernels = torch.randn(2, 3, 5, 7), masked_kernels(torch.randn(2, 25, 5, 7))
    taps = torch.randn(4, 3, 5, 5)
    patches = torch.nn.functional.unfold(features, 5, padding=2).view(2, 3, 25, 5, 7)
    expected = torch.einsum("bdkhw,bkhw,odk->bohw", patches, kernels, taps.flatten(2))
    torch.testing.assert_close(dynamic_convolution(features, kernels, taps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_no_center_leaks_into_its_own_reconstruction(kernel):
    """With M held fixed; h itself may see the center."""
    features, other = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 6, 8)
    moved = features.clone()
    moved[..., 2, 3] = other[..., 2, 3]
    kernels, taps = masked_kernels(torch.randn(1, kernel * kernel, 6, 8)), torch.randn(4, 4, kernel, kernel)
    for convolve in (lambda f: dynamic_convolution(f, kernels, taps), lambda f: masked_convolution(f, taps)):
        before, after = convolve(features), convolve(moved)
        assert torch.equal(before[..., 2, 3], after[..., 2, 3])
        assert not torch.equal(before[..., 2, 4], after[..., 2, 4])


@pytest.mark.parametrize("estimator", ["none", "maskconv3", "maskconv5", "dmc3", "dmc5"])
def test_every_estimator(estimator):
    torch.manual_seed(0)
    branch = DensityBranch(16, 5, dim=8, estimator=estimator)
    out = branch(torch.randn(2, 16, 6, 9))
    assert out.features.shape == (2, 8, 6, 9)
    assert out.aux_logits.shape == (2, 5, 6, 9)
    assert (out.reconstruction is None) == (estimator == "none")
    if out.reconstruction is None:
        return
    assert out.reconstruction.shape == out.features.shape
    (out.reconstruction.square().sum() + out.aux_logits.sum()).backward()
    unused = [name for name, p in branch.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused
    assert not branch.taps.grad[..., int(estimator[-1]) // 2, int(estimator[-1]) // 2].any()


@pytest.mark.parametrize("estimator", ["maskconv3", "dmc5"])
def test_before_training_it_averages_the_neighbors(estimator):
    torch.manual_seed(0)
    branch = DensityBranch(3, 2, dim=6, estimator=estimator).eval()
    branch.project = torch.nn.Identity()
    constant = torch.randn(1, 6, 1, 1).expand(1, 6, 12, 12)
    inner = branch.reconstruct(constant)[..., 4:-4, 4:-4]
    assert (inner - constant[..., 4:-4, 4:-4]).abs().max() < 0.1


def test_paper_size():
    """D = 64, K = 5 on ResNet's 2,048 channels: W alone has D D K K = 102,400 weights."""
    with torch.device("meta"):
        branch = DensityBranch(2048, 19)
    assert branch.taps.numel() == 102_400
    reduce, classifier, project = 2048 * 64 + 64, 64 * 19 + 19, 2 * (64 * 64 + 64)
    kernel_head = 2 * (64 * 64 * 9 + 64) + 64 * 25 + 25
    assert sum(p.numel() for p in branch.parameters()) == reduce + classifier + project + kernel_head + 102_400


def test_t5_from_a_reconstruction_to_densities():
    errors = torch.tensor([[0, 0.5, 1], [2, 1.5, 0.25]], dtype=torch.float64)
    features = torch.randn(1, 2, 2, 3, dtype=torch.float64)
    reconstruction = features + torch.stack([errors / 2, errors / 2])[None].sqrt()
    density = coverage_density(reconstruction_error(reconstruction, features)[0])
    close(density, [[11.023176, 4.055200, 1.491825], [0.201897, 0.548812, 6.685894]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"estimator": "dmc7"},
            "segmenter.branch.estimator: expected none | maskconv3 | maskconv5 | dmc3 | dmc5, got 'dmc7'; did you mean",
        ),
        ({"dim": 0}, "segmenter.branch.dim: expected a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        DensityBranch(8, 3, **options)
