"""Jobs on a Ray cluster (or on this machine through Ray): fractions of GPUs, many machines."""

import contextlib
import importlib.util
import ipaddress
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from al_lab.core.errors import ConfigError, JobError, explain
from al_lab.core.fields import at_least, not_negative
from al_lab.execution.job import Executor, Failure, Job, Progress, log_tail, read_result
from al_lab.execution.local import run_on_this_machine, stranger_in
from al_lab.execution.machine import THREAD_VARIABLES, changed_environment, worker_environment

log = logging.getLogger(__name__)

_POLL_S = 0.5
_NETWORK_DISK_S = 30.0  # a disk may show a node what was there before
_NO_OTHER_MACHINES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class RayExecutor(Executor):
    """Gives every job to Ray as one task; Ray finds it a place and tries it again when its worker dies.

    All machines must see the run folder at the same path. A job of several devices is one task that starts one process
    per device, so it stays on one machine.

    Args:
        address: of a running cluster ("auto", "ray://host:10001"); None starts Ray on this machine, where nobody else
            can reach it.
        threads: of each process.
        cpus: cores a device asks for; "auto": its threads and the loader processes.
        gpus: per device; a fraction lets several jobs share one, and one of them that finds its memory full is tried
            once more with a whole one. "auto": one where the cluster has any, else none.
        retries: how often a job whose worker died is tried again.
        num_cpus: with ``address=None``: the cores Ray may use; None: all.

    Raises:
        ConfigError: without the package ray, or for numbers that make no sense.
    """

    def __init__(
        self,
        address: str | None = None,
        threads: int = 1,
        cpus: int | str = "auto",
        gpus: float | str = "auto",
        retries: int = 2,
        num_cpus: int | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                explain(
                    expected="the package ray",
                    got="none",
                    where="executor=ray",
                    do="install the extra: pip install 'al_lab[cluster]', or use executor=local",
                )
            )
        at_least(1)(threads, "executor.threads")
        if cpus != "auto":
            at_least(1, "auto, or a whole number")(cpus, "executor.cpus", do="e.g. executor.cpus=auto")
        if gpus != "auto":
            share = not_negative(gpus, "executor.gpus", do="auto, or a number >= 0")
            if share > 1:
                do = "gpus=0.5 lets two jobs share a GPU; above 1 they are whole ones"
                at_least(1)(int(share) if share == int(share) else share, "executor.gpus", do=do)
        at_least(0)(retries, "executor.retries")
        self.address = address
        self.threads = threads
        self.cpus = cpus
        self.gpus = gpus
        self._has_said = False  # that GPUs of the cluster are not used
        self.retries = retries
        self.num_cpus = num_cpus
        self._started = False

    @property
    def num_workers(self) -> int:  # type: ignore[override]  # known once the cluster is
        """See `Executor.num_workers`; needs the cluster, so it connects."""
        nodes = _nodes(self._connect())
        cpus, gpus = self._needs(nodes)
        at_once = (min(n.get("CPU", 0) / cpus, n.get("GPU", 0) / gpus if gpus else math.inf) for n in nodes)
        return max(1, sum(map(int, at_once)))

    def _needs(self, nodes: Sequence[Mapping[str, float]]) -> tuple[int, float]:
        """Return the cores and the GPUs that a device asks for.

        Of its own accord it asks for no more cores than a node has, or has for each GPU: Ray would wait for a larger
        node in silence, and GPUs would lie idle.
        """
        there = sum(n.get("GPU", 0) for n in nodes)
        gpus = (1.0 if there else 0.0) if isinstance(self.gpus, str) else float(self.gpus)
        if not gpus and there and not self._has_said:
            log.warning("executor.gpus=0: jobs run on CPUs; the Ray cluster has %g GPUs (executor.gpus=auto)", there)
            self._has_said = True
        if isinstance(self.cpus, int):
            return self.cpus, gpus
        shares = [
            n.get("CPU", 0) * gpus / n["GPU"] if gpus else n.get("CPU", 0) for n in nodes if not gpus or n.get("GPU")
        ]
        return max(1, min(self.threads + self.loaders, int(max(shares, default=1)))), gpus

    def close(self) -> None:
        """Disconnect; a Ray that this executor started ends."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        ray = self._connect()
        waiting: dict[Any, tuple[Job, float]] = {}  # what runs, and its part of a GPU
        failures: list[Failure] = []
        nodes = _nodes(ray)
        needs = self._needs(nodes)
        for job in jobs:
            missing = self._missing(job, needs, nodes)
            if missing:
                failures.append(Failure(job, 0, missing))
            else:
                waiting[self._submit(ray, job, *needs)] = job, needs[1]
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=_POLL_S)
                progress.poll([job for job, _ in waiting.values()])
                for reference in done:
                    job, part = waiting.pop(reference)
                    failure = self._judge(ray, job, reference, part)
                    if isinstance(failure, Failure):
                        failures.append(failure)
                    elif failure == "alone":
                        log.warning(
                            "job %s: its part of a GPU's memory is full; tried again with a whole GPU", job.name
                        )
                        note = {"out_of_memory": [part], "alone": [1]}
                        waiting[self._submit(ray, job, needs[0], 1.0, note)] = job, 1.0
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise
        return failures

    def _submit(self, ray: Any, job: Job, cpus: int, gpus: float, note: dict[str, Any] | None = None) -> Any:
        task = ray.remote(run_on_node).options(
            name=job.name,
            num_cpus=cpus * job.devices,
            num_gpus=gpus * job.devices,
            max_retries=self.retries,
            retry_exceptions=False,
        )
        return task.remote(job, self.threads, cpus * job.devices, note)

    def _judge(self, ray: Any, job: Job, reference: Any, gpus: float) -> Failure | str | None:
        """Return why a job failed, "alone" if it is to have a GPU to itself, or None if it is done."""
        tail = f"last lines of {job.log_path}:\n{log_tail(job.log_path)}"
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayError as error:
            if read_result(job) is not None:
                return None  # its worker died after the commit
            return Failure(job, self.retries + 1, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", tail)
        if outcome["ok"]:
            return None
        if outcome.get("out_of_memory") and 0 < gpus < 1:
            return "alone"
        return Failure(
            job, 1, outcome["reason"], outcome["details"] if outcome["lab"] else f"{outcome['details']}{tail}"
        )

    @staticmethod
    def _missing(job: Job, needs: tuple[int, float], nodes: Sequence[Mapping[str, float]]) -> str | None:
        """Say what no node of this cluster will ever have: Ray itself would wait for it in silence."""
        for name, need in zip(("CPU", "GPU"), needs, strict=True):
            most = max((n.get(name, 0) for n in nodes), default=0)
            if need * job.devices > most:
                have = f"it needs {need * job.devices:g} {name}s and no node of the Ray cluster has more than {most:g}"
                return have + ("; executor.cpus=1 asks for fewer" if name == "CPU" and need > 1 else "")
        return None

    def _connect(self) -> Any:
        """Start or join Ray once.

        Raises:
            JobError: if there is no cluster at ``address``, or Ray does not come up here.
        """
        here: AbstractContextManager[dict[str, Any]] = (
            _on_loopback() if self.address is None else contextlib.nullcontext({})
        )
        with here as place:
            import ray

            if ray.is_initialized():
                return ray
            environment = worker_environment(self.threads)
            variables = {name: environment[name] for name in ("PYTHONPATH", *THREAD_VARIABLES)}
            size = {"num_cpus": self.num_cpus, "include_dashboard": False, **place} if self.address is None else {}
            try:
                ray.init(
                    address=self.address or "local",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env={"env_vars": variables},
                    **size,
                )
            except Exception as error:  # a node that does not come up in time is a bare Exception
                ray.shutdown()
                raise _no_ray(self.address, error) from error
        self._started = True
        if self.address is None and not _is_loopback(ray.util.get_node_ip_address()):
            self.close()
            raise JobError(
                explain(
                    expected="a Ray that only this machine can reach",
                    got=f"one on {ray.util.get_node_ip_address()}",
                    where="executor=ray without an address",
                    do="install ray 2.60 or newer, or start a cluster of your own and give its executor.address",
                )
            )
        return ray


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    """Return what each living node of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def run_on_node(job: Job, threads: int, cores: int, note: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run one job where Ray has brought it; see `run_on_this_machine`."""
    stranger = stranger_in(job, _NETWORK_DISK_S)
    if stranger is not None:
        return {"ok": False, "lab": True, "reason": f"JobError: {stranger}", "details": ""}
    outcome = run_on_this_machine(job, threads, retries=0, note=note, cores=cores)
    if outcome.get("interrupted"):
        os._exit(1)  # Ray tries a task again when its worker is gone
    return outcome


@contextlib.contextmanager
def _on_loopback() -> Iterator[dict[str, Any]]:
    """Let a Ray that starts in this block listen on 127.0.0.1 alone; yields what `ray.init` has to be told.

    Whoever reaches its ports can run code as this user. Ray takes a loopback address for a mistake and replaces it,
    unless it was told that there are no other machines.
    """
    with changed_environment(_NO_OTHER_MACHINES):
        from ray._private import ray_constants

        before = ray_constants.ENABLE_RAY_CLUSTER  # read from the environment at import, which may be long past
        ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            yield {"_node_ip_address": "127.0.0.1"}
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = before


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _no_ray(address: str | None, error: BaseException) -> JobError:
    first = next(iter(str(error).strip().splitlines()), "")
    return JobError(
        explain(
            expected="a Ray cluster" if address else "Ray to start on this machine",
            got=f"{type(error).__name__}: {first}",
            where=f"executor.address={address}" if address else "executor=ray without an address",
            do="start one with 'ray start --head', correct the address, or leave executor.address empty"
            if address
            else "look into /tmp/ray/session_latest/logs and at the machine's load and memory, try the same "
            "command again, "
            "or use executor=local",
        )
    )
