"""Entropy and divergences: vectors E-1..E-8 and K-1..K-8, and what a sigmoid head means."""

import math

import pytest
import torch

from al_lab.acquisition.divergence import distribution, jensen_shannon, kl, normalized_entropy, symmetric_kl
from al_lab.acquisition.uncertainty import binary_entropy, entropy


def d(*values):
    return torch.tensor(values, dtype=torch.float64)


HALF_AND_REST = d(0.5, *[0.5 / 20] * 20)
SURE_AND_REST = d(0.99, *[0.01 / 20] * 20)
HALF_HALF = d(0.5, 0.5, *[0.0] * 19)


@pytest.mark.parametrize(
    ("name", "p", "nats", "normalized"),
    [
        ("E-1", d(0.1, 0.2, 0.7), 0.80181855, 0.72984670),
        ("E-2", d(0.5, 0.5, 0), 0.69314718, 0.63092975),
        ("E-3", d(0, 1, 0, 0, 0), 0.0, 0.0),
        ("E-4", torch.full((21,), 1 / 21, dtype=torch.float64), 3.04452244, 1.0),
        ("E-5", HALF_AND_REST, 2.19101332, 0.71965747),
        ("E-6", SURE_AND_REST, 0.08595886, 0.02823394),
        ("E-7", HALF_HALF, 0.69314718, 0.22767025),
        ("E-8", d(2, 1, 0, -1).softmax(-1), 0.94753696, 0.68350349),
    ],
)
def test_entropy(name, p, nats, normalized):
    assert entropy(p).item() == pytest.approx(nats, abs=1e-6)
    assert normalized_entropy(p, "softmax").item() == pytest.approx(normalized, abs=1e-6)


K1 = d(0.7, 0.2, 0.1), d(0.6, 0.3, 0.1)
K2 = d(0.9, 0.05, 0.05), d(0.05, 0.9, 0.05)


def test_k1_both_directions_and_their_mean():
    p, q = K1
    assert kl(p, q).item() == pytest.approx(0.02681245, abs=1e-8)
    assert kl(q, p).item() == pytest.approx(0.02914912, abs=1e-8)
    assert symmetric_kl(p, q).item() == pytest.approx(0.02798079, abs=1e-8)
    assert jensen_shannon(p, q).item() == pytest.approx(0.00695886, abs=1e-8)
    assert symmetric_kl(q, p).item() == pytest.approx(symmetric_kl(p, q).item(), abs=1e-15)  # K-4
    assert symmetric_kl(p, q, eps=1e-7).item() == pytest.approx(0.02798078, abs=1e-8)  # K-6
    assert symmetric_kl(p, p).item() == 0  # K-3


def test_k2_and_k5_far_apart():
    assert symmetric_kl(*K2).item() == pytest.approx(2.45681599, abs=1e-7)
    assert jensen_shannon(*K2).item() == pytest.approx(0.46260737, abs=1e-7)
    one, other = d(1, 0, 0), d(0, 1, 0)
    assert symmetric_kl(one, other, eps=1e-7).item() == pytest.approx(16.11809575, abs=1e-6)
    assert jensen_shannon(one, other).item() == pytest.approx(math.log(2), abs=1e-7)
    assert torch.isfinite(symmetric_kl(one.float(), other.float()))


def test_k7_from_logits():
    z, z_hat = d(2, 1, 0, -1), d(1, 2, 0, -1)
    p, q = z.softmax(-1), z_hat.softmax(-1)
    assert symmetric_kl(p, q).item() == pytest.approx(0.40703144, abs=1e-7)
    assert 0.5 * ((p - q) * (p.log() - q.log())).sum().item() == pytest.approx(0.40703144, abs=1e-7)


def test_k8_targets_are_fixed():
    z, z_hat = (v.log().requires_grad_() for v in K1)
    symmetric_kl(z.softmax(-1), z_hat.softmax(-1), detach=True).backward()
    assert torch.allclose(z.grad, d(0.05, -0.05, 0), atol=1e-8)
    assert torch.allclose(z_hat.grad, d(-0.05, 0.05, 0), atol=1e-8)
    z.grad = None
    symmetric_kl(z.softmax(-1), z_hat.softmax(-1)).backward()
    assert torch.allclose(z.grad, d(0.09456838, -0.09322776, -0.00134062), atol=1e-8)


def test_a_sigmoid_row_is_independent_questions():
    p, q = d(0.3, 0.9), d(0.6, 0.8)
    rows = [distribution(v, "sigmoid") for v in (p, q)]
    one_by_one = [
        0.5 * (a - b) * (math.log(a / (1 - a)) - math.log(b / (1 - b)))
        for a, b in zip(p.tolist(), q.tolist(), strict=True)
    ]
    assert symmetric_kl(*rows).item() == pytest.approx(sum(one_by_one), abs=1e-12)
    assert entropy(rows[0]).item() == pytest.approx(binary_entropy(p).sum().item(), abs=1e-12)
    assert normalized_entropy(d(0.5, 0.5, 0.5), "sigmoid").item() == pytest.approx(1.0)
    assert normalized_entropy(d(1.0, 0.0), "sigmoid").item() == 0


def test_tv16_terms_of_interpolation():
    a, b, mixed = d(0.1, 0.7, 0.2), d(0.2, 0.2, 0.6), d(0.15, 0.5, 0.35)
    assert symmetric_kl(0.5 * a + 0.5 * b, mixed).item() == pytest.approx(0.0059723, abs=1e-6)
    assert kl(a, mixed).item() == pytest.approx(0.0830609, abs=1e-6)
    assert symmetric_kl(a, b).item() == pytest.approx(0.5675706, abs=1e-6)


def test_a_choice_among_classes_without_background_is_one_distribution() -> None:
    p = torch.tensor([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    assert torch.equal(distribution(p, "softmax_fg"), p)
    assert normalized_entropy(p, "softmax_fg").tolist() == pytest.approx([0.937231, 1.0], abs=1e-6)
