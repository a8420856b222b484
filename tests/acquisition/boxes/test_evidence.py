"""Evidence and its uncertainty: the fact sheet's vectors 3 to 5, and what they may not depend on."""

import pytest
import torch

from al_lab.acquisition.boxes.evidence import (
    aggregated,
    dirichlet_uncertainty,
    evidence,
    image_uncertainty,
    level_means,
)

DISTRIBUTIONS = torch.tensor([[0.8, 0.15, 0.05], [0.6, 0.3, 0.1], [0.5, 0.25, 0.25]], dtype=torch.float64)
LOSS_HAT = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)


def test_a_small_predicted_loss_is_much_evidence() -> None:
    found = evidence(LOSS_HAT, LOSS_HAT.mean())
    assert found.tolist() == pytest.approx([49.999975, 24.999994, 16.666664], abs=1e-6)


def test_the_uncertainty_of_boxes_equals_the_golden_vector() -> None:
    total, aleatoric, epistemic = dirichlet_uncertainty(evidence(LOSS_HAT, LOSS_HAT.mean())[:, None] * DISTRIBUTIONS)
    assert total.tolist() == pytest.approx([0.612869, 0.897946, 1.039721], abs=1e-6)
    assert aleatoric.tolist() == pytest.approx([0.593756, 0.859792, 0.982407], abs=1e-6)
    assert epistemic.tolist() == pytest.approx([0.019113, 0.038154, 0.057314], abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "wanted"),
    [
        ([10.0, 5.0, 1.0], (0.830524, 0.774082, 0.056442)),
        ([1.0, 0.5, 0.1], (0.830524, 0.501889, 0.328635)),
        ([0.5, 0.5, 0.5], (1.098612, 0.666667, 0.431946)),
    ],
)
def test_dirichlet_vectors(alpha: list[float], wanted: tuple[float, ...]) -> None:
    found = dirichlet_uncertainty(torch.tensor([alpha]))
    assert [v.item() for v in found] == pytest.approx(wanted, abs=1e-6)


def test_the_aleatoric_part_is_the_mean_entropy_of_draws() -> None:
    alpha = torch.tensor([3.0, 1.5, 0.7], dtype=torch.float64)
    draws = torch.distributions.Dirichlet(alpha).sample((20_000,))
    mean = -torch.xlogy(draws, draws).sum(-1).mean()
    assert dirichlet_uncertainty(alpha[None]).aleatoric.item() == pytest.approx(mean.item(), abs=0.01)


def test_one_box_alone_has_the_scale_as_evidence() -> None:
    one = torch.tensor([0.3])
    assert evidence(one, one.mean()).item() == pytest.approx(25, abs=1e-4)
    alone = image_uncertainty(
        DISTRIBUTIONS[:1], one, torch.tensor([0]), torch.tensor([0]), torch.ones(1, 1, dtype=torch.bool), 1
    )
    assert alone.item() == pytest.approx(0.036554, abs=1e-6)


def test_no_predicted_loss_at_all_is_still_a_distribution() -> None:
    member = torch.ones(2, 1, dtype=torch.bool)
    found = image_uncertainty(DISTRIBUTIONS[:2], torch.zeros(2), torch.zeros(2).long(), torch.tensor([0, 1]), member, 1)
    assert torch.isfinite(found)
    assert found > 0


def test_a_box_of_no_object_counts_nowhere_even_alone_on_its_level() -> None:
    member = torch.tensor([[True], [True], [False]])
    level, label = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])
    found = image_uncertainty(DISTRIBUTIONS, LOSS_HAT, level, label, member, 2)
    alone = image_uncertainty(DISTRIBUTIONS[:2], LOSS_HAT[:2], level[:2], label[:2], member[:2], 2)
    assert found == alone > 0


def hua_boxes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vector 5: uncertainty, level, class, and membership in two objects."""
    rows = [
        (0, 0, 0, 0.10),
        (0, 0, 0, 0.14),
        (0, 0, 1, 0.05),
        (0, 1, 0, 0.20),
        (1, 0, 2, 0.08),
        (1, 2, 2, 0.03),
        (1, 2, 0, 0.04),
    ]
    objects, level, label, u = (torch.tensor(column) for column in zip(*rows, strict=True))
    return u.double(), level, label, objects[:, None] == torch.arange(2)


def test_hua_equals_the_golden_vector() -> None:
    u, level, label, member = hua_boxes()
    assert aggregated(u, level, label, member, 3).tolist() == pytest.approx([0.20, 0.08], abs=1e-6)
    member[1, 1] = True
    assert aggregated(u, level, label, member, 3).sum().item() == pytest.approx(0.42, abs=1e-6)


def test_hua_does_not_depend_on_the_order_of_boxes() -> None:
    u, level, label, member = hua_boxes()
    order = torch.tensor([3, 6, 0, 5, 2, 4, 1])
    shuffled = aggregated(u[order], level[order], label[order], member[order], 3)
    torch.testing.assert_close(shuffled, aggregated(u, level, label, member, 3))


def test_a_box_of_two_objects_counts_once_in_the_mean_or_twice_as_released() -> None:
    member = torch.tensor([[True, True], [True, False], [False, False]])
    level = torch.tensor([0, 0, 0])
    assert level_means(LOSS_HAT, level, member, 2, "once").tolist() == pytest.approx([0.3, 0.0])
    assert level_means(LOSS_HAT, level, member, 2, "pairs").tolist() == pytest.approx([0.8 / 3, 0.0])


def test_an_image_without_objects_is_worth_nothing() -> None:
    nothing = torch.zeros(0)
    found = image_uncertainty(
        torch.zeros(0, 3), nothing, nothing.long(), nothing.long(), torch.zeros(0, 0, dtype=torch.bool), 3
    )
    assert found.item() == 0
