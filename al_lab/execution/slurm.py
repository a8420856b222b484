"""Jobs on a SLURM cluster, through submitit; they outlive the process that submitted them."""

import importlib.util
import logging
import os
import shlex
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, Interrupted, explain
from al_lab.core.fields import at_least, one_of, positive
from al_lab.core.files import write_json
from al_lab.execution.job import Executor, Failure, Job, Progress, log_tail, read_result
from al_lab.execution.local import run_on_this_machine, stranger_in
from al_lab.execution.machine import THREAD_VARIABLES, changed_environment, cpu_count, worker_environment
from al_lab.execution.queues import ALIVE, ENDED, INTERRUPTED, cores_of_nodes, job_name, open_queue
from al_lab.execution.submitted import Submitted

log = logging.getLogger(__name__)

_NETWORK_DISK_S = 60.0  # a job the queue calls finished gets this long for its files to show up
_REQUEUES = 10  # preemption is daily bread on some clusters; a training goes on where it was


class SlurmTask:
    """What runs on the node; submitit pickles it by its name, and puts it back in the queue when time is up."""

    def __init__(self, threads: int, retries: int) -> None:
        self.threads = threads
        self.retries = retries
        self.is_put_back = False

    def __call__(self, spec: dict[str, Any], token: str) -> str:
        """Run the job; what it has to say goes to files, which are there even when the submitting process is gone."""
        submitted = Submitted(Job.from_json(spec), token=token)
        stranger = stranger_in(submitted.job, _NETWORK_DISK_S if "SLURM_JOB_ID" in os.environ else 0.0)
        if stranger is not None:
            log.error("%s", stranger)  # into SLURM's own log
            return "of another run"
        submitted.interruption.unlink(missing_ok=True)
        outcome = run_on_this_machine(submitted.job, self.threads, self.retries)
        if outcome["ok"]:
            return "done"
        if self.is_put_back:  # submitit left the job with a SystemExit, which says nothing about it
            return "put back"
        if stranger_in(submitted.job) is not None:
            return "of another run"
        was_asked = bool(outcome.get("interrupted"))
        write_json(submitted.interruption if was_asked else submitted.refusal, {"token": token, **outcome})
        return "interrupted" if was_asked else "failed"

    def checkpoint(self, spec: dict[str, Any], token: str) -> Any:
        """Called by submitit before the time limit or a preemption: the same again; training resumes by itself."""
        import submitit

        self.is_put_back = True
        return submitit.helpers.DelayedSubmission(SlurmTask(self.threads, self.retries), spec, token)


