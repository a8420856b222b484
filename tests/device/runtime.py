"""The parts of ``torch.cuda`` and of Lightning that a make-believe GPU has to answer for, put in place for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator

from al_lab.learners import checkpoint, module, segmentation
from tests.device import pretend


class Properties:
    """Of the card."""

    name, major, minor, total_memory, multi_processor_count = "Pretend H100", 9, 0, 80 << 30, 132


class Stream:
    """The only one."""

    device_type, device_index, stream_id, cuda_stream = 1, 0, 0, 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = pretend.CUDA

    def wait_stream(self, *_: Any) -> None:
        """Nothing runs beside the host."""

    def synchronize(self) -> None:
        """Wait for everything."""
        pretend.note("wait", "stream.synchronize")

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it."""


class Event:
    """A mark in the stream: waiting for it lets the copies that were begun before it arrive."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._before: list[Any] = []

    def record(self, *_: Any) -> None:
        """Set the mark."""
        self._before = pretend.on_its_way()

    def synchronize(self) -> None:
        """Wait for what was begun before the mark, not for what came after."""
        pretend.EVENTS["wait", "event.synchronize", pretend.place()] += 1
        pretend.arrive(self._before)


_FAKES: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda *_: None,
    "get_device_capability": lambda *_: (9, 0),
    "get_device_properties": lambda *_: Properties(),
    "get_device_name": lambda *_: Properties.name,
    "is_bf16_supported": lambda *_, **__: True,
    "synchronize": lambda *_: pretend.note("wait", "cuda.synchronize"),
    "empty_cache": lambda: None,
    "current_stream": lambda *_: Stream(),
    "Stream": Stream,
    "Event": Event,
    "stream": lambda _: contextlib.nullcontext(),
    "_lazy_init": lambda: None,
    "is_initialized": lambda: True,
    "manual_seed_all": lambda *_: None,
    "manual_seed": lambda *_: None,
    "is_current_stream_capturing": lambda: False,
}


def _pin(self: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    copy = self.clone()
    copy.is_page_locked = True  # type: ignore[attr-defined]
    return copy


class _NoGrad(contextlib.ContextDecorator):
    """For inference_mode: wrapped tensors and inference tensors do not go together."""

    def __init__(self, mode: bool = True) -> None:
        self._inner: Any = torch.no_grad() if mode else contextlib.nullcontext()

    def __enter__(self) -> None:
        self._inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)


@contextlib.contextmanager
def pretend_cuda(guard: Any) -> Iterator[None]:
    """Let there be one GPU.

    Args:
        guard: the compiled module (see conftest).
    """
    tolist, fresh, step = torch.Tensor.tolist, checkpoint._fresh, module.FitModule.training_step
    configure = module.FitModule.configure_optimizers
    pretend.EVENTS.clear()
    pretend.STEPS.clear()
    lift = torch._C._only_lift_cpu_tensors()

    def to_list(self: torch.Tensor) -> Any:
        if pretend.is_mine(self):
            pretend.note("wait", "tolist")
        return tolist(self.detach().inner if pretend.is_mine(self) else self)

    def counted(self: module.FitModule, *arguments: Any) -> torch.Tensor:
        pretend.STEPS.append(pretend.EVENTS.copy())
        return step(self, *arguments)

    def with_new_parameters(self: module.FitModule) -> torch.optim.Optimizer:
        # Moving a module makes new parameters of a wrapper; a real GPU keeps the old ones.
        self.lr_groups = module._lr_groups(self.network, self.objective)
        return configure(self)

    with pytest.MonkeyPatch.context() as patch:
        for name, fake in _FAKES.items():
            patch.setattr(torch.cuda, name, fake)
        patch.setattr(torch.accelerator, "is_available", lambda: True)
        patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: pretend.CUDA)
        patch.setattr(torch, "inference_mode", _NoGrad)
        patch.setattr(segmentation, "_probs", torch.no_grad()(segmentation._probs.__wrapped__))  # decorated long ago
        patch.setattr(torch.Tensor, "tolist", to_list)
        patch.setattr(torch.Tensor, "pin_memory", _pin)
        patch.setattr(CUDAAccelerator, "setup_device", lambda *_: None)
        patch.setattr(CUDAAccelerator, "teardown", lambda *_: None)
        patch.setattr(checkpoint, "_fresh", lambda v: fresh(v.detach().inner if pretend.is_mine(v) else v))
        patch.setattr(module.FitModule, "configure_optimizers", with_new_parameters)
        patch.setattr(module.FitModule, "training_step", counted)
        guard.install()
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            with torch.autograd.set_multithreading_enabled(False), pretend.Mode():
                yield
        finally:
            torch._C._set_only_lift_cpu_tensors(lift)
            guard.uninstall()
