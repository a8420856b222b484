"""Losses of active domain adaptation: fact sheet T1, T5 (loss), T8, T9 and gradients."""

import numpy as np
import pytest
import torch

from al_lab.objectives import adaptation as A

P1 = torch.tensor([[0.6, 0.3, 0.08, 0.02], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
LABELS1 = torch.tensor([[[0, 2, 255]]])


def logits_of(rows):
    """Pixel rows (N, C) of probabilities to logits (1, C, 1, N)."""
    return rows.log().T[None, :, None].clone()


@pytest.mark.parametrize(("margin", "total"), [(1.0, 4.4), (0.3, 0.7)])
def test_t1_margin_loss(margin, total):
    logits = logits_of(P1)
    values = [A.margin_loss(logits, LABELS1, r, margin).item() for r in ("sum", "mean_pixel", "mean_pixel_class")]
    np.testing.assert_allclose(values, [total, total / 2, total / 8], atol=1e-9)


def test_t1_gradient():
    logits = logits_of(P1).requires_grad_()
    A.margin_loss(logits, LABELS1, "sum").backward()
    np.testing.assert_allclose(logits.grad[0, :, 0, 0], [-0.96, 0.72, 0.192, 0.048], atol=1e-9)
    assert not logits.grad[0, :, 0, 2].any()


def test_margin_loss_in_closed_form_is_the_hinge():
    logits, labels = torch.randn(2, 7, 5, 4, dtype=torch.float64) * 4, torch.randint(0, 7, (2, 5, 4))
    probs = logits.softmax(1)
    of_target = probs.gather(1, labels[:, None])
    hinge = (1 - of_target + probs).clamp(min=0).sum(1) - 1
    torch.testing.assert_close(A.margin_loss(logits, labels, "mean_pixel"), hinge.mean())
    with pytest.raises(ValueError, match="mean_pixel_class"):
        A.margin_loss(logits, labels, "mean")


P8 = torch.tensor(
    [[0.9, 0.8, 0.2, 0.1], [0.9, 0.7, 0.3, 0.1], [0.8, 0.6, 0.4, 0.2], [0.9, 0.9, 0.1, 0.1]], dtype=torch.float64
)
LABELS8 = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 255]]])


def test_t8_boundary_consistency():
    probs = torch.stack([P8, 1 - P8])[None]
    per_pixel = (probs - A.window_mean(probs)).abs().sum(1)[0]
    expected = [
        [0.088889, 0.333333, 0.333333, 0.088889],
        [0.177778, 0.155556, 0.155556, 0.177778],
        [0.044444] * 4,
        [0.111111, 0.555556, 0.555556, 0.111111],
    ]
    np.testing.assert_allclose(per_pixel, expected, atol=1e-6)
    laplacian = A.laplacian(LABELS8)[0]
    assert laplacian[0].tolist() == [0, -2, 5, 5]
    assert laplacian[2].tolist() == [0, -3, -251, -251]
    mask = torch.tensor([[False, True, True, True]] * 3 + [[False, True, True, False]])
    assert torch.equal(A.boundary(LABELS8)[0], mask)
    loss = A.boundary_consistency(probs.log(), LABELS8)
    np.testing.assert_allclose([loss, A.CONSISTENCY_WEIGHT * loss], [0.226263, 0.0226263], atol=1e-6)
    assert A.boundary_consistency(probs.log(), LABELS8, "all").item() == pytest.approx(0.188889, abs=1e-6)


def test_t8_quirks_of_the_laplacian():
    five = torch.full((1, 3, 3), 5)
    assert A.laplacian(five)[0].tolist() == [[25, 15, 25], [15, 0, 15], [25, 15, 25]]
    stripes = torch.tensor([1, 2, 3]).expand(1, 3, 3)
    assert not A.boundary(stripes)[0, 1, 1]


def test_t9_negative_learning():
    rows = torch.tensor([[0.9, 0.04, 0.03, 0.02, 0.01], [0.5, 0.3, 0.1, 0.06, 0.04], [0.2] * 5], dtype=torch.float64)
    assert A.negative_learning(logits_of(rows)).item() == pytest.approx(0.0284702, abs=1e-7)
    assert A.negative_learning(logits_of(rows[2:])).item() == 0


