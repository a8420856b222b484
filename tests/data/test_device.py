"""Small numbers on a device; what a GPU makes of them, tests/device looks at."""

import torch

from al_lab.data.device import constant, sent


def test_a_constant_has_type_and_numbers_and_is_made_once() -> None:
    like = torch.zeros(3, dtype=torch.float64)
    assert constant((0.1, 0.2), like).tolist() == [0.1, 0.2]
    assert constant((0.1, 0.2), like) is constant([0.1, 0.2], like)
    assert constant((0.1, 0.2), like.float()).dtype == torch.float32


def test_a_constant_first_asked_for_in_inference_can_be_trained_with() -> None:
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        constant((3.25, 4.5), weight)
    (weight * constant((3.25, 4.5), weight)).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [3.25, 4.5]


def test_numbers_arrive() -> None:
    assert sent([3, 1], torch.device("cpu")).tolist() == [3, 1]
    assert sent(torch.tensor([2.5]), torch.device("meta")).shape == (1,)
