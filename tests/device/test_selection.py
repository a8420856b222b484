"""Selections on a make-believe GPU: the picks of a CPU, and a host that does not wait for each of them."""

from typing import Any

import numpy as np
import torch

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
