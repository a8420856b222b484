"""A teacher that follows its student slowly."""

import torch
from torch import nn


def momentum(ema: float, updates: int, warmup: bool) -> float:
    """Return m of the teacher's n-th step; 0 for n = 0, which copies the student.

    With ``warmup`` m = min(ema, (n + 1) / (n + 10)), else a training of some hundred steps would end with the teacher
    it began with; a long one is the same.
    """
    if updates == 0:
        return 0.0
    return min(ema, (updates + 1) / (updates + 10)) if warmup else ema


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, m: float) -> None:
    """Move T <- m T + (1 - m) S; buffers (BatchNorm's statistics) are copied."""
    for own, its in zip(teacher.parameters(), student.parameters(), strict=True):
        own.lerp_(its, 1 - m)
    for old, new in zip(teacher.buffers(), student.buffers(), strict=True):
        old.copy_(new)
