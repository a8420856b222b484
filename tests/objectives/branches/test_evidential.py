"""Evidential training: the fact sheet's vectors 1 and 2."""

import pytest
import torch

from al_lab.models.detectors.boxes import BACKGROUND, IGNORED
from al_lab.objectives.branches.evidential import (
    entropy_anchor_losses,
    focal_anchor_losses,
    image_loss,
    level_loss,
    yes_no_logits,
)
from al_lab.objectives.supervised import Targets, focal_terms


def targets(assigned: list[int], labels: list[int]) -> Targets:
    """One image's: the anchors assigned to a box are positive, with these labels."""
    rows = torch.tensor([assigned])
    image, anchor = (rows >= 0).nonzero(as_tuple=True)
    return Targets(rows, image, anchor, torch.tensor(labels, dtype=torch.long), torch.zeros(len(labels), 4))


def test_class_losses_equal_the_golden_vector() -> None:
    z = torch.tensor([[[2.0, 0, -1], [2, 0, -1], [0, 0, 0]]])
    asked = yes_no_logits(z)
    assert z[0, 0].softmax(-1).tolist() == pytest.approx([0.843795, 0.114195, 0.042010], abs=1e-6)
    assert asked[0, 0].tolist() == pytest.approx([1.686738, -2.048587, -3.126928], abs=1e-6)
    losses = focal_anchor_losses(asked, targets([0, BACKGROUND, 1], [0, 1]))
    assert losses[0].tolist() == pytest.approx([0.002279, 0.992644, 0.189646], abs=1e-6)


def test_a_single_class_has_a_loss_without_a_gradient() -> None:
    z = torch.tensor([[[0.3], [-2.0]]], requires_grad=True)
    losses = focal_anchor_losses(yes_no_logits(z), targets([0, BACKGROUND], [0]))
    assert losses[0, 0].item() == pytest.approx(2.5e-28, rel=0.05)
    assert losses[0, 1].item() == pytest.approx(15.542449, rel=1e-5)
    losses.sum().backward()
    assert z.grad is not None
    assert not z.grad.any()


def test_anchor_losses_sum_to_the_focal_loss_of_images() -> None:
    torch.manual_seed(0)
    z, wanted = torch.randn(1, 5, 3), targets([0, BACKGROUND, IGNORED, 1, BACKGROUND], [2, 0])
    terms = focal_terms(z, torch.zeros(1, 5, 4), wanted)
    losses = focal_anchor_losses(z, wanted)
    torch.testing.assert_close(losses.sum(1), terms.class_positive + terms.class_negative)
    assert losses[0, 2] == 0


def test_the_predicted_losses_loss_equals_the_golden_vector() -> None:
    hat, loss = torch.tensor([[0.2, 0.4, 0.6, 0.0]]), torch.tensor([[0.5, 0.1, 0.3, 0.9]])
    wanted = targets([0, BACKGROUND, 1, BACKGROUND], [0, 0])
    assert level_loss(hat, loss, wanted, (4,)).item() == pytest.approx(0.225, abs=1e-6)
    assert image_loss(hat, loss).item() == pytest.approx(0.54, abs=1e-6)


def test_levels_and_images_are_added() -> None:
    hat, loss = torch.tensor([[0.2, 0.4, 0.6, 0.0]]), torch.tensor([[0.5, 0.1, 0.3, 0.9]])
    wanted = targets([0, BACKGROUND, 1, BACKGROUND], [0, 0])
    assert level_loss(hat, loss, wanted, (2, 2)).item() == pytest.approx(0.45, abs=1e-6)
    assert image_loss(hat.repeat(3, 1), loss.repeat(3, 1)).item() == pytest.approx(1.62, abs=1e-6)


def test_cross_entropy_of_anchors_counts_background_and_leaves_out_ignored() -> None:
    z = torch.tensor([[[0.0, 1, 2], [3, 0, 0], [1, 1, 1]]])
    losses = entropy_anchor_losses(z, targets([0, BACKGROUND, IGNORED], [1]))
    log_p = z.log_softmax(-1)[0]
    assert losses[0].tolist() == pytest.approx([-log_p[0, 2].item(), -log_p[1, 0].item(), 0.0])
