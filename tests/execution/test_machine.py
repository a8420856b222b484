"""GPUs that torch can't use are a sentence, never a training on the CPU in silence."""

import os
from pathlib import Path

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.execution import machine


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that lists one GPU, which torch does not take."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    answer = 'case $1 in --list-gpus) echo "GPU 0: A100 (UUID: GPU-a)";; *) echo 470.82.01;; esac'
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2, 0", ["2", "0"]),
        ("1,-1,0", ["1"]),
        ("GPU-8932f937,MIG-GPU-1/0/0", ["GPU-8932f937", "MIG-GPU-1/0/0"]),
    ],
)
def test_the_gpus_that_are_visible(value: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert machine.visible_gpus() == names


@pytest.mark.parametrize(
    ("cuda", "found", "do"),
    [("13.0", "for CUDA 13.0 and driver 470.82.01", "update the driver"), (None, "made for CPUs", "CUDA build")],
)
@pytest.mark.usefixtures("driver")
def test_a_driver_that_torch_cannot_use_is_named(
    cuda: str | None, found: str, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(ConfigError, match=rf"expected a torch that can use GPU 0, got .*{found}.*{do}"):
        machine.check_gpu()


@pytest.mark.usefixtures("driver")
def test_the_cpu_on_purpose_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as a worker has it with executor.gpus=0
    machine.check_gpu()


def test_a_name_on_a_machine_without_any_gpu_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(machine, "_ask_driver", lambda *_: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "none")
    machine.check_gpu()
    monkeypatch.setattr(machine, "_DRIVER", tmp_path)  # the driver is there and answers nothing
    with pytest.raises(ConfigError, match="expected a torch that can use GPU 0"):
        machine.check_gpu()


@pytest.mark.usefixtures("driver")
def test_gpus_that_torch_uses_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    machine.check_gpu()


def test_where_the_number_of_loaders_is_left_open_a_cluster_is_asked_for_eight() -> None:
    assert [machine.loaders_to_ask(n) for n in (0, 3, "auto")] == [0, 3, 8]
