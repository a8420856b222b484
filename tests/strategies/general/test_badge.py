"""BADGE of pixels: candidates, features and draws."""

import dataclasses

import numpy as np
import pytest
import torch

from al_lab.core.errors import DataError
from al_lab.core.types import DenseView
from al_lab.strategies.general.badge import Badge

SIZE_HW = (12, 16)


@pytest.fixture
def view() -> DenseView:
    g = torch.Generator().manual_seed(0)
    return DenseView(
        "b", SIZE_HW, torch.randn(4, *SIZE_HW, generator=g).mul(2).softmax(0), torch.randn(5, *SIZE_HW, generator=g)
    )


def test_the_longest_gradient_among_the_unsure_comes_first(view: DenseView, context) -> None:
    picked = Badge(alpha=3).propose(view, context(8))
    p = view.probs.flatten(1).T.double()
    unsure = torch.argsort((p * p.log()).sum(1))[:24].tolist()  # smallest sum p ln p: largest entropy
    length = (torch.nn.functional.one_hot(p.argmax(1), 4) - p).norm(dim=1) * view.features.flatten(1).norm(dim=0)
    assert set(picked.center) <= set(unsure) and len(set(picked.center)) == 8
    assert picked.center[0] == max(unsure, key=lambda t: length[t])


def test_bought_pixels_are_never_picked_and_seeds_differ(view: DenseView, context) -> None:
    first = Badge().propose(view, context(8))
    mask = np.zeros(SIZE_HW, bool)
    mask.reshape(-1)[first.center] = True
    assert not set(Badge().propose(dataclasses.replace(view, bought=mask), context(8)).center) & set(first.center)
    assert Badge().propose(view, context(8)).center.tolist() == first.center.tolist()


def test_a_diverged_network_is_named(view: DenseView, context) -> None:
    with pytest.raises(DataError, match="finite features"):
        Badge().propose(dataclasses.replace(view, features=view.features * torch.inf), context(3))