class SlurmExecutor(Executor):
    """Submits every batch of jobs as a job array and waits for the result files.

    Beside each result stands a note with the cluster's job id. Started again, the executor takes results that exist,
    waits for jobs that still run, and submits only the rest. What the cluster ends (the time limit, preemption,
    scancel, a node that is drained or dies) is put back into the queue, where a training goes on from its last
    checkpoint; a job that ends without an answer is submitted again. Whether it ended, squeue says: many clusters keep
    no accounts. Ctrl-C and SIGTERM cancel what was submitted; a process that is killed leaves it to the next one.

    A job of several devices runs on one node, with one process per device.

    Args:
        cluster: "slurm", or "local" to try the same path on this machine (it starts all jobs at once: no pool).
        threads: of each process; cores are asked for these and for the loader processes, times the devices.
        retries: how often a job that ended without an answer is submitted again.
        poll_seconds: between two looks at the files and the queue.
        parallel: array tasks at a time.
        folder: for submitit's own files, on a disk that all nodes see; None: ``slurm/`` beside the results.
        options: submitit's parameters as they are: timeout_min, slurm_partition, gpus_per_node, mem_gb, …; and
            ``requeues``, how often a job that the cluster ended is put back into the queue.

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
        one_of("slurm", "local")(cluster, "executor.cluster")
        at_least(1)(threads, "executor.threads")
        at_least(0)(retries, "executor.retries")
        positive(poll_seconds, "executor.poll_seconds")
        at_least(1)(parallel, "executor.parallel")
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
        self.options = {k: v for k, v in (options or {}).items() if k != "requeues"}
        self.requeues = at_least(0)((options or {}).get("requeues", _REQUEUES), "executor.options.requeues")
        self._queue = open_queue(cluster, poll_seconds)
        self._own: set[str] = set()  # what this process submitted; one that has answered may take a while to leave

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        waiting = [self._find(job) for job in jobs]
        self._end_strays({s.job_id for s in waiting})
        try:
            self._submit([s for s in waiting if not s.job_id])
            return self._wait(waiting, progress)
        except (KeyboardInterrupt, SystemExit, Interrupted):
            self._stop(waiting)
            raise

    def _wait(self, waiting: list[Submitted], progress: Progress) -> list[Failure]:
        """Wait for answers; ``waiting`` keeps those that have none yet."""
        failures: list[Failure] = []
        while waiting:
            progress.poll([s.job for s in waiting])
            outcomes = [(s, self._outcome(s)) for s in waiting]
            for s, outcome in outcomes:
                if outcome == "done" or isinstance(outcome, Failure):
                    waiting.remove(s)
                    failures += [outcome] if isinstance(outcome, Failure) else []
                    for path in (s.note, s.interruption):
                        path.unlink(missing_ok=True)
            self._submit([s for s, outcome in outcomes if outcome == "again"])
            if waiting:
                time.sleep(self.poll_seconds)
        return failures

    def _find(self, job: Job) -> Submitted:
        """Return the submission an earlier process made of this job, or a fresh one.

        One of other arguments or another run is cancelled.
        """
        earlier = Submitted.read(job)
        if earlier is None:
            return Submitted(job, cluster=self.cluster)
        found, is_same = earlier
        if is_same and found.cluster == self.cluster:
            log.info("job %s was submitted before (%s): waiting for that one", job.name, found.job_id)
            return found
        queue = open_queue(found.cluster, self.poll_seconds)
        if queue.state(found.job_id) == ALIVE:
            log.warning("job %s: an earlier one (%s) still runs; cancelled", job.name, found.job_id)
            queue.cancel([found.job_id])
        return Submitted(job, cluster=self.cluster)

    def _end_strays(self, known: set[str]) -> None:
        """End jobs of this run that no note names: the process that submitted them was killed before it wrote one."""
        strays = set(self._queue.of_run(self.identity.id)) - known - self._own if self.identity else set()
        if strays:
            log.warning("ending jobs of this run that were submitted by a process that is gone: %s", " ".join(strays))
            self._queue.cancel(strays)

    def _stop(self, waiting: list[Submitted]) -> None:
        """End what waits and runs; the next process of this run will find out, and submits it again."""
        left = [s for s in waiting if s.job_id]
        for s in left:
            s.requeues -= 1  # this one is not the cluster's doing
            s.write()
        self._queue.cancel(s.job_id for s in left)
        if left:
            log.warning("cancelled %d submitted jobs: %s", len(left), " ".join(s.job_id for s in left))

    def _is_put_back(self, submitted: Submitted, outcome: str) -> bool:
        """Decide about a job that ended without an answer; what speaks for another try is said."""
        name = submitted.job.name
        if outcome == INTERRUPTED and submitted.requeues < self.requeues:
            submitted.requeues += 1
            log.warning(
                "job %s (%s) was ended by the cluster (scancel, preemption or its node); it is put back into the queue "
                "(%d of %d) and goes on from its last checkpoint; to end it for good stop this process, %d on %s, with "
                "Ctrl-C or kill: it cancels its jobs",
                name,
                submitted.job_id,
                submitted.requeues,
                self.requeues,
                os.getpid(),
                socket.gethostname(),
            )
            return True
        if outcome == ENDED and submitted.attempts <= self.retries:
            again = (submitted.attempts, self.retries)
            log.warning("job %s ended without an answer; submitting it again (%d of %d)", name, *again)
            submitted.attempts += 1
            return True
        return False

    def _submit(self, submissions: list[Submitted]) -> None:
        """Submit one array for each number of devices."""
        for devices in sorted({s.job.devices for s in submissions}):
            group = [s for s in submissions if s.job.devices == devices]
            folder = Path(self.folder) if self.folder else group[0].job.result.parent / "slurm"
            for s in group:
                s.token, s.ended, s.attempts = uuid.uuid4().hex, None, max(1, s.attempts)
                for path in (s.refusal, s.interruption):
                    path.unlink(missing_ok=True)
            share = {"AL_LAB_CORES": str(max(1, cpu_count() // self.num_workers))}
            with changed_environment(worker_environment(self.threads) | share if self.cluster == "local" else {}):
                handles = self._submitter(folder, devices).map_array(
                    SlurmTask(self.threads, self.retries), [s.job.to_json() for s in group], [s.token for s in group]
                )
            for s, handle in zip(group, handles, strict=True):
                s.folder, s.job_id = str(folder.absolute()), str(handle.job_id)
                s.write()
                self._own.add(s.job_id)
            log.info("submitted %d jobs (%s, first %s)", len(group), self.cluster, handles[0].job_id)

    def _cores(self, devices: int) -> int:
        """Return the cores a job asks for of its own accord: no more than a node has, or has for as many GPUs."""
        wish, per_gpu = (self.threads + self.loaders) * devices, bool(self.options.get("gpus_per_node"))
        if self.cluster != "slurm" or {"cpus_per_task", "slurm_cpus_per_task"} & set(self.options):
            return wish
        most = cores_of_nodes(self.options.get("slurm_partition"), per_gpu)
        return wish if most is None else max(1, min(wish, most * devices if per_gpu else most))

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
            "cpus_per_task": self._cores(devices),
            **self.options,
        }
        parameters["name"] = job_name(self.identity.id if self.identity else None, parameters.get("name") or "al_lab")
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

    def _outcome(self, submitted: Submitted) -> Failure | str | None:
        """Return "done", "again", a Failure, or None while the job waits or runs."""
        state = self._queue.state(submitted.job_id)  # before the files: a job may end between the two looks
        if read_result(submitted.job) is not None:
            return "done"
        said = submitted.says(submitted.refusal)
        if said is not None:
            details = said["details"] if said["lab"] else f"{said['details']}{_last_words(submitted)}"
            return Failure(submitted.job, submitted.attempts, said["reason"], details)
        if state == ALIVE:
            submitted.ended = None
            return None
        if submitted.says(submitted.interruption) is not None:
            state = INTERRUPTED
        submitted.ended = submitted.ended or time.monotonic()
        patience = _NETWORK_DISK_S if self.cluster == "slurm" and state != INTERRUPTED else 0.0
        if time.monotonic() - submitted.ended < patience:
            return None
        return "again" if self._is_put_back(submitted, state) else _lost(submitted, state, self.requeues)


def _last_words(submitted: Submitted) -> str:
    return f"last lines of {submitted.job.log_path}:\n{log_tail(submitted.job.log_path)}"


def _lost(submitted: Submitted, state: str, requeues: int) -> Failure:
    logs = Path(submitted.folder)
    where = f"(job {submitted.job_id}, files in {logs})"
    reason = (
        f"the cluster ended it {requeues + 1} times {where}; the same command begins to count anew and goes on "
        f"from its "
        "last checkpoint, executor.options.requeues=… allows for more"
        if state == INTERRUPTED
        else f"it ended without an answer {where}; a node that does not see that folder can't give one"
    )
    slurms = log_tail(logs / f"{submitted.job_id}_0_log.err")
    return Failure(
        submitted.job, submitted.attempts, reason, f"{_last_words(submitted)}\nlast lines of SLURM's:\n{slurms}"
    )
