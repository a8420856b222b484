"""Evidential training: the fact sheet's vectors 1 and 2."""

from dataclasses import replace

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.models.detectors.boxes import BACKGROUND, IGNORED
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.branches.evidential import (
    Evidential,
    entropy_anchor_losses,
    focal_anchor_losses,
    image_loss,
    level_loss,
    yes_no_logits,
)
from al_lab.objectives.supervised import Supervised, Targets, focal_terms


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


def batch() -> Batch:
    boxes = [torch.tensor([[8.0, 8, 40, 40], [30, 20, 60, 60]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long)]
    sizes, kinds = torch.full((2, 2), 64), torch.ones(2, dtype=torch.long)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    return Batch(pixels, ["a", "b"], *pad_boxes(boxes, labels), kinds, sizes, sizes)


def network(activation: str = "softmax", num_classes: int = 3) -> TinyDetector:
    """A small network; without background its class layers are RetinaNet's in kind, one column a class."""
    torch.manual_seed(0)
    built = TinyDetector(num_classes, 64, (8, 8, 8, 8, 8), branches=["evidence"])
    if activation == "softmax_fg":
        built.activation = "softmax_fg"
        built.class_heads = torch.nn.ModuleList(torch.nn.Conv2d(8, 4 * num_classes, 3, padding=1) for _ in range(3))
    return built


@pytest.mark.parametrize("activation", ["softmax", "softmax_fg"])
def test_the_detector_learns_as_without_the_evidence_head(activation: str) -> None:
    built = network(activation)
    parts = Evidential()(built, batch(), 0, 1)
    assert parts["loss_evidence"] > 0
    torch.testing.assert_close(parts["loss"], parts["loss_class"] + parts["loss_box"] + parts["loss_evidence"])
    own = [p for name, p in built.named_parameters() if not name.startswith("branches.")]
    together = torch.autograd.grad(parts["loss"], own)
    again = Evidential()
    again.beside = lambda *_: {}  # type: ignore[method-assign]
    for one, other in zip(together, torch.autograd.grad(again(built, batch(), 0, 1)["loss"], own), strict=True):
        torch.testing.assert_close(one, other)


def test_with_background_the_detectors_loss_is_the_ordinary_one() -> None:
    built = network()
    parts, plain = Evidential()(built, batch(), 0, 1), Supervised()(built, batch(), 0, 1)
    torch.testing.assert_close(parts["loss_class"], plain["loss_class"])
    torch.testing.assert_close(parts["loss_box"], plain["loss_box"])


@pytest.mark.parametrize("activation", ["softmax", "softmax_fg"])
def test_it_learns_a_batch_and_what_its_losses_are(activation: str) -> None:
    built, objective, examples = network(activation), Evidential(), batch()
    optimizer = torch.optim.Adam(built.parameters(), 0.01)
    losses = []
    for step in range(40):
        parts = objective(built, examples, step, 40)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append([parts[name].item() for name in ("loss_class", "loss_evidence")])
    # without background no anchor's loss can fall below that of equal probabilities
    assert losses[-1][0] < losses[0][0] * (0.5 if activation == "softmax" else 0.8)
    assert losses[-1][1] < losses[0][1] / 2


def test_a_network_without_the_branch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set detector.branches=\[evidence\]"):
        Evidential().attach(TinyDetector(3, 64, (8, 8, 8, 8, 8)))


def test_an_objective_that_would_leave_the_head_untrained_is_refused() -> None:
    with pytest.raises(ConfigError, match="objective=evidential, which trains the branch evidence, got Supervised"):
        Supervised().attach(network())


def test_a_single_class_is_refused_where_there_is_no_background() -> None:
    Evidential().attach(network("softmax", 1))
    with pytest.raises(ConfigError, match="two classes or more"):
        Evidential().attach(network("softmax_fg", 1))


def test_the_ordinary_loss_does_not_train_a_head_without_background() -> None:
    with pytest.raises(ConfigError, match="objective=evidential"):
        Supervised()(network("softmax_fg"), batch(), 0, 1)


def test_unlabeled_images_do_not_enter() -> None:
    built, half = network(), replace(batch(), kind=torch.tensor([1, 0]))
    torch.testing.assert_close(
        Evidential()(built, half, 0, 1)["loss"], Evidential()(built, batch().rows([0]), 0, 1)["loss"]
    )
    head = built(half.images)
    assert isinstance(head, HeadOutput)
    torch.testing.assert_close(
        Evidential().of_head(built, head, half)["loss"], Evidential()(built, batch().rows([0]), 0, 1)["loss"]
    )
