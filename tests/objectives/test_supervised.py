"""The supervised losses: the fact sheet's vectors M-7 and M-8, closed forms, and what a batch may not change."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.models.detectors.boxes import BACKGROUND, IGNORED
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.supervised import (
    Supervised,
    Targets,
    box_terms,
    focal_terms,
    hard_negatives,
    multibox_terms,
    targets_of,
)


def targets(assigned: Tensor, labels: dict[tuple[int, int], int], deltas: Tensor | None = None) -> Targets:
    """Targets with these positives: (image, anchor) -> label."""
    image, anchor = (torch.tensor([k[i] for k in labels], dtype=torch.long) for i in (0, 1))
    label = torch.tensor(list(labels.values()), dtype=torch.long)
    return Targets(assigned, image, anchor, label, torch.zeros(len(labels), 4) if deltas is None else deltas)


def golden() -> tuple[Tensor, Targets]:
    """M-7: 8 anchors, 3 foreground classes, anchor 0 positive with class 3 (label 2)."""
    logits = torch.zeros(1, 8, 4)
    logits[0, 1:, 0] = torch.tensor([2, 1, 0, 3, -1, 4, 0.5])
    logits[0, 0] = torch.tensor([0, 0, 0, 1.5])
    assigned = torch.full((1, 8), BACKGROUND)
    assigned[0, 0] = 0
    return logits, targets(assigned, {(0, 0): 2})


def test_hard_negatives_equal_the_golden_vector() -> None:
    logits, wanted = golden()
    image, anchor = hard_negatives(logits, wanted, 3.0)
    assert image.tolist() == [0, 0, 0]
    assert anchor.tolist() == [5, 3, 7]
    terms = multibox_terms(logits, torch.zeros(1, 8, 4), wanted)
    assert (terms.class_positive + terms.class_negative).item() == pytest.approx(5.14962843, abs=1e-6)


def test_no_more_negatives_than_there_are() -> None:
    logits, wanted = golden()
    wanted.assigned[0, 3:] = IGNORED
    assert sorted(hard_negatives(logits, wanted, 3.0)[1].tolist()) == [1, 2]


def test_an_image_without_positives_contributes_nothing() -> None:
    logits, wanted = golden()
    both = torch.cat([logits, torch.randn(1, 8, 4)])
    assigned = torch.cat([wanted.assigned, torch.full((1, 8), BACKGROUND)])
    terms = multibox_terms(both, torch.zeros(2, 8, 4), replace(wanted, assigned=assigned))
    assert terms.class_negative[0].item() == pytest.approx(5.14962843 - 0.51245858, abs=1e-6)
    assert terms.class_negative[1].item() == 0
    assert terms.num_positives.tolist() == [1, 0]


def test_smooth_l1_equals_the_golden_value() -> None:
    _, wanted = golden()
    deltas = torch.zeros(1, 8, 4)
    deltas[0, 0] = torch.tensor([0.5, -2, 0.1, 0])
    assert box_terms(deltas, wanted, "smooth_l1", 1.0).item() == pytest.approx(1.63)  # M-8
    assert box_terms(deltas, wanted, "l1", 1.0).item() == pytest.approx(2.6)


def test_focal_loss_equals_its_definition() -> None:
    """FL = -alpha_t (1 - p_t)^gamma log p_t, entry by entry; ignored anchors carry none."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=generator) * 3
    assigned = torch.tensor([[0, BACKGROUND, IGNORED, 1], [BACKGROUND, BACKGROUND, IGNORED, BACKGROUND]])
    terms = focal_terms(logits, torch.zeros(2, 4, 4), targets(assigned, {(0, 0): 2, (0, 3): 0}))
    expected = [0.0, 0.0]
    for b in range(2):
        for a in range(4):
            for c in range(3):
                p = 1 / (1 + math.exp(-logits[b, a, c].item()))
                hit = (b, a, c) in ((0, 0, 2), (0, 3, 0))
                p_t, alpha_t = (p, 0.25) if hit else (1 - p, 0.75)
                expected[b] -= (assigned[b, a].item() != IGNORED) * alpha_t * (1 - p_t) ** 2 * math.log(p_t)
    torch.testing.assert_close(terms.class_positive + terms.class_negative, torch.tensor(expected))