def test_t5_reconstruction():
    features = torch.tensor([0.5, 2.5], dtype=torch.float64)[None, :, None, None]
    reconstruction = torch.tensor([1.0, 2.0], dtype=torch.float64)[None, :, None, None]
    assert A.reconstruction_error(reconstruction, features).item() == 0.5
    assert A.reconstruction_loss(reconstruction, features).item() == 0.25
    # T5's map: channel 0 carries the root of each error
    errors = torch.tensor([[0, 0.5, 1], [2, 1.5, 0.25]], dtype=torch.float64)
    root = errors.sqrt()[None, None]
    assert A.reconstruction_loss(root, torch.zeros_like(root), tau=0.25).item() - 2.4 == pytest.approx(1.1, abs=1e-9)


def test_reconstruction_pulls_the_features_too():
    features = torch.ones(1, 2, 1, 1, requires_grad=True)
    A.reconstruction_loss(torch.zeros(1, 2, 1, 1), features).backward()
    assert features.grad.tolist() == [[[[1.0]], [[1.0]]]]


def test_cross_entropy_is_the_mean_over_labeled_pixels():
    loss = A.cross_entropy(logits_of(P1), LABELS1)
    assert loss.item() == pytest.approx(-(np.log(0.6) + np.log(0.3)) / 2)
    assert A.source_target_sum(loss, 3 * loss).item() == pytest.approx(2 * loss.item())
    assert A.cross_entropy(logits_of(P1).half(), LABELS1).dtype == torch.float32


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_cross_entropy_of_few_or_many_pixels_is_torchs(share):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 16, 20, generator=generator)
    labels = torch.randint(0, 5, (2, 16, 20), generator=generator).masked_fill(
        torch.rand(2, 16, 20, generator=generator) > share, 255
    )
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = A.cross_entropy(ours, labels), torch.nn.functional.cross_entropy(theirs, labels, ignore_index=255)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("size", [(6, 5), (1, 4), (2, 1)])
def test_window_means_and_their_gradient_are_an_average_pool_with_a_repeated_border(size):
    ours, theirs = (
        torch.arange(2 * 3 * size[0] * size[1], dtype=torch.float64).sin().view(2, 3, *size).requires_grad_()
        for _ in range(2)
    )
    expected = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(theirs, (1, 1, 1, 1), mode="replicate"), 3, stride=1
    )
    mean = A.window_mean(ours)
    torch.testing.assert_close(mean, expected)
    weight = torch.arange(mean.numel(), dtype=torch.float64).cos().view_as(mean)
    (weight * mean).sum().backward()
    (weight * expected).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_class_weights_are_torchs_weighted_mean():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, 6, dtype=torch.float64), torch.randint(0, 3, (2, 5, 6))
    labels[0, :2] = 255
    for weights in ([2.0, 1, 5], [0.0, 1, 3]):
        weight = torch.tensor(weights, dtype=torch.float64)
        expected = torch.nn.functional.cross_entropy(logits, labels, weight, ignore_index=255)
        torch.testing.assert_close(A.cross_entropy(logits, labels, class_weights=weight), expected, rtol=1e-6, atol=0)
    nothing = torch.full_like(labels, 255)
    assert A.cross_entropy(logits, nothing, class_weights=torch.ones(3, dtype=torch.float64)) == 0


@pytest.mark.parametrize("loss", [A.cross_entropy, A.boundary_consistency, A.margin_loss])
def test_without_a_labeled_pixel_a_loss_and_its_gradient_are_zero(loss):
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 5), 255))
    value.backward()
    assert value.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: A.cross_entropy(z, LABELS),
        lambda z: A.boundary_consistency(z, LABELS),
        lambda z: A.boundary_consistency(z, LABELS, "all"),
        A.negative_learning,
        lambda z: A.negative_learning(z, 0.3),
        lambda z: A.margin_loss(z, LABELS),
        lambda z: A.margin_loss(z, LABELS, margin=0.4),
        lambda z: A.reconstruction_loss(z, z.flip(1) * 0.5),
    ],
)
def test_gradients(loss):
    logits = torch.randn(1, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (logits,))


LABELS = torch.tensor([[[0, 1, 2, 2], [0, 1, 255, 2], [0, 0, 1, 2]]])
