"""The make-believe GPU itself: it refuses what CUDA refuses, and counts what makes a host wait."""

from typing import Any

import pytest
import torch

from al_lab.data.device import constant, sent
from al_lab.learners.reading import Reading
from tests.device import pretend
from tests.device.runtime import pretend_cuda

GPU = torch.device("cuda", 0)


def _kinds() -> list[str]:
    kinds = [kind for (kind, _, _), count in pretend.EVENTS.items() for _ in range(count)]
    pretend.EVENTS.clear()
    return sorted(kinds)


def test_two_devices_in_one_operator_are_refused(guard: Any) -> None:
    with pretend_cuda(guard):
        there = torch.ones(3, device=GPU)
        assert there.is_cuda and (there + there).device == GPU
        for mixture in (lambda: there + torch.ones(3), lambda: torch.cat([there, torch.ones(3)])):
            with pytest.raises(pretend.DeviceMismatch, match="cuda:0 and cpu"):
                mixture()
        with pytest.raises(pretend.DeviceMismatch, match="indices on cuda"):
            torch.ones(3)[there.long()]
        assert (there * torch.tensor(2.0)).sum().item() == 6  # a number may stand beside it


def test_what_makes_a_host_wait_is_counted(guard: Any) -> None:
    with pretend_cuda(guard):
        values = torch.arange(4.0).to(GPU)
        assert _kinds() == ["copy"]
        values.sum().item()
        assert _kinds() == ["wait"]
        values[values > 1], values.nonzero(), values.tolist()
        assert _kinds() == ["wait"] * 3
        torch.zeros(2, device=GPU), torch.full((), 3.0, device=GPU), values * 2, values[values.long()]
        assert _kinds() == []
        values.new_tensor([1.0])
        assert _kinds() == ["copy"]


def test_our_ways_of_sending_numbers_do_not(guard: Any) -> None:
    with pretend_cuda(guard):
        like = torch.zeros(1, device=GPU)
        assert sent([5, 7], GPU).tolist() == [5, 7]
        assert _kinds() == ["async", "wait"]
        constant((1.25, 2.25), like)
        constant((1.25, 2.25), like)
        assert _kinds() == ["copy"]  # once for all


def test_a_number_is_there_when_it_was_waited_for_and_not_before(guard: Any) -> None:
    with pretend_cuda(guard):
        loss = torch.full((), 2.5, device=GPU)
        early = loss.to("cpu", non_blocking=True)
        assert early.isnan()
        reading = Reading({"loss": loss, "weight": torch.tensor(0.5), "count": torch.full((), 3, device=GPU)})
        pretend.EVENTS.clear()
        assert reading.read() == {"loss": 2.5, "weight": 0.5, "count": 3.0}
        assert _kinds() == ["wait"]
        assert early == 2.5  # it was on its way before


def test_torch_is_as_before_afterwards(guard: Any) -> None:
    with pretend_cuda(guard):
        pass
    assert not torch.cuda.is_available()
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(1, device=GPU)
