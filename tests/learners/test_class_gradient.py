"""Expected changes against their definition: the mean over labels of what a step along their gradient does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from al_lab.data.loading.datamodule import labeled_batches, predict_batches
from al_lab.learners.base import FitTask
from al_lab.learners.class_gradient import (
    binary_slopes,
    expected_change,
    expected_change_of_each,
    focal_slopes,
)
from al_lab.models.detectors.postprocess import decode_batch, kept_anchors
from al_lab.objectives.supervised import Supervised, focal_negative, targets_of


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
                focal_negative(z, 1.5, 0.3).sum(),
            ],
        ),
    ):
        for slope, loss in zip(slopes, losses, strict=True):
            torch.testing.assert_close(slope.detach(), torch.autograd.grad(loss, z)[0])
    p, u = torch.tensor([[0.2, 0.9]]), torch.tensor([[3.0, -1.0]])
    found = expected_change_of_each(p, *binary_slopes(p), u)
    assert float(found) == pytest.approx(2 * 0.2 * 0.8 * 3 + 2 * 0.9 * 0.1)


def test_the_gradient_of_the_class_layers_is_that_of_the_whole_loss(
    make_learner: Callable[..., Any], make_task: Callable[..., FitTask], dataset: Any
) -> None:
    learner = make_learner()
    learner.fit(make_task())
    learner.load(make_task().checkpoint)
    network = learner._trained()
    labels = {i: dataset.annotation(i) for i in dataset.pool_ids}
    found = learner.class_gradient(labels)
    (batch,) = labeled_batches(dataset, labels, network=network, batch_size=99)
    head = network(batch.images)
    terms = Supervised().terms(network, head, targets_of(network, head, batch.boxes, batch.labels, batch.valid_hw))
    loss = (terms.class_positive + terms.class_negative).sum() / terms.num_positives.sum()
    loss.backward()
    for layer, gradient in zip(network.class_heads, found, strict=True):
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert learner.class_gradient({}) and not any(g.any() for of in learner.class_gradient({}) for g in of.values())


def test_an_images_change_is_that_of_the_boxes_it_keeps_under_every_label(
    make_learner: Callable[..., Any], make_task: Callable[..., FitTask], dataset: Any
) -> None:
    learner = make_learner()
    learner.fit(make_task())
    learner.load(make_task().checkpoint)
    network, ids = learner._trained(), dataset.test_ids[:3]
    direction = learner.class_gradient({i: dataset.annotation(i) for i in dataset.pool_ids})
    found = dict(learner.expected_changes(ids, direction))
    parameters = [p for layer in network.class_heads for p in layer.parameters()]
    flat = torch.cat([value.flatten() for of_layer in direction for value in of_layer.values()])
    for batch in predict_batches(dataset, ids, network=network, batch_size=1):
        (name,) = batch.sample_ids
        head = network(batch.images)
        with torch.no_grad():
            image, anchor = kept_anchors(head, network, batch.sizes_hw, batch.valid_hw)
        kept = decode_batch(head, network, batch.sizes_hw, valid_hw=batch.valid_hw)[0]
        assert 0 < len(anchor) <= len(kept)  # a box may be kept as several classes
        total = 0.0
        for a in anchor.tolist():
            p = head.logits[0, a].softmax(-1).detach()
            for y in range(3):
                loss = functional.cross_entropy(head.logits[0, a][None], torch.tensor([y]))
                step = torch.autograd.grad(loss, parameters, retain_graph=True)
                total += float(p[y]) * abs(float(torch.cat([g.flatten() for g in step]) @ flat))
        assert found[name] == pytest.approx(total, rel=1e-3)
    learner.predict_batch = 1
    assert dict(learner.expected_changes(ids, direction)) == pytest.approx(found, rel=1e-5)
