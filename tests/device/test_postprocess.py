"""Decoding on a make-believe GPU: suppression is one call an image, and finds what a CPU finds."""

from typing import Any

import numpy as np
import pytest
import torch

from al_lab.models.detectors.boxes import BoxCoder
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.settings import Postprocess
from tests.device import pretend
from tests.device.runtime import pretend_cuda

PRIORS = even_priors([(6, 6), (3, 3)], [0.2, 0.4, 0.8], [[2.0], [2.0]])
SIZES = [(100, 200), (300, 150), (64, 64)]


@pytest.mark.parametrize("settings", [Postprocess(), Postprocess(max_per_class=None, max_per_level=20, clip=True)])
def test_a_batch_of_many_classes_has_one_call_an_image(settings: Postprocess, guard: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    network = AnchorDetector(20, (60, 60), code=BoxCoder())
    logits = 2 * torch.randn(3, len(PRIORS), 21, generator=generator)
    deltas = torch.randn(3, len(PRIORS), 4, generator=generator)
    head = HeadOutput(logits, deltas, (), PRIORS, (60, 60), (144, 36))
    expected = decode_batch(head, network, SIZES, settings)
    with pretend_cuda(guard):
        there = head._replace(**{name: getattr(head, name).to("cuda") for name in ("logits", "deltas", "priors")})
        found = decode_batch(there, network, SIZES, settings)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, rtol=1e-6)
        np.testing.assert_allclose(ours.probs, theirs.probs, rtol=1e-6)
    calls = sum(count for (_, what, _), count in pretend.EVENTS.items() if "nms" in what)
    assert calls == len(SIZES)
