"""The numbers of a training step, read by the host when they are there and not before."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Reading:
    """Some scalars on their way from the device to the host.

    They begin their way at once, behind the forward that made them and before the backward pass, all in one copy. So
    whoever reads them a step later waits for nothing that is still to be computed: a GPU has work in hand meanwhile.

    Args:
        values: scalars, detached; on a device or on the CPU.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._names = list(values)
        self._here = {name: value for name, value in values.items() if value.device.type == "cpu"}
        self._there = [name for name in values if name not in self._here]
        self._copy: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None
        if self._there:
            stacked = torch.stack([values[name].float() for name in self._there])
            self._copy = stacked.to("cpu", non_blocking=True)
            if stacked.is_cuda:
                self._arrived = torch.cuda.Event()
                self._arrived.record()

    def read(self) -> dict[str, float]:
        """Return the numbers, in the order they were given."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers = {} if self._copy is None else dict(zip(self._there, self._copy.tolist(), strict=True))
        return {name: numbers[name] if name in numbers else float(self._here[name]) for name in self._names}
