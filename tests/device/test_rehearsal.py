"""Every objective on every network trains and looks on a make-believe GPU as it does on the CPU, and hardly waits."""

import collections
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.cases import DETECTION, DETECTORS, SEGMENTATION, SEGMENTERS, Rehearsal, Unordered, rehearse
from tests.device.runtime import pretend_cuda

CASES = [(n, o) for n in DETECTORS for o in DETECTION] + [(n, o) for n in SEGMENTERS for o in SEGMENTATION]
FAST = {("tiny", "csd_pl"), ("tiny", "isd"), ("tiny_segmenter", "density")}
#: How often the host may wait for the device in a training step: once for the loss of the step before, and once for
#: each selection of anchors (positives, hard negatives; consistent ones; ISD's three; SED's four).
WAITS = {"supervised": 3, "csd": 4, "csd_pl": 4, "isd": 7, "sed": 7, "density": 1, "ripu": 1, "segment": 1,
         "fda": 1, "mada": 1, "adversarial": 1}  # fmt: skip
#: Copies that are no wait: a batch is 3 tensors (dense: 4), the rest are small numbers that change from step to step.
COPIES = {"supervised": 5, "csd": 7, "csd_pl": 8, "isd": 9, "sed": 11, "density": 5, "ripu": 5, "segment": 5,
          "fda": 5, "mada": 5, "adversarial": 5}  # fmt: skip
#: Networks that pad their batches send one small number more, what of it is image; and begin with all but equal
#: confidences, so that last digits decide which of two boxes stays: of so many boxes' share.
PADS, TIED = ("retinanet",), 0.02
#: Of the first loss, relative to float32's; bfloat16 has 8 bits of precision, float16 11.
HALF = {"bf16-mixed": 0.05, "16-mixed": 0.02}


def _marks(net: str, objective: str) -> Any:
    return pytest.param(net, objective, marks=() if (net, objective) in FAST else pytest.mark.slow)


@pytest.fixture(scope="session")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what a case gives on the CPU in float32."""

    @cache
    def run(net: str, objective: str) -> Rehearsal:
        return rehearse(net, objective, 32, tmp_path_factory.mktemp(f"{net}-{objective}"))

    return run


def _total(events: dict[tuple[str, str, str], float]) -> dict[str, float]:
    total: collections.Counter[str] = collections.Counter()
    for (kind, _, _), count in events.items():
        total[kind] += count
    return total


def _where(events: dict[tuple[str, str, str], float]) -> Iterator[str]:
    for (kind, what, place), count in sorted(events.items(), key=lambda item: -item[1]):
        yield f"{count:5.1f} {kind:6} {what} at {place}"


def _assert_near(ours: Any, theirs: Any, tied: float) -> None:
    if not isinstance(ours, Unordered):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        return
    is_near = np.isclose(ours.rows[:, None], theirs.rows[None], rtol=1e-3, atol=1e-3).all(-1)
    few = tied * max(is_near.shape)
    assert (~is_near.any(0)).sum() <= few and (~is_near.any(1)).sum() <= few


@pytest.mark.parametrize(("net", "objective"), [_marks(*case) for case in CASES])
def test_float32_is_that_of_the_cpu_and_the_host_hardly_waits(
    net: str, objective: str, guard: Any, on_cpu: Any, tmp_path: Path
) -> None:
    with pretend_cuda(guard):
        got = rehearse(net, objective, 32, tmp_path)
    expected = on_cpu(net, objective)
    np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-5)
    for ours, theirs in zip(got.found, expected.found, strict=True):
        _assert_near(ours, theirs, TIED if net in PADS else 0)
    total, where = _total(got.events), "\n".join(_where(got.events))
    assert total["copy"] == 0, where
    assert total["staged"] == 0 or objective == "sed", where  # torchvision's turn of the color circle
    assert total["wait"] <= WAITS[objective], where
    assert total["async"] <= COPIES[objective] + (net in PADS), where


@pytest.mark.parametrize("precision", sorted(HALF))
@pytest.mark.parametrize(("net", "objective"), [_marks(*case) for case in CASES])
def test_half_precision_is_finite_and_near(
    net: str, objective: str, precision: str, guard: Any, on_cpu: Any, tmp_path: Path
) -> None:
    with pretend_cuda(guard):
        got = rehearse(net, objective, precision, tmp_path)
    assert np.isfinite(got.losses).all()
    assert got.losses[0] == pytest.approx(on_cpu(net, objective).losses[0], rel=HALF[precision])
    assert all(np.isfinite(v.rows if isinstance(v, Unordered) else v).all() for v in got.found)
    # The scaler of float16's gradients reads whether any was infinite.
    assert _total(got.events)["wait"] <= WAITS[objective] + (precision == "16-mixed"), "\n".join(_where(got.events))
