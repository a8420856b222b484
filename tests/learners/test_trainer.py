"""Several devices compute what one would; a trainer never starts processes and leaves the process as it was."""

import csv
import inspect
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from al_lab.core.errors import ConfigError, DivergedError
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.learners.trainer import Ranks, keep_freed_memory, limit_threads
from al_lab.objectives.supervised import Supervised
from tests.learners.ranks import fit

ROOT = Path(__file__).parents[2]


def losses(log: Path) -> list[float]:
    """Read the losses of a training log."""
    with log.open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def two_ranks(run_dir: Path, steps: int, objective: str) -> list[subprocess.Popen[str]]:
    """Start a training on two devices."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.learners.ranks", str(run_dir), "2", str(steps), objective],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(r),
                "LOCAL_RANK": str(r),
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "CUDA_VISIBLE_DEVICES": "",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["supervised", "isd", "sed", "adaptation", "learning_loss", "mial"])
def test_two_gloo_processes_train_like_one(run_dir: Path, objective: str) -> None:
    steps = 6
    fit(str(run_dir), 1, steps, objective)
    ranks = two_ranks(run_dir, steps, objective)
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    one, two = (losses(run_dir / f"devices{n}" / "train_log.csv") for n in (1, 2))
    assert len(one) == steps
    assert one == pytest.approx(two, rel=1e-5, abs=1e-5)  # the log keeps six digits
    states = [load_checkpoint(run_dir / f"devices{n}" / "model.ckpt") for n in (1, 2)]
    assert states[0]["objective"].keys() == states[1]["objective"].keys()
    for part in ("state_dict", "objective"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], value, rtol=1e-4, atol=1e-5)


def test_what_the_first_device_does_alone_waits_for_no_other(
    monkeypatch: pytest.MonkeyPatch, make_learner: Callable[..., Any], make_task: Callable[..., Any]
) -> None:
    class Broken(Supervised):
        def forward(self, *args: Any) -> dict[str, torch.Tensor]:
            parts = super().forward(*args)
            return {**parts, "loss": parts["loss"] * float("nan")}

    callers = []

    def asks_all(ids: list[str]) -> list[str]:
        callers.extend(frame.function for frame in inspect.stack())
        return ids

    monkeypatch.setattr("al_lab.learners.module._ids_of_all_devices", asks_all)
    with pytest.raises(DivergedError, match="training step 0 of 8"):
        make_learner(Broken, checkpoint_steps=1, recipe={"on_divergence": {"retries": 0}}).fit(make_task())
    assert "training_step" in callers
    assert "on_train_batch_end" not in callers


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 5])  # in the middle, and the last one
def test_a_nan_on_one_of_two_devices_ends_both_with_the_sentence(run_dir: Path, step: int) -> None:
    ranks = two_ranks(run_dir, 6, f"broken_at_{step}")
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    sentences = [error.strip().splitlines()[-1].partition("DivergedError: ")[2] for error in errors]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert sentences[0] == sentences[1]
    named = rf"training step {step} of 6: expected a finite loss, got nan on the images (.*?);"
    images = re.match(named, sentences[0])
    assert images is not None
    assert len(images[1].split(", ")) == 6  # of both devices
    broken, *ended = ((run_dir / name).stat().st_mtime for name in ("broken", "ended0", "ended1"))
    assert max(ended) - broken < 30


@pytest.mark.slow
def test_two_devices_begin_again_together(run_dir: Path) -> None:
    ranks = two_ranks(run_dir, 6, "broken_once")
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    meta = load_checkpoint(run_dir / "devices2" / "model.ckpt")["meta"]
    assert meta["diverged"] == {"diverged": 1, "diverged_step": 3, "lr_factor": 1.0}
    assert len(losses(run_dir / "devices2" / "train_log.csv")) == 6


def test_the_number_of_processes_must_be_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="FitTask.devices: expected 2 processes, got WORLD_SIZE=3"):
        Ranks.of_this_process(2)


def test_a_training_of_one_device_ignores_a_launchers_variables(
    monkeypatch: pytest.MonkeyPatch, make_learner: Callable[..., Any], make_task: Callable[..., Any]
) -> None:
    for name, value in {
        "WORLD_SIZE": "4",
        "RANK": "2",
        "LOCAL_RANK": "2",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_JOB_NAME": "x",
        "SLURM_LOCALID": "2",
    }.items():
        monkeypatch.setenv(name, value)
    task = make_task()
    assert make_learner(recipe={"max_iters": 1}).fit(task)["steps"] == 1
    assert task.checkpoint.exists()
    assert os.environ["WORLD_SIZE"] == "4"


def test_ctrl_c_stays_ctrl_c(make_learner: Callable[..., Any], make_task: Callable[..., Any]) -> None:
    class Interrupted(Supervised):
        def forward(self, *args: Any) -> dict[str, torch.Tensor]:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        make_learner(Interrupted).fit(make_task())
    assert signal.getsignal(signal.SIGINT) is before


def test_threads_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LAB_THREADS", "2")
    limit_threads()
    assert torch.get_num_threads() == 2
    monkeypatch.delenv("AL_LAB_THREADS")
    limit_threads()
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_not_faulted_in_again() -> None:
    program = """
import ctypes, functools, resource, sys
{0}
keep_freed_memory()
def step(): return [b"x" * (1 << 24) for _ in range(4)]  # 64 MiB, freed at once
step(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
""".replace("{0}", inspect.getsource(keep_freed_memory))  # alone: to import torch and Lightning takes ten seconds
    faults = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert faults < 3 * 16384  # 160,000 without: 64 MiB are 16,384 pages a step
