"""Jobs in a pool of warm worker processes on this machine."""

import collections
import contextlib
import logging
import selectors
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from al_lab.core.errors import ConfigError, Interrupted, JobError, explain
from al_lab.core.fields import at_least, optional
from al_lab.execution.cards import Cards
from al_lab.execution.job import Executor, Failure, Job, Progress, attempt, log_tail, output_to, read_result
from al_lab.execution.machine import changed_environment, cores_of_job, cpu_count, visible_gpus
from al_lab.execution.memory import too_big
from al_lab.execution.process_group import GRACE_S, Attempt, WorkerGroup

log = logging.getLogger(__name__)

_POLL_S = 0.5  # how often progress files are looked at


class LocalExecutor(Executor):
    """Runs jobs in ``workers`` processes that stay warm between jobs (imports cost seconds).

    A worker that dies (killed, out of memory, a crash in native code) is replaced and its job tried again; a job that
    raises is not tried again, it would only raise again. Workers never outlive this process.

    Args:
        workers: processes at a time, or "auto": one per GPU, without GPUs one per ``threads`` cores. More than GPUs
            share them evenly.
        threads: of each worker, set in its environment (OMP_NUM_THREADS and the like, AL_LAB_THREADS) before it starts.
        gpus: "auto" (all that are visible), a number, or names for CUDA_VISIBLE_DEVICES. A GPU is taken for the time
            in which it works, see `Cards`; while none is free the jobs wait.
        retries: how often a job whose worker died is tried again.
        share: campaigns of this user that may work on a GPU at once; None: a cluster gave it to this one.
        campaigns: of a sweep that run side by side on this machine; with ``workers="auto"`` each has its part of the
            GPUs, without GPUs one worker.

    Raises:
        ConfigError: for numbers below their minimum, or more GPUs than there are.
    """

    def __init__(
        self,
        workers: int | str = "auto",
        threads: int = 1,
        gpus: int | str | Sequence[int | str] = "auto",
        retries: int = 2,
        share: int | None = 1,
        campaigns: int = 1,
    ) -> None:
        at_least(1)(threads, "executor.threads", do="e.g. executor.threads=1")
        at_least(0)(retries, "executor.retries", do="e.g. executor.retries=2")
        if workers != "auto":
            at_least(1, "auto, or a whole number")(workers, "executor.workers", do="e.g. executor.workers=auto")
        optional(at_least(1))(share, "executor.share", do="executor.share=1 gives a GPU to one campaign at a time")
        at_least(1)(campaigns, "executor.campaigns")
        found = _choose_gpus(gpus)
        self.threads = threads
        automatic = max(1, (len(found) or (cpu_count() // threads if campaigns == 1 else 1)) // campaigns)
        self.num_workers = workers if isinstance(workers, int) else automatic
        self.cards = Cards(found, self.num_workers, share)
        self.cores = cores_of_job() // campaigns  # of this machine, for all jobs at once
        self.retries = retries
        self.is_interrupted = False
        self._is_waiting = False  # for a GPU, which was said
        self._groups: list[WorkerGroup] = []
        self._selector = selectors.DefaultSelector()
        # Also when nobody calls close(): at garbage collection and at exit.
        self._finalizer = weakref.finalize(self, _stop_all, self._groups, self.cards)

    def close(self) -> None:
        """End the workers; the next `run` starts new ones."""
        _stop_all(self._groups, self.cards)

    def interrupt(self) -> None:
        """Ask the workers to end, and try no job again."""
        self.is_interrupted = True
        for group in self._groups:
            group.interrupt()

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        failures: list[Failure] = []
        try:
            # All groups of a batch are of one size, so that GPUs can be dealt out without planning.
            for size in sorted({job.devices for job in jobs}):
                failures += self._run_batch([job for job in jobs if job.devices == size], size, progress)
        except BaseException:
            for group in self._groups:
                group.kill()
            self._groups.clear()
            raise
        return failures

    def _run_batch(self, jobs: list[Job], size: int, progress: Progress) -> list[Failure]:
        gpus = self.cards.names
        if gpus and size > len(gpus):
            return [Failure(job, 0, f"it needs {size} devices and executor.gpus has {len(gpus)}") for job in jobs]
        queue = collections.deque(Attempt(job) for job in jobs)
        groups = self._take_groups(size, len(jobs))
        for group in groups:
            group.cores = max(1, self.cores // (len(groups) * size))
        failures: list[Failure] = []
        self._is_waiting = False
        while queue or any(group.attempt for group in groups):
            self._begin(queue, groups)
            for key, _ in self._selector.select(timeout=_POLL_S):
                key.data.read()
            progress.poll([group.attempt.job for group in groups if group.attempt])
            for group in groups:
                ended = group.attempt
                outcome = group.outcome() if ended else None
                if ended is None or outcome is None:
                    continue
                if ended.is_alone:
                    group.let_go()
                failure = self._judge(ended, outcome)
                if failure:
                    failures.append(failure)
                elif not outcome["ok"]:
                    queue.appendleft(ended)
        for group in groups:
            group.let_go()
        return failures

    def _begin(self, queue: collections.deque[Attempt], groups: list[WorkerGroup]) -> None:
        """Give idle groups what waits and can have its GPUs now; a group without work lets go of its own."""
        for group in groups:
            if group.attempt is not None:
                continue
            alone = [a for a in queue if a.is_alone]
            being_cleared = {name for a in alone for name in a.gpus}
            first = [*alone, *[a for a in queue if not a.is_alone][:1]]
            attempt = next((a for a in first if group.take_gpus(a, () if a.is_alone else being_cleared)), None)
            if attempt is None:
                group.let_go()
            else:
                queue.remove(attempt)
                group.start(attempt, self._selector)
        if queue and not self._is_waiting and not any(group.attempt for group in groups):
            self._is_waiting = True  # said once
            log.info(
                "waiting for a free GPU (%s); executor.share=2 lets two campaigns work on one at a time, executor.gpus "
                "chooses others",
                self.cards.holders(),
            )

    def _take_groups(self, size: int, jobs: int) -> list[WorkerGroup]:
        """Keep warm groups of this size, end the others (their memory is needed), add empty ones up to the limit."""
        for group in [group for group in self._groups if group.size != size]:
            group.kill()
            self._groups.remove(group)
        limit = max(1, self.num_workers // size)
        if self.cards.names and size > 1:
            limit = min(limit, len(self.cards.names) // size)
        self.cards.purpose = self.identity.folder if self.identity else ""
        missing = min(limit, jobs) - len(self._groups)
        self._groups += [WorkerGroup(size, self.threads, self.cards) for _ in range(missing)]
        return self._groups[: min(limit, jobs)]

    def _judge(self, ended: Attempt, outcome: dict[str, Any]) -> Failure | None:
        """Decide about an attempt that ended: done, failed for good, or (None and not ok) to be tried again."""
        job = ended.job
        if not outcome["ok"] and outcome.get("died") and read_result(job) is not None:
            outcome["ok"] = True  # it died after its result was committed
        if outcome["ok"]:
            ended.spec.unlink(missing_ok=True)
            return None
        if outcome.get("out_of_memory") and self.cards.names and not ended.is_alone:
            ended.is_alone = True
            where = ",".join(ended.gpus)
            log.warning("job %s: the memory of GPU %s is full; tried again with a GPU to itself", job.name, where)
            return None
        is_gone = outcome.get("died") or outcome.get("interrupted")
        if is_gone and ended.number <= self.retries and not self.is_interrupted:
            log.warning("job %s: %s; trying again (%d of %d)", job.name, outcome["reason"], ended.number, self.retries)
            return None
        details = outcome["details"]
        if outcome.get("out_of_memory") and ended.is_alone:
            outcome["reason"] = too_big(job.name, f"twice, the second time with GPU {','.join(ended.gpus)} to itself")
        if not outcome.get("lab"):
            details += f"last lines of {job.log_path}:\n{log_tail(job.log_path)}\n"
        details += f"by hand: python -m al_lab.execution.worker {ended.spec}"
        return Failure(job, ended.number, outcome["reason"], details)


def _choose_gpus(gpus: int | str | Sequence[int | str]) -> list[str]:
    if gpus == "auto":
        return visible_gpus()
    if isinstance(gpus, int):
        found = visible_gpus()
        if not 0 <= gpus <= len(found):
            raise ConfigError(
                explain(
                    expected=f"executor.gpus between 0 and the {len(found)} that are visible",
                    got=str(gpus),
                    where="executor.gpus",
                    do="see nvidia-smi and CUDA_VISIBLE_DEVICES, or use executor.gpus=auto",
                )
            )
        return found[:gpus]
    return [str(name) for name in ([gpus] if isinstance(gpus, str) else gpus)]


def _stop_all(groups: list[WorkerGroup], cards: Cards) -> None:
    for group in groups:
        group.release()
    deadline = time.monotonic() + GRACE_S
    for group in groups:
        group.kill(after=deadline)
    groups.clear()
    cards.close()


def run_on_this_machine(
    job: Job, threads: int, retries: int, note: dict[str, Any] | None = None, cores: int | None = None
) -> dict[str, Any]:
    """Run one job that a cluster has brought to this machine; return what `attempt` returns.

    The calling process does the work of a job of one device; for several there is one process each. ``note`` is kept
    beside the result of a job of one device. ``cores`` are those it may use; None: `cores_of_job`.
    """
    if job.devices == 1:
        told = changed_environment({"AL_LAB_CORES": str(cores or cores_of_job())})
        with told, output_to(job.log_path), on_sigterm(_leave):
            return attempt(job, note)
    with (
        LocalExecutor(workers=job.devices, threads=threads, retries=retries, share=None) as pool,
        on_sigterm(pool.interrupt),
    ):
        pool.cores = cores or pool.cores
        failures = pool._run([job], Progress(None))
    if failures:
        says = {"reason": failures[0].reason, "details": failures[0].details}
        return {"ok": False, "interrupted": pool.is_interrupted, "lab": True, **says}
    return {"ok": True, "result": read_result(job)}


def stranger_in(job: Job, patience_s: float = 0.0) -> str | None:
    """Return why a job may not even log here: its folder holds another run; None if it is its own.

    Args:
        job: that a cluster has brought to this machine.
        patience_s: how long a network disk may show what was there before.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if job.run is not None:
                job.run.check()
        except JobError as error:
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            return str(error)
        return None


def _leave() -> None:
    raise Interrupted("SIGTERM")


@contextlib.contextmanager
def on_sigterm(react: Callable[[], Any]) -> Iterator[None]:
    """Let SIGTERM call ``react`` while the block runs; a training knows a better moment and takes the signal over.

    Outside of a process' main thread, where Python sets no handlers, the block runs without.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: react())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
