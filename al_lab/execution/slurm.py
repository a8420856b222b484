"""Jobs on a SLURM cluster, through submitit; they outlive the process that submitted them."""

import contextlib
import dataclasses
import getpass
import importlib.util
import json
import logging
import math
import os
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, explain
from al_lab.core.files import write_json
from al_lab.execution.job import Executor, Failure, Job, Progress, log_tail, read_result
from al_lab.execution.local import run_on_this_machine
from al_lab.execution.machine import THREAD_VARIABLES, worker_environment

log = logging.getLogger(__name__)

_NETWORK_DISK_S = 60.0  # a job the queue calls finished gets this long for its files to show up


@dataclasses.dataclass
class _Submitted:
    """A job and where it is in the queue; written beside the result, for whoever waits for it next."""

    job: Job
    attempts: int = 0
    token: str = ""  # of this very submission, so that an answer to an earlier one is not taken for ours
    folder: str = ""
    job_id: str = ""
    ended: float | None = None

    @property
    def note(self) -> Path:
        return self.job.result.with_name(self.job.result.name + ".submitted")

    @property
    def refusal(self) -> Path:
        return _refusal_path(self.job)

    def write(self) -> None:
        write_json(
            self.note,
            {
                "job_hash": self.job.hash,
                "attempts": self.attempts,
                "token": self.token,
                "folder": self.folder,
                "job_id": self.job_id,
            },
        )


