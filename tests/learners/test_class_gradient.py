"""Expected changes against their definition: the mean over labels of what a step along their gradient does."""

import pytest
import torch
from torch.nn import functional

from al_lab.learners.class_gradient import (
    binary_slopes,
    expected_change,
    expected_change_of_each,
    focal_slopes,
)
from al_lab.objectives.supervised import _focal_negative


def test_the_expected_change_is_the_mean_over_labels_of_the_projection() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    shift = torch.tensor([[0.5, 1.5, -0.25]])
    p = logits.softmax(-1).detach()
    each = [
        torch.autograd.grad(functional.cross_entropy(logits, torch.tensor([y])), logits, retain_graph=True)[0]
        for y in range(3)
    ]
    signed = [float((g * shift).sum()) for g in each]
    assert sum(float(p[0, y]) * signed[y] for y in range(3)) == pytest.approx(0, abs=1e-6)  # says nothing
    expected = sum(float(p[0, y]) * abs(signed[y]) for y in range(3))
    assert float(expected_change(p, shift)) == pytest.approx(expected, rel=1e-5)
    same_shift = torch.full((1, 3), 7.0)  # softmax does not see it
    assert float(expected_change(p, same_shift)) == pytest.approx(0, abs=1e-5)


def test_slopes_are_the_derivatives_of_the_losses() -> None:
    z = torch.tensor([-2.0, -0.1, 1.3], requires_grad=True)
    for slopes, losses in (
        (
            binary_slopes(z.sigmoid()),
            [functional.binary_cross_entropy_with_logits(z, torch.full((3,), y), reduction="sum") for y in (1.0, 0.0)],
        ),
        (
            focal_slopes(z.detach(), gamma=1.5, alpha=0.3),
            [
                (0.3 * (1 - z.sigmoid()) ** 1.5 * functional.softplus(-z)).sum(),
                _focal_negative(z, 1.5, 0.3).sum(),
            ],
        ),
    ):
        for slope, loss in zip(slopes, losses, strict=True):
            torch.testing.assert_close(slope.detach(), torch.autograd.grad(loss, z)[0])
    p, u = torch.tensor([[0.2, 0.9]]), torch.tensor([[3.0, -1.0]])
    found = expected_change_of_each(p, *binary_slopes(p), u)
    assert float(found) == pytest.approx(2 * 0.2 * 0.8 * 3 + 2 * 0.9 * 0.1)
