"""How many processes load images beside a training: a property of the machine, which changes no batch."""

import os

import torch

_ON_GPU = 16  # more than a card can use, at some hundred images a second and core
_ON_CPU = 1  # a step takes a CPU far longer than its images take one core
_SHARED = "/dev/shm"  # noqa: S108 - where Linux keeps what processes share
_SHARED_BYTES = 256 << 20  # of a loader: two batches of the largest inputs, and as much again


def loader_processes(num_workers: int | str) -> int:
    """Return how many processes load images for this one.

    Args:
        num_workers: ``runtime.num_workers``: a number, or "auto": the cores an executor gave to this process
            (AL_LAB_CORES) beyond those of its threads (AL_LAB_THREADS), at most 16 with a GPU and 1 without, and no
            more than shared memory has room for (64 MB in many containers: none). Where nobody said how many cores
            there are, this process loads by itself.
    """
    if isinstance(num_workers, int):
        return num_workers
    threads = int(os.environ.get("AL_LAB_THREADS", "1"))
    spare = int(os.environ.get("AL_LAB_CORES", threads)) - threads
    return max(0, min(spare, _ON_GPU if torch.cuda.is_available() else _ON_CPU, _room() // _SHARED_BYTES))


def _room() -> int:
    try:
        disk = os.statvfs(_SHARED)
    except (OSError, AttributeError):  # AttributeError: Windows
        return _ON_GPU * _SHARED_BYTES
    return disk.f_bavail * disk.f_frsize
