"""PPAL's running quality of classes: numbers of the fact sheet."""

import pytest
import torch

from al_lab.models.detectors.branches.branch import Site
from al_lab.models.detectors.branches.class_quality import ClassQualityBranch

SITE = Site(2, 2, "sigmoid", (4,), (3,))


def after(values: list[float], decay: str) -> tuple[list[float], list[float]]:
    branch, found = ClassQualityBranch(SITE), []
    for value in values:
        branch.update(torch.tensor([value, 0.0]), decay)
        found.append(branch.quality[0].item())
    return found, branch.momentum.tolist()


@pytest.mark.parametrize(
    ("values", "decay", "expected"),
    [
        ([0.5, 0, 0.6], "released", [0.005, 0.00495, 0.016791]),
        ([0.5, 0, 0.6], "intended", [0.005, 0.005, 0.016841]),
        ([0.5, 0, 0, 0, 0.6], "released", [0.005, 0.00495, 0.004851, 0.004707, 0.028164]),
        ([0.5, 0, 0, 0, 0.6], "intended", [0.005, 0.005, 0.005, 0.005, 0.028445]),
    ],
)
def test_a_class_that_is_seldom_there(values, decay, expected):
    found, momentum = after(values, decay)
    assert found == pytest.approx(expected, abs=1e-6)
    assert momentum == pytest.approx([0.99, 0.99 ** (1 + len(values))])


def test_momentum_shrinks_while_a_class_is_absent():
    assert after([0.5, 0], "released")[1][0] == pytest.approx(0.9801)


def test_a_constant_quality_is_approached():
    assert after([0.8] * 500, "intended")[0][-1] == pytest.approx(0.794744, abs=3e-6)  # in float32


def test_what_was_counted_travels_with_the_weights():
    trained, fresh = ClassQualityBranch(SITE), ClassQualityBranch(SITE)
    trained.update(torch.tensor([0.5, 0.0]), "intended")
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.quality, trained.quality) and torch.equal(fresh.momentum, trained.momentum)
    assert fresh.quality[0] > 0
