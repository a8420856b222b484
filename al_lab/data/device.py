"""Small numbers on a device, without making the host wait for it.

A tensor made on a GPU from Python numbers is a copy from ordinary memory, for which the host waits until everything
before it is computed. So constants are copied once and kept, and what changes from step to step goes through
page-locked memory.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a tensor (N,) of numbers that occur again and again; it is shared, so nobody may change it.

    Args:
        values: N numbers.
        like: gives type and device.
    """
    return _kept(tuple(values), like.dtype, like.device)


@functools.lru_cache(maxsize=512)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # whoever asks first, a training may use it
        return torch.tensor(values, dtype=dtype, device=device)


def sent(values: Tensor | Sequence[float], device: torch.device) -> Tensor:
    """Return numbers of the host on a device; a GPU fetches them while the host goes on."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