class SlurmTask:
    """What runs on the node; submitit pickles it by its name, and puts it back in the queue when time is up."""

    def __init__(self, threads: int, retries: int) -> None:
        self.threads = threads
        self.retries = retries

    def __call__(self, spec: dict[str, Any], token: str) -> str:
        """Run the job; what it has to say goes to files, which are there even when the submitting process is gone."""
        job = Job.from_json(spec)
        outcome = run_on_this_machine(job, self.threads, self.retries)
        if not outcome["ok"]:
            write_json(_refusal_path(job), {"token": token, **outcome})
        return "done" if outcome["ok"] else "failed"

    def checkpoint(self, spec: dict[str, Any], token: str) -> Any:
        """Called by submitit before the time limit or a preemption: the same again; training resumes by itself."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, spec, token)


class SlurmExecutor(Executor):
    """Submits every batch of jobs as a job array and waits for the result files.

    Beside each result stands a note with the cluster's job id. Started again, the executor takes results that exist,
    waits for jobs that still run, and submits only the rest. SLURM's time limit or a preemption puts a job back into
    the queue, where a training goes on from its last checkpoint; a job that ends without an answer is submitted again.
    Whether it ended, sacct says; where there is no accounting, squeue.

    A job of several devices runs on one node, with one process per device.

    Args:
        cluster: "slurm", or "local" to try the same path on this machine (it starts all jobs at once: no pool).
        threads: of each process; as many cores are asked for per device.
        retries: how often a job that ended without an answer is submitted again.
        poll_seconds: between two looks at the files and the queue.
        parallel: array tasks at a time.
        folder: for submitit's own files, on a disk that all nodes see; None: ``slurm/`` beside the results.
        options: submitit's parameters as they are: timeout_min, slurm_partition, gpus_per_node, mem_gb, …

    Raises:
        ConfigError: without submitit, for an unknown cluster, and (cluster="slurm") on a machine without sbatch.
    """

    def __init__(
        self,
        cluster: str = "slurm",
        threads: int = 1,
        retries: int = 2,
        poll_seconds: float = 5.0,
        parallel: int = 32,
        folder: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError(
                explain(
                    expected="the package submitit",
                    got="none",
                    where="executor=slurm",
                    do="install the extra: pip install 'al_lab[cluster]'",
                )
            )
        if cluster not in ("slurm", "local"):
            raise ConfigError(
                explain(
                    expected="'slurm' or 'local'",
                    got=repr(cluster),
                    where="executor.cluster",
                    do="use executor.cluster=slurm on a cluster",
                )
            )
        if cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
            raise ConfigError(
                explain(
                    expected="a machine with sbatch and srun",
                    got="none of them on the PATH",
                    where="executor=slurm",
                    do="start on the cluster's login node, or use executor=local",
                )
            )
        self.cluster = cluster
        self.threads = threads
        self.retries = retries
        self.poll_seconds = poll_seconds
        self.num_workers = parallel
        self.folder = folder
        self.options = dict(options or {})
        # when it was looked at, and what was in it
        self._queue: tuple[float, frozenset[str] | None] = (-math.inf, None)

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        waiting = [self._find(job) for job in jobs]
        self._submit([s for s in waiting if not s.job_id])
        failures: list[Failure] = []
        while waiting:
            progress.poll([s.job for s in waiting])
            outcomes = [(s, self._outcome(s)) for s in waiting]
            again = [s for s, outcome in outcomes if outcome == "lost" and s.attempts <= self.retries]
            waiting = [s for s, outcome in outcomes if outcome is None] + again
            for s, outcome in outcomes:
                if outcome is None or s in again:
                    continue
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                elif outcome == "lost":
                    failures.append(_lost(s))
                s.note.unlink(missing_ok=True)
            for s in again:
                log.warning(
                    "job %s ended without an answer; submitting it again (%d of %d)",
                    s.job.name,
                    s.attempts,
                    self.retries,
                )
            self._submit(again)
            if waiting:
                time.sleep(self.poll_seconds)
        return failures

    def _find(self, job: Job) -> _Submitted:
        """Return the submission an earlier process made of this job, or a fresh one; one of other arguments is cancelled."""
        fresh = _Submitted(job)
        try:
            stored = json.loads(fresh.note.read_text())
            found = _Submitted(job, stored["attempts"], stored["token"], stored["folder"], stored["job_id"])
        except (OSError, ValueError, KeyError):
            return fresh
        if stored["job_hash"] == job.hash:
            log.info("job %s was submitted before (%s): waiting for that one", job.name, found.job_id)
            return found
        if self._is_queued(found):
            log.warning("job %s: an earlier one of other arguments (%s) still runs; cancelled", job.name, found.job_id)
            self._cancel(found)
        return fresh

    def _submit(self, submissions: list[_Submitted]) -> None:
        """Submit one array for each number of devices."""
        for devices in sorted({s.job.devices for s in submissions}):
            group = [s for s in submissions if s.job.devices == devices]
            folder = Path(self.folder) if self.folder else group[0].job.result.parent / "slurm"
            for s in group:
                s.token, s.ended = uuid.uuid4().hex, None
                s.refusal.unlink(missing_ok=True)
            with _environment(worker_environment(self.threads) if self.cluster == "local" else {}):
                handles = self._submitter(folder, devices).map_array(
                    SlurmTask(self.threads, self.retries), [s.job.to_json() for s in group], [s.token for s in group]
                )
            for s, handle in zip(group, handles, strict=True):
                s.attempts, s.folder, s.job_id = s.attempts + 1, str(folder.absolute()), str(handle.job_id)
                s.write()
            log.info("submitted %d jobs (%s, first %s)", len(group), self.cluster, handles[0].job_id)

    def _submitter(self, folder: Path, devices: int) -> Any:
        """Prepare submitit.

        Raises:
            ConfigError: if it does not know one of ``options``.
        """
        import submitit

        parameters = {
            "timeout_min": 24 * 60,
            "nodes": 1,
            "tasks_per_node": 1,
            "cpus_per_task": self.threads * devices,
            **self.options,
        }
        if devices > 1 and parameters.get("gpus_per_node"):
            parameters["gpus_per_node"] = devices
        if self.cluster == "slurm":
            environment = worker_environment(self.threads)
            exports = [f"export {name}={shlex.quote(environment[name])}" for name in ("PYTHONPATH", *THREAD_VARIABLES)]
            parameters |= {
                "slurm_array_parallelism": self.num_workers,
                "slurm_setup": exports + parameters.get("slurm_setup", []),
            }
        submitter = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        try:
            submitter.update_parameters(**parameters)
        except (NameError, ValueError, AssertionError) as error:
            raise ConfigError(
                explain(
                    expected="parameters that submitit knows",
                    got=str(error).split("\n")[0],
                    where="executor.options",
                    do="see submitit's AutoExecutor; SLURM's own ones begin with slurm_",
                )
            ) from error
        return submitter

    def _outcome(self, submitted: _Submitted) -> Failure | str | None:
        """Return "done", "lost", a Failure, or None while the job waits or runs."""
        alive = self._is_queued(submitted)  # before the files: a job may end between the two looks
        if read_result(submitted.job) is not None:
            return "done"
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(submitted.refusal.read_text())
            if said["token"] == submitted.token:
                details = said["details"] if said["lab"] else f"{said['details']}{_last_words(submitted)}"
                return Failure(submitted.job, submitted.attempts, said["reason"], details)
        if alive:
            submitted.ended = None
            return None
        submitted.ended = submitted.ended or time.monotonic()
        patience = _NETWORK_DISK_S if self.cluster == "slurm" else 0.0
        return "lost" if time.monotonic() - submitted.ended >= patience else None

    def _is_queued(self, submitted: _Submitted) -> bool:
        """Say whether the job waits or runs."""
        if self.cluster == "slurm":
            import submitit

            job = submitit.SlurmJob(folder=submitted.folder, job_id=submitted.job_id)
            if job.done():
                return False
            # Without accounting (common on small clusters) sacct never knows a job: one that was killed would be waited
            # for forever.
            queue = self._squeue() if job.state == "UNKNOWN" else None
            return queue is None or submitted.job_id in queue
        try:  # its own process, not a later one of the same number; of a zombie the command line is empty
            return b"submitit" in Path(f"/proc/{submitted.job_id}/cmdline").read_bytes()
        except OSError:
            return False

    def _squeue(self) -> frozenset[str] | None:
        """Return the ids of this user's jobs that wait or run, asked once a poll for all of them; None: squeue does not answer."""
        if time.monotonic() - self._queue[0] >= self.poll_seconds:
            command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
            try:
                listing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
                found = frozenset(listing.split())
            except (OSError, subprocess.SubprocessError) as error:
                log.debug("squeue does not answer: %s", error)
                found = None
            self._queue = time.monotonic(), found
        return self._queue[1]

    def _cancel(self, submitted: _Submitted) -> None:
        if self.cluster == "slurm":
            import submitit

            submitit.SlurmJob(folder=submitted.folder, job_id=submitted.job_id).cancel(check=False)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(submitted.job_id), signal.SIGTERM)


def _refusal_path(job: Job) -> Path:
    return job.result.with_name(job.result.name + ".failed.json")


def _last_words(submitted: _Submitted) -> str:
    return f"last lines of {submitted.job.log_path}:\n{log_tail(submitted.job.log_path)}"


def _lost(submitted: _Submitted) -> Failure:
    logs = Path(submitted.folder)
    return Failure(
        submitted.job,
        submitted.attempts,
        f"it ended without an answer (job {submitted.job_id}, files in {logs})",
        f"{_last_words(submitted)}\nlast lines of SLURM's:\n{log_tail(logs / f'{submitted.job_id}_0_log.err')}",
    )


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Let processes that start in the block inherit these variables."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
