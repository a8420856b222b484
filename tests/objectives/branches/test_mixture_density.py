"""Mixture densities: the fact sheet's vectors 1 and 3, and the closed form with one component."""

import pytest
import torch

from al_lab.objectives.branches.mixture_density import box_losses, log_mixed_probs, noisy_class_losses

MEANS = torch.tensor([[2.0, 0, -1], [1, 1, 0]])
WEIGHT = torch.tensor([0.5, -0.5]).softmax(0)
VARIANCE = torch.tensor([[-1.0, 0, 1], [0, 0, 0]]).sigmoid()


def test_the_box_loss_equals_the_golden_vector() -> None:
    weight = torch.tensor([0.0, 1, -1, 0]).softmax(0)
    mean, v = torch.tensor([0.1, 0.3, -0.2, 0.5]), torch.tensor([-2.0, -1, 0, 1]).sigmoid()
    y = torch.tensor(0.25)
    assert box_losses(weight, mean, v, y).item() == pytest.approx(0.299905, abs=1e-6)
    assert box_losses(weight, mean, v, y, spread=0.0).item() == pytest.approx(-0.098199, abs=1e-6)
    assert box_losses(weight, mean, v.sqrt(), y, spread=0.0).item() == pytest.approx(0.152463, abs=1e-6)


def test_one_component_is_the_squared_error() -> None:
    mean, y = torch.linspace(-2, 2, 9)[:, None], torch.zeros(9)
    one = torch.ones(9, 1)
    twice = 2 * box_losses(one, mean, one, y, spread=0.0, floor=0.0)
    torch.testing.assert_close(twice - twice[4], 0.5 * mean[:, 0].square())


def test_deviations_near_0_have_finite_gradients() -> None:
    raw = torch.full((4,), -120.0, requires_grad=True)
    weight = torch.full((4,), 0.25)
    (
        box_losses(weight, torch.ones(4), raw.sigmoid(), torch.tensor(0.0))
        + noisy_class_losses(weight, torch.ones(4, 3), raw.sigmoid()[:, None].expand(4, 3), torch.ones(4, 3)).sum()
    ).backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_class_losses_without_noise_equal_the_golden_vector() -> None:
    found = noisy_class_losses(WEIGHT, MEANS, VARIANCE, torch.zeros(2, 3))
    assert found.tolist() == pytest.approx([0.355993, 1.818111, 2.818111], abs=1e-6)
    assert (-log_mixed_probs(WEIGHT, MEANS)).tolist() == pytest.approx([0.314105, 1.624235, 2.624235], abs=1e-6)


def test_noise_equals_the_golden_vector() -> None:
    noise = torch.tensor([[0.5, -1, 0.2], [-0.3, 0.8, 0.1]])
    rows = (MEANS + VARIANCE.sqrt() * noise).softmax(-1)
    assert rows.tolist() == [
        pytest.approx([0.911521, 0.046932, 0.041547], abs=1e-6),
        pytest.approx([0.272862, 0.593943, 0.133194], abs=1e-6),
    ]
    assert noisy_class_losses(WEIGHT, MEANS, VARIANCE, noise)[0].item() == pytest.approx(0.417024, abs=1e-6)
