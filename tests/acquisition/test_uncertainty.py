"""Golden vectors E-1..E-8 (AL-SSL fact sheet) and TV1 (MGRAL fact sheet)."""

import math

import pytest
import torch

from al_lab.acquisition.uncertainty import binary_entropy, entropy, least_confidence, margin


def one_and_rest(p: float, num_classes: int = 21) -> list[float]:
    return [p] + [(1 - p) / (num_classes - 1)] * (num_classes - 1)


@pytest.mark.parametrize(
    ("probs", "nats", "normalized"),
    [
        ([0.1, 0.2, 0.7], 0.80181855, 0.72984670),  # E-1
        ([0.5, 0.5, 0.0], 0.69314718, 0.63092975),  # E-2: 0 log 0 = 0
        ([0.0, 1.0, 0.0], 0.0, 0.0),  # E-3
        ([1 / 21] * 21, 3.04452244, 1.0),  # E-4
        (one_and_rest(0.5), 2.19101332, 0.71965747),  # E-5
        (one_and_rest(0.99), 0.08595886, 0.02823394),  # E-6
        ([0.5, 0.5] + [0.0] * 19, 0.69314718, 0.22767025),  # E-7
        (torch.tensor([2.0, 1, 0, -1], dtype=torch.float64).softmax(0).tolist(), 0.94753696, 0.68350349),  # E-8
    ],
)
def test_entropy_vectors(probs: list[float], nats: float, normalized: float) -> None:
    p = torch.tensor(probs, dtype=torch.float64)
    assert entropy(p).item() == pytest.approx(nats, abs=1e-6)
    assert entropy(p, normalized=True).item() == pytest.approx(normalized, abs=1e-6)


def test_tv1() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.05, 0.9, 0.05]])
    torch.testing.assert_close(entropy(p), torch.tensor([0.801819, 1.054920, 0.394398]), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        entropy(p, normalized=True), torch.tensor([0.729847, 0.960230, 0.358996]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        binary_entropy(torch.tensor([0.9, 0.6, 0.3])), torch.tensor([0.325083, 0.673012, 0.610864]), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(least_confidence(p), torch.tensor([0.3, 0.6, 0.1]))
    torch.testing.assert_close(margin(p), torch.tensor([0.5, 0.0, 0.85]))


def test_dense_maps_reduce_the_class_axis() -> None:
    p_CHW = torch.rand(5, 3, 4).softmax(0)
    columns = p_CHW.permute(1, 2, 0)
    for f in (entropy, least_confidence, margin):
        torch.testing.assert_close(f(p_CHW, dim=0), f(columns))


def test_certainty_is_exactly_zero_and_halves_are_computed_in_float32() -> None:
    certain = torch.tensor([0.0, 1.0])
    assert binary_entropy(certain).tolist() == [0.0, 0.0]
    assert math.copysign(1, entropy(certain).item()) == 1  # not -0.0, which would print as one
    uniform = torch.full((81,), 1 / 81, dtype=torch.bfloat16)
    assert entropy(uniform).dtype == torch.float32


def test_margin_of_a_map_has_the_digits_of_sorted_classes() -> None:
    p = torch.randint(0, 4, (5, 30, 40)) / 7  # ties of all kinds
    p[2, 3, 4] = torch.nan
    top = p.sort(0, descending=True).values
    assert torch.equal(margin(p, dim=0).nan_to_num(9), (top[0] - top[1]).nan_to_num(9))
    assert margin(p, dim=0)[3, 4].isnan() and torch.equal(margin(p[:2, :2], dim=0), (p[0, :2] - p[1, :2]).abs())


def test_margin_of_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        margin(torch.ones(4, 1))
