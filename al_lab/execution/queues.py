"""Where submitted jobs wait and run: SLURM's queue, or processes of this machine that stand in for it."""

import abc
import contextlib
import getpass
import logging
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

ALIVE, ENDED, INTERRUPTED = "alive", "ended", "interrupted"
# States of SLURM that are final; the second kind is the cluster's doing (scancel, preemption, a node that went down).
_FINAL = frozenset({"COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"})
_INTERRUPTED = frozenset({"BOOT_FAIL", "CANCELLED", "NODE_FAIL", "PREEMPTED", "REVOKED"})
# Reasons for which a job waits that seldom pass by themselves; the others are a matter of time.
_HELD = re.compile(
    r"PartitionConfig|PartitionNodeLimit|PartitionTimeLimit|PartitionDown|PartitionInactive|BadConstraints|Invalid|"
    r"JobHeld|PerJob|PerNode|DependencyNeverSatisfied|NodeNotAvail|AccountNotAllowed|QOSNotAllowed"
)
_GPUS = re.compile(r"\bgpu:(?:[^:,()]+:)?(\d+)")
_ANSWER_S = 30  # for a command of SLURM's
_STARTS_MS = 1000  # a process may take this long to have a command line
_FLAGS, _KERNEL_THREAD = 5, 0x00200000  # where /proc/PID/stat has the flags, counted after the state; PF_KTHREAD


class JobQueue(abc.ABC):
    """What becomes of submitted jobs."""

    @abc.abstractmethod
    def state(self, job_id: str) -> str:
        """Return ALIVE, ENDED or INTERRUPTED."""

    @abc.abstractmethod
    def cancel(self, job_ids: Iterable[str]) -> None:
        """Ask jobs to end."""

    def of_run(self, run_id: str) -> list[str]:
        """Return the living jobs of a run, which the queue knows by their name."""
        return []


class SlurmQueue(JobQueue):
    """This user's jobs, as squeue lists them: those that ended stay in its list for a few minutes, with their state.

    Not sacct: many clusters keep no accounts.

    Args:
        seconds: how long a listing is good for.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._jobs: dict[str, tuple[str, str, str]] | None = None  # id -> state, reason, name
        self._looked_at = -math.inf
        self._has_said: set[str] = set()

    def state(self, job_id: str) -> str:
        """See `JobQueue.state`; while squeue does not answer, nothing has ended."""
        jobs = self._list()
        if jobs is None:
            return ALIVE
        state, reason, _ = jobs.get(job_id, ("COMPLETED", "", ""))
        if state == "PENDING" and _HELD.search(reason) and job_id not in self._has_said:
            self._has_said.add(job_id)
            log.warning(
                "SLURM does not start job %s, for %s: see what it asks for (scontrol show job %s) and what nodes have "
                "(sinfo --Node --long); executor.options asks for something else; waiting",
                job_id, reason, job_id,
            )  # fmt: skip
        return INTERRUPTED if state in _INTERRUPTED else ENDED if state in _FINAL else ALIVE

    def cancel(self, job_ids: Iterable[str]) -> None:
        """See `JobQueue.cancel`."""
        ids = list(job_ids)
        self._looked_at = -math.inf
        if ids and _answer(["scancel", *ids]) is None:
            log.warning("scancel does not answer: end the jobs %s by hand", " ".join(ids))

    def of_run(self, run_id: str) -> list[str]:
        """See `JobQueue.of_run`."""
        jobs = self._list() or {}
        return [i for i, (*_, name) in jobs.items() if name.endswith(f"-{run_id}") and self.state(i) == ALIVE]

    def _list(self) -> dict[str, tuple[str, str, str]] | None:
        if time.monotonic() - self._looked_at >= self.seconds:
            command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%j"]
            listing = _answer([*command, f"--user={getpass.getuser()}"])
            self._jobs = None if listing is None else dict(map(_read, listing.splitlines()))
            self._looked_at = time.monotonic()
        return self._jobs


class LocalQueue(JobQueue):
    """Processes that submitit started on this machine; a job's id is a process' number."""

    def state(self, job_id: str) -> str:
        """See `JobQueue.state`."""
        process = Path("/proc", job_id)
        try:
            # A command line is empty for a moment after exec, and for good once the process is a zombie.
            for _ in range(_STARTS_MS):
                command = (process / "cmdline").read_bytes()
                if command or not _is_starting(process):
                    break
                time.sleep(0.001)
        except OSError:
            return ENDED
        return ALIVE if b"submitit" in command else ENDED  # its own process, not a later one of the same number

    def cancel(self, job_ids: Iterable[str]) -> None:
        """See `JobQueue.cancel`."""
        for job_id in job_ids:
            if self.state(job_id) == ALIVE:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job_id), signal.SIGTERM)


def _is_starting(process: Path) -> bool:
    """Whether a process without a command line will have one: it is no zombie, and not one of the kernel's."""
    state, *numbers = (process / "stat").read_text().rpartition(")")[2].split()
    return state not in "ZX" and not int(numbers[_FLAGS]) & _KERNEL_THREAD


def open_queue(cluster: str, seconds: float) -> JobQueue:
    """Return the queue of ``slurm`` or ``local``."""
    return SlurmQueue(seconds) if cluster == "slurm" else LocalQueue()


def job_name(run_id: str | None, word: str = "al_lab") -> str:
    """Return the name that a run's jobs have in the queue."""
    return word if run_id is None else f"{word}-{run_id}"


def cores_of_nodes(partition: str | None, per_gpu: bool) -> int | None:
    """Return the cores of SLURM's largest node, or how many there are for each of its GPUs; None if sinfo is silent.

    Args:
        partition: of the nodes; None: all.
        per_gpu: nodes with GPUs alone count.
    """
    choice = [f"--partition={partition}"] if partition else []
    listing = _answer(["sinfo", "--noheader", "--Node", "--format=%c|%G", *choice])
    found = []
    for line in (listing or "").splitlines():
        cores, _, resources = line.strip().partition("|")
        gpus = sum(map(int, _GPUS.findall(resources)))
        if cores.isdecimal() and (gpus or not per_gpu):
            found.append(int(cores) // gpus if per_gpu else int(cores))
    return max(found, default=None)


def _read(line: str) -> tuple[str, tuple[str, str, str]]:
    job_id, state, reason, name = [*line.strip().split("|", 3), "", "", ""][:4]
    return job_id, (state or "RUNNING", reason, name)


def _answer(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("%s does not answer: %s", command[0], error)
        return None
