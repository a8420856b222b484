"""LL4AL's training: the fact sheet's numbers, and which part of the network learns when."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.branches.learning_loss import LearningLoss, loss_of_images, ranking_loss
from al_lab.objectives.supervised import Supervised, Terms


def test_the_hinge_of_the_fact_sheet_and_its_gradient() -> None:
    predicted = torch.tensor([0.5, 1.2, 0.3, 0.9, 0.1, 2.0], requires_grad=True)
    value = ranking_loss(predicted, torch.tensor([1.0, 0.4, 0.7, 0.7, 0.2, 1.5]))
    assert value.item() == pytest.approx(0.133333, abs=1e-6)
    value.backward()
    assert predicted.grad.tolist() == pytest.approx([0, 0, 0.333333, -0.333333, 0, 0], abs=1e-6)


def test_an_images_loss_is_over_its_own_positives() -> None:
    terms = Terms(
        torch.tensor([3.0, 0, 5, 3]),
        torch.tensor([0.2, 0, 0.1, 0.2]),
        torch.tensor([1.1, 0, 0.9, 1.1]),
        torch.tensor([2, 0, 3, 2]),
    )
    loss = loss_of_images(terms)
    assert loss.tolist() == pytest.approx([2.15, 0, 2, 2.15], abs=1e-6)
    assert ranking_loss(torch.tensor([1, 0.2, 0.4, 1.5]), loss).item() == pytest.approx(0.65, abs=1e-6)


def test_the_true_order_costs_nothing_where_losses_are_a_margin_apart() -> None:
    loss = torch.tensor([3.0, 1.0, 2.5, 0.0, 1.9, 7.0])
    pairs = (loss[:3] - loss.flip(0)[:3]).abs()
    assert (ranking_loss(loss, loss) == 0) == bool((pairs >= 1).all())
    assert ranking_loss(loss, loss, margin=float(pairs.min())) == 0
    assert ranking_loss(loss, loss, margin=float(pairs.min()) + 0.3).item() == pytest.approx(0.1)
    assert ranking_loss(loss[:5], loss[:5]) == ranking_loss(loss[[0, 1, 3, 4]], loss[[0, 1, 3, 4]])  # 2 has no partner


@pytest.fixture
def world() -> tuple[TinyDetector, Batch]:
    torch.manual_seed(0)
    network = TinyDetector(2, input_px=64, widths=(8, 8, 8, 8, 8), branches=["learning_loss"])
    found = [torch.tensor([[4.0, 4, 30, 30]]), torch.tensor([[20.0, 10, 60, 50], [2, 2, 20, 20]])] * 2
    boxes, labels = pad_boxes(found, [torch.zeros(len(b), dtype=torch.long) for b in found])
    sizes = torch.tensor([[64, 64]] * 4)
    images = torch.randn(4, 3, 64, 64)
    return network, Batch(images, list("abcd"), boxes, labels, torch.ones(4, dtype=torch.long), sizes, sizes)


def gradients(network: TinyDetector, loss: torch.Tensor) -> dict[str, torch.Tensor | None]:
    network.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize(("step", "is_detached"), [(239, False), (240, True)])
def test_the_detector_learns_from_the_ranking_until_four_fifths(world, step: int, is_detached: bool) -> None:
    network, batch = world
    objective = LearningLoss()
    objective.attach(network)
    parts = objective(network, batch, step, 300)
    plain = Supervised()(network, batch, 0, 300)
    assert parts["loss"].item() == pytest.approx((plain["loss"] + parts["loss_ranking"]).item(), rel=1e-6)
    assert parts["loss_ranking"] > 0
    ours, alone = gradients(network, parts["loss"]), gradients(network, plain["loss"])
    assert all(ours[n] is not None and ours[n].any() for n in ours if n.startswith("branches.") and "weight" in n)
    assert all(alone[n] is None for n in ours if n.startswith("branches."))
    own = [torch.equal(ours[n], alone[n]) for n in ours if n.startswith(("stem", "levels"))]
    assert all(own) == is_detached


def test_pairs_are_half_a_batch_apart(world) -> None:
    """So two devices, which get the same stretch of both halves, rank the same pairs."""
    network, batch = world
    objective = LearningLoss()
    whole = objective(network, batch, 0, 10)["loss_ranking"]
    halves = [objective(network, batch.rows(rows), 0, 10)["loss_ranking"] for rows in ([0, 2], [1, 3])]
    assert whole.item() == pytest.approx(sum(halves).item() / 2, rel=1e-6)
    with pytest.raises(ConfigError, match="trainer.batch_size: expected two labeled images"):
        objective(network, batch.rows([0]), 0, 10)


def test_the_public_codes_begin_an_epoch_later() -> None:
    def first(share: float, total: int) -> int:
        return next(s for s in range(total) if s >= int(share * total + 1e-6))

    assert (first(0.8, 300), first(241 / 300, 300), first(0.8, 35)) == (240, 241, 28)
    assert pytest.approx(0.803333, abs=1e-6) == 241 / 300


def test_a_detector_without_the_module_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set detector.branches=\[learning_loss\]"):
        LearningLoss().attach(TinyDetector(2, input_px=64, widths=(8, 8, 8, 8, 8)))
    with pytest.raises(ConfigError, match="objective.margin"):
        LearningLoss(margin=0)
