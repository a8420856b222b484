"""A full GPU is told from other errors without torch, and a process lets go of what it keeps."""

import sys
from types import SimpleNamespace

import pytest

from al_lab.execution.memory import empty_cache, is_out_of_memory


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


def wrapped(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception as error:
            raise ValueError("a training failed") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OutOfMemoryError("Tried to allocate 2 GiB"), True),
        (wrapped(OutOfMemoryError("Tried to allocate 2 GiB")), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA out of memory"), False),
        (MemoryError(), False),
    ],
)
def test_what_says_that_a_gpu_is_full(error: Exception, is_full: bool) -> None:
    assert is_out_of_memory(error) is is_full


@pytest.mark.parametrize("is_used", [True, False])
def test_a_process_that_used_a_gpu_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch, is_used: bool) -> None:
    did = []
    cuda = SimpleNamespace(is_initialized=lambda: is_used, empty_cache=lambda: did.append("emptied"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    empty_cache()
    assert did == (["emptied"] if is_used else [])
