"""Jobs on a Ray cluster (or on this machine through Ray): fractions of GPUs, many machines."""

import importlib.util
import logging
from typing import Any

from al_lab.core.errors import ConfigError, JobError, explain
from al_lab.execution.job import Executor, Failure, Job, Progress, log_tail, read_result
from al_lab.execution.local import run_on_this_machine
from al_lab.execution.machine import THREAD_VARIABLES, worker_environment

log = logging.getLogger(__name__)

_POLL_S = 0.5


class RayExecutor(Executor):
    """Gives every job to Ray as one task; Ray finds it a place and tries it again when its worker dies.

    All machines must see the run folder at the same path. A job of several devices is one task that starts one process
    per device, so it stays on one machine.

    Args:
        address: of a running cluster ("auto", "ray://host:10001"); None starts Ray on this machine.
        cpus: per device; also the threads of each process.
        gpus: per device; a fraction lets several jobs share one.
        retries: how often a job whose worker died is tried again.
        num_cpus: with ``address=None``: the cores Ray may use; None: all.

    Raises:
        ConfigError: without the package ray, or for numbers that make no sense.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: int = 1,
        gpus: float = 0.0,
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
        if cpus < 1 or gpus < 0 or (gpus > 1 and gpus != int(gpus)) or retries < 0:
            raise ConfigError(
                explain(
                    expected="cpus >= 1, gpus a fraction of one or a whole number, retries >= 0",
                    got=f"cpus={cpus}, gpus={gpus}, retries={retries}",
                    where="executor=ray",
                    do="gpus=0.5 lets two jobs share a GPU",
                )
            )
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.retries = retries
        self.num_cpus = num_cpus
        self._started = False

    @property
    def num_workers(self) -> int:  # type: ignore[override]  # known once the cluster is
        """See `Executor.num_workers`; needs the cluster, so it connects."""
        resources = self._connect().cluster_resources()
        by_gpu = resources.get("GPU", 0) / self.gpus if self.gpus else float("inf")
        return max(1, int(min(resources.get("CPU", 1) / self.cpus, by_gpu)))

    def close(self) -> None:
        """Disconnect; a Ray that this executor started ends."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        ray = self._connect()
        run = ray.remote(run_on_this_machine)
        waiting: dict[Any, Job] = {}
        failures: list[Failure] = []
        for job in jobs:
            missing = self._missing(job, ray.cluster_resources())
            if missing:
                failures.append(Failure(job, 0, missing))
                continue
            task = run.options(
                name=job.name,
                num_cpus=self.cpus * job.devices,
                num_gpus=self.gpus * job.devices,
                max_retries=self.retries,
                retry_exceptions=False,
            )
            waiting[task.remote(job, self.cpus, 0)] = job
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=_POLL_S)
                progress.poll(list(waiting.values()))
                for reference in done:
                    failure = self._judge(ray, waiting.pop(reference), reference)
                    failures += [failure] if failure else []
        except BaseException:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise
        return failures

    def _judge(self, ray: Any, job: Job, reference: Any) -> Failure | None:
        tail = f"last lines of {job.log_path}:\n{log_tail(job.log_path)}"
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayError as error:
            if read_result(job) is not None:
                return None  # its worker died after the commit
            return Failure(job, self.retries + 1, f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", tail)
        if outcome["ok"]:
            return None
        return Failure(
            job, 1, outcome["reason"], outcome["details"] if outcome["lab"] else f"{outcome['details']}{tail}"
        )

    def _missing(self, job: Job, resources: dict[str, float]) -> str | None:
        """Say what no cluster of this size will ever have: Ray itself would wait for it in silence."""
        for name, need in (("CPU", self.cpus * job.devices), ("GPU", self.gpus * job.devices)):
            if need > resources.get(name, 0):
                return f"it needs {need:g} {name}s and the Ray cluster has {resources.get(name, 0):g}"
        return None

    def _connect(self) -> Any:
        """Start or join Ray once.

        Raises:
            JobError: if there is no cluster at ``address``.
        """
        import ray

        if ray.is_initialized():
            return ray
        environment = worker_environment(self.cpus)
        variables = {name: environment[name] for name in ("PYTHONPATH", *THREAD_VARIABLES)}
        size = {"num_cpus": self.num_cpus} if self.address is None else {}
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": variables},
                **size,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise JobError(
                explain(
                    expected="a Ray cluster",
                    got=f"{type(error).__name__}: {error}",
                    where=f"executor.address={self.address}",
                    do="start one with 'ray start --head', or leave executor.address empty",
                )
            ) from error
        self._started = True
        return ray
