"""Selections on a make-believe GPU: the picks of a CPU, and a host that does not wait for each of them."""

from typing import Any

import numpy as np
import pytest
import torch

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp
from al_lab.core.strategy import Strategy, context_for
from al_lab.core.types import Candidates, DenseView
from al_lab.models.detectors.looks.average import DISAGREEMENT, Passes
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.strategies.general.badge import Badge
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.entropy import Entropy
from al_lab.strategies.general.margin import Margin
from al_lab.strategies.segmentation.density import Density
from al_lab.strategies.segmentation.ripu import Ripu
from tests.device import pretend
from tests.device.runtime import pretend_cuda


def waits() -> int:
    return sum(count for (kind, _, _), count in pretend.EVENTS.items() if kind in ("wait", "copy"))


def test_badge_waits_once_however_many_are_picked(guard: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    p, phi = torch.randn(200, 5, generator=generator).softmax(1), torch.randn(200, 7, generator=generator)
    counted = []
    for budget in (10, 60):
        expected = k_means_pp(GradientEmbeddings(p, phi), budget, np.random.default_rng(0))
        with pretend_cuda(guard):
            points = GradientEmbeddings(p.to("cuda"), phi.to("cuda"))
            before = waits()
            found = k_means_pp(points, budget, np.random.default_rng(0))
            counted.append(waits() - before)
        np.testing.assert_array_equal(found.order, expected.order)
        np.testing.assert_allclose(found.squared, expected.squared, rtol=1e-9)
    assert counted[0] == counted[1] > 0


def test_density_greedy_waits_a_few_times_a_block_of_picks(guard: Any) -> None:
    rng = np.random.default_rng(0)
    x, density = rng.normal(size=(600, 8)).astype(np.float32), np.exp(rng.random(600))
    bought, allowed, key = np.arange(0, 600, 50), rng.random(600) < 0.8, rng.permutation(600)
    expected = density_greedy(x, density, 128, bought, is_candidate=allowed, tie_key=key)
    with pretend_cuda(guard):
        there = torch.from_numpy(x).to("cuda")
        before = waits()
        found = density_greedy(there, density, 128, bought, is_candidate=allowed, tie_key=key)
        waited = waits() - before
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_allclose(found.radius, expected.radius, rtol=1e-5)
    assert 0 < waited < 40  # for 128 picks, with what the arguments cost


def test_passes_with_dropout_agree_and_disagree_there_as_on_a_cpu(guard: Any) -> None:
    torch.manual_seed(0)
    network = TinyDetector(2, 32, (8, 8, 16, 16, 16), dropout={"p": 0.3}).eval()
    images, valid_hw = torch.randn(2, 3, 32, 32), torch.tensor([[32, 32]] * 2)

    def look(device: str, count: int) -> torch.Tensor:
        with torch.inference_mode():
            there = images.to(device)
            head = Passes(count, seed=1).look(network, network.look(there, valid_hw), there)
        return head.extra[DISAGREEMENT]

    expected = look("cpu", 9)
    with pretend_cuda(guard):
        network.to("cuda")
        counted = []
        for count in (3, 9):
            before = waits()
            found = look("cuda", count)
            counted.append(waits() - before)
        assert counted[0] == counted[1]  # no pass is waited for
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-6)


#: what a strategy picks in an image, and how often the host may wait for it; none waits once a pick
PIXELS = {
    "entropy": (Entropy, 9),
    "margin": (Margin, 9),
    "ripu": (Ripu, 11),
    "core_set": (CoreSet, 30),
    "density": (Density, 34),
    "badge": (Badge, 15),
}


@pytest.mark.parametrize("name", sorted(PIXELS))
def test_every_strategy_of_pixels_picks_there_what_it_picks_on_a_cpu(guard: Any, name: str) -> None:
    make, budget = PIXELS[name]
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(4, 40, 48, generator=generator).softmax(0)
    features, error = torch.randn(8, 10, 12, generator=generator), torch.rand(10, 12, generator=generator)
    bought = np.zeros((40, 48), bool)
    bought[::13, ::11] = True

    def propose(device: str) -> Candidates:
        # one in ten million of a difference would not change a pick: numbers are drawn, not trained
        view = DenseView(
            "a",
            (40, 48),
            probs.to(device),
            features=features.to(device),
            extras={"error": error.to(device)},
            bought=bought,
        )
        strategy: Strategy = make()
        unit = "region" if name == "ripu" else "pixel"
        return strategy.propose(view, context_for(0, 1, "a", unit, quota=40, share=0.02))

    expected = propose("cpu")
    with pretend_cuda(guard):
        before = waits()
        found = propose("cuda")
        waited = waits() - before
    assert expected.center is not None and found.center is not None and len(expected.center) == 40
    np.testing.assert_array_equal(found.center, expected.center)
    np.testing.assert_allclose(found.utility, expected.utility, rtol=1e-5)
    assert 0 < waited <= budget
