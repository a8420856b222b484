"""One fresh Lightning Trainer a training, in the calling process; nothing here ever starts another process."""

import contextlib
import ctypes
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
    LightningEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies import DDPStrategy

from al_lab.core.errors import ConfigError, LabError, explain
from al_lab.learners.device.precision import precision_on
from al_lab.learners.module import FitModule
from al_lab.learners.settings import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that share a training this one is; one process alone is rank 0 of 1."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of_this_process(cls, devices: int) -> "Ranks":
        """Read what the executor set: RANK, WORLD_SIZE, LOCAL_RANK.

        Raises:
            ConfigError: if another number of processes was started than the task asks for.
        """
        if devices == 1 or "WORLD_SIZE" not in os.environ:
            if devices > 1:
                log.warning(
                    "the training asks for %d devices but runs as one process; the result is the same up to rounding",
                    devices,
                )
            return cls()
        world = int(os.environ["WORLD_SIZE"])
        if world != devices:
            raise ConfigError(
                explain(
                    expected=f"{devices} processes",
                    got=f"WORLD_SIZE={world}",
                    where="FitTask.devices",
                    do="start one process a device, or change runtime.devices",
                )
            )
        return cls(int(os.environ["RANK"]), world, int(os.environ["LOCAL_RANK"]))


class _Alone(LightningEnvironment):
    """One process that never looks for others."""

    def teardown(self) -> None:
        """Leave the variables of the process alone; Lightning's own deletes WORLD_SIZE."""


def limit_threads() -> None:
    """Use AL_LAB_THREADS torch threads (default 1): several one-thread workers beat one process with many."""
    torch.set_num_threads(int(os.environ.get("AL_LAB_THREADS", "1")))


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one; elsewhere nothing happens.

    By default it hands large blocks back to the system at once, and every step faults the same pages in again: a
    quarter to a third of a step's time on small CPUs. The process stays as large as it was at its peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
        for parameter, value in ((-3, 32 << 20), (-1, (1 << 31) - 1), (-2, 64 << 20)):
            mallopt(parameter, value)


def this_device(ranks: Ranks = Ranks()) -> torch.device:  # noqa: B008 - frozen
    """Return the device of this process: its GPU if one is visible, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", min(ranks.local, torch.cuda.device_count() - 1))


@contextlib.contextmanager
def repeatable(is_wanted: bool) -> Iterator[None]:
    """Let a GPU's training of one seed give the same numbers every time; a CPU's does anyway.

    Sums that many threads add to come out in another order each time. Torch has slower operators without that, for
    nearly everything; of what is left it warns by name.
    """
    if not (is_wanted and torch.cuda.is_available()):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when a matrix is first multiplied
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def run_steps(
    module: FitModule, batches: Any, steps: int, settings: TrainSettings, callbacks: Sequence[pl.Callback], ranks: Ranks
) -> None:
    """Run ``steps`` optimizer steps over ``batches``.

    Raises:
        DivergedError: at a loss that is not finite.
    """
    with _quiet(), _sigint_kept(), worker_errors():
        trainer = pl.Trainer(
            max_steps=steps,
            max_epochs=-1,
            callbacks=list(callbacks),
            precision=precision_on(settings.precision, this_device(ranks)),  # type: ignore[arg-type]
            gradient_clip_val=settings.grad_clip,
            gradient_clip_algorithm="norm",
            use_distributed_sampler=False,
            # Our own checkpoints, log and progress file: resuming is by step, not by Lightning's loop state.
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **_placement(module, ranks),
        )
        trainer.fit(module, train_dataloaders=batches)
        module.check_loss()


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Keep the sentence of our errors: torch makes the message of a loader process's error its whole traceback."""
    try:
        yield
    except LabError as error:
        head, _, sentence = str(error).rpartition(f"{type(error).__name__}: ")
        if not head.startswith("Caught "):
            raise
        raise type(error)(sentence.strip()) from error


def _placement(module: FitModule, ranks: Ranks) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    device = this_device(ranks)
    if ranks.world == 1:
        # Named, so that Lightning doesn't take a cluster's variables for an order to start processes.
        return {
            "accelerator": "gpu" if on_gpu else "cpu",
            "devices": [device.index] if on_gpu else 1,
            "plugins": [_Alone()],
        }
    # Lightning counts the devices it can see; a process that sees only its own must still join the others.
    local = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.world))
    devices = [
        torch.device("cuda", min(n, torch.cuda.device_count() - 1)) if on_gpu else torch.device("cpu")
        for n in range(local)
    ]
    strategy = DDPStrategy(
        parallel_devices=devices,
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend="nccl" if on_gpu else "gloo",
        # of an objective that trains part of a network at some steps: the others' gradients stay absent
        find_unused_parameters=bool(getattr(module.objective, "has_unused", False)),
    )
    has_norm = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.training for m in module.modules())
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": local,
        "num_nodes": ranks.world // local,
        "strategy": strategy,
        "sync_batchnorm": on_gpu and has_norm,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's remarks on choices made here on purpose."""
    remarks = logging.getLogger("pytorch_lightning")
    level = remarks.level
    remarks.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in (
            "does not have many workers",
            "GPU available but not used",
            "is smaller than the logging interval",
            "You defined a `validation_step`",
            "LeafSpec",
            "in eval mode at the start of training",
            "not set. Set as localhost",
            "command is available on your system but is not used",  # of srun: the executor starts the processes
        ):
            warnings.filterwarnings("ignore", message=f".*{text}.*")
        try:
            yield
        finally:
            remarks.setLevel(level)


@contextlib.contextmanager
def _sigint_kept() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning turns it into exit(1) and leaves the signal ignored."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
