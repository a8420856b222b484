"""What this machine offers: CPU cores and GPUs, found without importing torch."""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from al_lab.core.errors import ConfigError, explain

# What a process started by a launcher carries; a worker that inherited it would join somebody else's group.
_LAUNCHER = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_JOB_NAME",
    "AL_LAB_CORES",
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "AL_LAB_THREADS",
)
#: Loader processes a device for which a cluster is asked where their number is left open: the node that will run the
#: job, and its cores, are not known yet.
_LOADERS = 8
_DRIVER = Path("/proc/driver/nvidia")
_GPU_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_GPU_LINE = re.compile(r"^GPU (\d+):(?:.*\(UUID: (\S+)\))?", re.MULTILINE)


def cpu_count() -> int:
    """Count the cores this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or "max": no quota
    return max(1, cores)


def cores_of_job() -> int:
    """Count the cores that a job may use here: what an executor said, what SLURM gave its task, or all there are."""
    said = (os.environ.get(name, "") for name in ("AL_LAB_CORES", "SLURM_CPUS_PER_TASK"))
    return min([cpu_count(), *(int(text) for text in said if text.isdecimal() and int(text))])


def visible_gpus() -> list[str]:
    """Name the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; empty without a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # As CUDA reads it: what comes after a name that is none does not count (older SLURMs write NoDevFiles).
        return list(itertools.takewhile(_GPU_NAME.fullmatch, map(str.strip, visible.split(","))))
    return [index for index, _ in _driver_lists()]


def card_ids(names: Sequence[str]) -> dict[str, str]:
    """Return what identifies each GPU on this machine, whichever way CUDA_VISIBLE_DEVICES names it.

    Args:
        names: indices, UUIDs or their beginnings.

    Returns:
        Each name's UUID as the driver gives it; without a driver, or for a part of a GPU (MIG), the name itself.
    """
    known = _driver_lists()
    of_index = dict(known)
    starts = {name: [uuid for _, uuid in known if uuid.startswith(name)] for name in names}
    return {name: of_index.get(name) or (starts[name][0] if len(starts[name]) == 1 else name) for name in names}


def check_gpu() -> None:
    """Refuse to train on a CPU where this process was given a GPU, which torch does in silence.

    Raises:
        ConfigError: with the reason and what to do.
    """
    reason = unusable_gpus()
    if reason is not None:
        found, remedy = reason
        raise ConfigError(
            explain(
                expected=f"a torch that can use GPU {','.join(visible_gpus())}",
                got=found,
                where="torch",
                do=f"{remedy}; executor.gpus=0 trains on the CPU on purpose",
            )
        )


def unusable_gpus() -> tuple[str, str] | None:
    """Return why torch can't use the GPUs that are visible, and what to do; None if it can, or there are none."""
    if not visible_gpus():
        return None
    import torch

    if torch.cuda.is_available():
        return None
    if not _driver_lists() and not _DRIVER.exists():
        return None  # a launcher may name GPUs on a machine that has none, as submitit does for its local processes
    if torch.version.cuda is None:
        return f"torch {torch.__version__}, which is made for CPUs", "install its CUDA build (make setup)"
    driver = _ask_driver("--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0] or "none that answers"
    return (
        f"torch {torch.__version__} for CUDA {torch.version.cuda} and driver {driver}",
        f"update the driver to one that knows CUDA {torch.version.cuda} (nvidia-smi's first lines name the newest it "
        "knows), or install a torch that is made for that one",
    )


def loaders_to_ask(num_workers: int | str) -> int:
    """Return how many loader processes a device a cluster is asked for.

    Args:
        num_workers: the value of ``runtime.num_workers``; a word leaves it to the machine that runs the job.
    """
    return num_workers if isinstance(num_workers, int) else _LOADERS


def _driver_lists() -> list[tuple[str, str]]:
    """Return index and UUID of each GPU that the driver knows."""
    return _GPU_LINE.findall(_ask_driver("--list-gpus"))


def _ask_driver(*question: str) -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        answer = subprocess.run(["nvidia-smi", *question], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def worker_environment(threads: int, gpus: list[str] | None = None) -> dict[str, str]:
    """Compose the environment of a worker: its threads, its GPUs, our import path, no launcher's variables.

    Args:
        threads: for every library that starts threads of its own; set before the process starts, most read it once.
        gpus: names for CUDA_VISIBLE_DEVICES; None leaves the variable as it is.
    """
    env = {name: value for name, value in os.environ.items() if name not in _LAUNCHER}
    env |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    # A worker must find what this process found, also a module beside the script it was started with.
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(str(Path(entry).absolute()) for entry in sys.path))
    if gpus is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts; CUDA itself begins with the fastest
    return env


@contextlib.contextmanager
def changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Let processes that start in the block inherit these variables."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
