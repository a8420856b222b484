"""In which numbers a device computes: what a recipe asks for, what the device can, and what ``auto`` becomes on it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from al_lab.core.errors import ConfigError, explain
from al_lab.learners.settings import TrainSettings

_BF16_SINCE = (8, 0)  # compute capability (Ampere); older cards only imitate it, slowly


def best_precision(device: torch.device) -> int | str:
    """Return what ``trainer.precision=auto`` is on a device: bf16-mixed on a card that has it, else 32."""
    return "bf16-mixed" if _has_bf16(device) else 32


def precision_on(precision: int | str, device: torch.device) -> str:
    """Return Lightning's word for a precision.

    A CPU computes in bfloat16, too; other mixtures are never taken for one another.

    Raises:
        ConfigError: if the device does not compute in it.
    """
    word = str(best_precision(device) if precision == "auto" else precision)
    lacks_it = device.type == "cpu" if word == "16-mixed" else device.type == "cuda" and not _has_bf16(device)
    if word != "32" and lacks_it:
        needed = "a GPU" if word == "16-mixed" else "a GPU of compute capability 8.0 or newer, or a CPU,"
        raise ConfigError(
            explain(
                expected=f"{needed} for trainer.precision={word}",
                got=describe(device),
                where="the device of this training",
                do="go on where the run was begun, or train in another precision as a run of its own "
                "(trainer.precision=32 name=…)",
            )
        )
    return "32-true" if word == "32" else word


def describe(device: torch.device) -> str:
    """Name a device as people do."""
    if device.type != "cuda":
        return "a CPU"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor})"


@contextlib.contextmanager
def products(tf32: bool, device: torch.device) -> Iterator[None]:
    """Say how a card multiplies float32 while the block runs; this is the only place that decides it.

    Outside of a network torch's own setting holds, and matrices (distances of a selection) are multiplied in float32.

    Args:
        tf32: convolutions and matrix products take ten bits of each number's mantissa, on cards that have TF32.
        device: a CPU is left alone.
    """
    if device.type != "cuda":
        yield
        return
    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


@contextlib.contextmanager
def as_trained(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """Let a forward outside of training compute as the training does.

    Raises:
        ConfigError: if the device can't.
    """
    word = precision_on(settings.precision, device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(products(settings.tf32, device))
        if word != "32-true":
            half = torch.float16 if word == "16-mixed" else torch.bfloat16
            stack.enter_context(torch.autocast(device.type, half))
        yield


def _has_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _BF16_SINCE
