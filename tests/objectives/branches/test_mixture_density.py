"""Mixture densities: the fact sheet's vectors 1 and 3, and the closed form with one component."""

import pytest
import torch

from al_lab.acquisition.boxes.mixture import log_mixed
from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.models.detectors.branches.mixture import MixtureBranch
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.branches.mixture_density import MixtureDensity, box_losses, noisy_class_losses

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
    assert (-log_mixed(WEIGHT, MEANS)).tolist() == pytest.approx([0.314105, 1.624235, 2.624235], abs=1e-6)


def test_noise_equals_the_golden_vector() -> None:
    noise = torch.tensor([[0.5, -1, 0.2], [-0.3, 0.8, 0.1]])
    rows = (MEANS + VARIANCE.sqrt() * noise).softmax(-1)
    assert rows.tolist() == [
        pytest.approx([0.911521, 0.046932, 0.041547], abs=1e-6),
        pytest.approx([0.272862, 0.593943, 0.133194], abs=1e-6),
    ]
    assert noisy_class_losses(WEIGHT, MEANS, VARIANCE, noise)[0].item() == pytest.approx(0.417024, abs=1e-6)


def batch() -> Batch:
    boxes = [torch.tensor([[8.0, 8, 40, 40], [30, 20, 60, 60]]), torch.zeros(0, 4)]
    labels = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long)]
    sizes, kinds = torch.full((2, 2), 64), torch.ones(2, dtype=torch.long)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    return Batch(pixels, ["a", "b"], *pad_boxes(boxes, labels), kinds, sizes, sizes)


def network() -> TinyDetector:
    torch.manual_seed(0)
    return TinyDetector(3, 64, (8, 8, 8, 8, 8), branches=["mixture"])


@pytest.mark.parametrize("class_loss", ["type1", "type2"])
def test_it_learns_a_batch(class_loss: str) -> None:
    built, objective, examples = network(), MixtureDensity(class_loss), batch()  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(built.parameters(), 0.01)
    losses = []
    for step in range(40):
        loss = objective(built, examples, step, 40)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_every_weight_is_trained_by_the_noisy_loss() -> None:
    built = network()
    MixtureDensity()(built, batch(), 0, 1)["loss"].backward()
    branch = built.branch("mixture")
    assert isinstance(branch, MixtureBranch)
    assert all(p.grad is not None for p in branch.box_layers.parameters())  # 0 on levels without positives
    assert all(p.grad is not None and p.grad.any() for p in branch.class_layers.parameters())


def test_one_draw_of_noise_chooses_negatives_and_is_their_loss() -> None:
    """With the same generator the losses are the same; with another they are not."""
    built, objective = network(), MixtureDensity()
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(objective(built, batch(), 0, 1)["loss_class"].item())
    assert found[0] == found[1] != found[2]


def test_a_network_without_the_branch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set detector.branches=\[mixture\]"):
        MixtureDensity().attach(TinyDetector(3, 64, (8, 8, 8, 8, 8)))
