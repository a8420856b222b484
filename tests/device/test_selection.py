"""Selections on a make-believe GPU: the picks of a CPU, and a host that does not wait for each of them."""

from typing import Any

import numpy as np
import torch

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp
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
