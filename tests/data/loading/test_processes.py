"""How many processes load images is the machine's affair."""

import os
from types import SimpleNamespace

import pytest
import torch

from al_lab.data.loading.processes import loader_processes


@pytest.mark.parametrize(
    ("cores", "threads", "gpu", "room_mb", "expected"),
    [
        (None, "1", True, 9000, 0),  # nobody said
        ("2", "1", False, 9000, 1),
        ("1", "1", False, 9000, 0),
        ("64", "1", False, 9000, 1),
        ("8", "2", True, 9000, 6),
        ("64", "1", True, 9000, 16),
        ("64", "1", True, 64, 0),  # a container's shared memory
        ("64", "1", True, 600, 2),
    ],
)
def test_automatic_takes_the_cores_that_a_job_does_not_use(
    cores: str | None, threads: str, gpu: bool, room_mb: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AL_LAB_CORES", raising=False)
    for name, value in (("AL_LAB_CORES", cores), ("AL_LAB_THREADS", threads)):
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=room_mb << 10, f_frsize=1 << 10))
    assert loader_processes("auto") == expected
    assert loader_processes(3) == 3
