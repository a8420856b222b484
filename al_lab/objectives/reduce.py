"""The loss normalizer over all devices, so that two processes minimize what one would."""

import torch
from torch import Tensor


def global_positives(count: Tensor) -> Tensor:
    """Return the share of the global number of positives by which this process divides its sums.

    Distributed training averages gradients over W processes. Dividing each process's sum by (total positives / W)
    therefore gives the sum over all processes divided by the total, which is what one process with the whole batch
    computes.

    Args:
        count: positives of this process, any shape; summed.

    Returns:
        Scalar float tensor, max(total, 1) / W.
    """
    return of_all_processes(count).clamp(min=1) / num_processes()


def of_all_processes(count: Tensor) -> Tensor:
    """Return the sum of a number over all processes, a scalar float tensor without a gradient."""
    total = count.detach().sum().float()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def num_processes() -> int:
    """Return W: a loss that is a plain sum over images is multiplied by it, as gradients are averaged."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1