def test_focal_gradient_is_that_of_the_loss() -> None:
    logits = torch.randn(1, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    wanted = targets(torch.tensor([[0, BACKGROUND, IGNORED]]), {(0, 0): 1})

    def loss(x: Tensor) -> Tensor:
        terms = focal_terms(x, torch.zeros(1, 3, 4), wanted)
        return terms.class_positive.sum() + terms.class_negative.sum()

    (gradient,) = torch.autograd.grad(loss(logits), logits)
    step = 1e-2
    for index in ((0, 0, 1), (0, 0, 0), (0, 1, 0)):
        moved = torch.zeros_like(logits)
        moved[index] = step
        with torch.no_grad():
            slope = (loss(logits + moved) - loss(logits - moved)) / (2 * step)
        assert slope.item() == pytest.approx(gradient[index].item(), rel=1e-2)
    assert gradient[0, 2].abs().sum().item() == 0


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    boxes = [
        torch.tensor([[8.0, 8, 40, 40], [30, 50, 90, 90]]),
        torch.zeros(0, 4),
        torch.tensor([[10.0, 60, 30, 90]]),
        torch.tensor([[50.0, 5, 80, 60]]),
    ]
    labels = [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.long), torch.tensor([1]), torch.tensor([2])]
    sizes = torch.full((4, 2), 96)
    return Batch(
        torch.randn(4, 3, 96, 96, generator=generator),
        list("abcd"),
        *pad_boxes(boxes, labels),
        torch.ones(4, dtype=torch.long),
        sizes,
        sizes,
    )


@pytest.fixture
def network() -> TinyDetector:
    torch.manual_seed(0)
    return TinyDetector(3)


def test_unlabeled_images_do_not_enter(batch: Batch, network: TinyDetector) -> None:
    objective = Supervised()
    mixed = replace(batch, kind=torch.tensor([1, 0, 1, 0]))
    torch.testing.assert_close(
        objective(network, mixed, 0, 1)["loss"], objective(network, batch.rows([0, 2]), 0, 1)["loss"]
    )


def test_a_batch_without_labels_costs_nothing_and_can_be_stepped(batch: Batch, network: TinyDetector) -> None:
    loss = Supervised()(network, replace(batch, kind=torch.zeros(4, dtype=torch.long)), 0, 1)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in network.parameters())


def test_a_batch_without_any_box_is_finite(batch: Batch, network: TinyDetector) -> None:
    loss = Supervised()(network, batch.rows([1]), 0, 1)["loss"]
    loss.backward()
    assert loss.item() == 0


def test_sums_over_parts_of_a_batch_are_those_of_the_whole(batch: Batch, network: TinyDetector) -> None:
    """What lets several devices share a batch: per-image terms, and a network in which images don't meet."""
    objective = Supervised()
    parts = []
    for index in ([0, 1], [2, 3], [0, 1, 2, 3]):
        part = batch.rows(index)
        head = network(part.images)
        terms = objective.terms(network, head, targets_of(network, head, part.boxes, part.labels))
        parts.append(
            torch.stack(
                [terms.class_positive.sum(), terms.class_negative.sum(), terms.box.sum(), terms.num_positives.sum()]
            )
        )
    torch.testing.assert_close(parts[0] + parts[1], parts[2])


def test_training_on_one_batch_learns_it(batch: Batch, network: TinyDetector) -> None:
    objective, optimizer = Supervised(), torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    losses = []
    for step in range(40):
        loss = objective(network, batch, step, 40)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


def test_a_loss_for_the_other_kind_of_head_is_refused(batch: Batch, network: TinyDetector) -> None:
    with pytest.raises(ConfigError, match="sigmoid head for loss=focal, got TinyDetector with softmax"):
        Supervised(loss="focal")(network, batch, 0, 1)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective.loss: expected auto \| multibox \| focal, got 'hinge'"):
        Supervised(loss="hinge")  # type: ignore[arg-type]


def test_anchors_beyond_the_padded_image_are_ignored() -> None:
    """An image of 40 x 90 in a batch of 64 x 128 padded to multiples of 32: it ends at 64 of 64 and at 96 of 128."""
    network = AnchorDetector(2, (64, 128), resize="keep_ratio", pad_divisor=32)
    centers = torch.tensor([[0.1, 0.1], [0.74, 0.9], [0.76, 0.1], [0.9, 0.99]])
    head = HeadOutput(
        torch.zeros(1, 4, 3),
        torch.zeros(1, 4, 4),
        (),
        torch.cat([centers, torch.full((4, 2), 0.05)], 1),
        (64, 128),
        (4,),
    )
    boxes, labels = torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.long)
    found = targets_of(network, head, boxes, labels, torch.tensor([[40, 90]]))
    assert found.assigned.tolist() == [[BACKGROUND, BACKGROUND, IGNORED, IGNORED]]
    narrow = targets_of(network, head, boxes, labels, torch.tensor([[32, 128]]))
    assert narrow.assigned.tolist() == [[BACKGROUND, IGNORED, BACKGROUND, IGNORED]]
    assert targets_of(network, head, boxes, labels).assigned.tolist() == [[BACKGROUND] * 4]
