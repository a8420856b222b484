"""Jobs in a pool of warm worker processes on this machine."""

import collections
import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from al_lab.core.errors import ConfigError, explain
from al_lab.core.files import write_json
from al_lab.execution.job import Executor, Failure, Job, Progress, log_tail, read_result
from al_lab.execution.machine import cpu_count, visible_gpus, worker_environment

log = logging.getLogger(__name__)

_POLL_S = 0.5      # how often progress files are looked at
_GRACE_S = 5.0     # after one rank's error: time for the others to say what happened to them


class LocalExecutor(Executor):
    """Runs jobs in ``workers`` processes that stay warm between jobs (imports cost seconds).

    A worker that dies (killed, out of memory, a crash in native code) is replaced and its job tried again; a job that
    raises is not tried again, it would only raise again. Workers never outlive this process.

    Args:
        workers: processes at a time, or "auto": one per GPU, without GPUs one per ``threads`` cores.
        threads: of each worker, set in its environment (OMP_NUM_THREADS and the like, AL_LAB_THREADS) before it starts.
        gpus: "auto" (all that are visible), a number, or names for CUDA_VISIBLE_DEVICES; handed out round robin.
        retries: how often a job whose worker died is tried again.

    Raises:
        ConfigError: for numbers below their minimum, or more GPUs than there are.
    """

    def __init__(self, workers: int | str = "auto", threads: int = 1, gpus: int | str | Sequence[int | str] = "auto",
                 retries: int = 2) -> None:
        for name, value, least in (("threads", threads, 1), ("retries", retries, 0)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(explain(expected=f"a whole number >= {least}", got=repr(value), where=f"executor.{name}",
                                          do=f"try executor.{name}={least}"))
        if workers != "auto" and (not isinstance(workers, int) or workers < 1):
            raise ConfigError(explain(expected="a whole number >= 1 or 'auto'", got=repr(workers), where="executor.workers",
                                      do="try executor.workers=auto"))
        self.gpus = _choose_gpus(gpus)
        self.threads = threads
        self.workers = workers if isinstance(workers, int) else len(self.gpus) or max(1, cpu_count() // threads)
        self.retries = retries
        self._gangs: list[_Gang] = []
        self._selector = selectors.DefaultSelector()
        # Also when nobody calls close(): at garbage collection and at exit.
        self._finalizer = weakref.finalize(self, _stop_all, self._gangs)

    def close(self) -> None:
        """End the workers; the next `run` starts new ones."""
        _stop_all(self._gangs)

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        failures: list[Failure] = []
        try:
            # All gangs of a batch are of one size, so that GPUs can be dealt out without planning.
            for size in sorted({job.devices for job in jobs}):
                failures += self._run_batch([job for job in jobs if job.devices == size], size, progress)
        except BaseException:
            for gang in self._gangs:
                gang.kill()
            self._gangs.clear()
            raise
        return failures

    def _run_batch(self, jobs: list[Job], size: int, progress: Progress) -> list[Failure]:
        if self.gpus and size > len(self.gpus):
            return [Failure(job, 0, f"it needs {size} devices and executor.gpus has {len(self.gpus)}") for job in jobs]
        queue = collections.deque(_Attempt(job) for job in jobs)
        gangs = self._take_gangs(size, len(jobs))
        failures: list[Failure] = []
        while queue or any(gang.attempt for gang in gangs):
            for gang in gangs:
                if queue and gang.attempt is None:
                    gang.start(queue.popleft(), self._selector)
            for key, _ in self._selector.select(timeout=_POLL_S):
                key.data.read()
            progress.poll([gang.attempt.job for gang in gangs if gang.attempt])
            for gang in gangs:
                ended = gang.attempt
                outcome = gang.outcome() if ended else None
                if ended is None or outcome is None:
                    continue
                failure = self._judge(ended, outcome)
                if failure:
                    failures.append(failure)
                elif not outcome["ok"]:
                    queue.appendleft(ended)
        return failures

    def _take_gangs(self, size: int, jobs: int) -> list["_Gang"]:
        """Keep warm gangs of this size, end the others (their memory is needed), add empty ones up to the limit."""
        for gang in [gang for gang in self._gangs if gang.size != size]:
            gang.kill()
            self._gangs.remove(gang)
        limit = max(1, self.workers // size)
        if self.gpus and size > 1:
            limit = min(limit, len(self.gpus) // size)
        for index in range(len(self._gangs), min(limit, jobs)):
            gpus = [self.gpus[(index * size + rank) % len(self.gpus)] for rank in range(size)] if self.gpus else []
            self._gangs.append(_Gang(size, worker_environment(self.threads, gpus)))
        return self._gangs[:min(limit, jobs)]

    def _judge(self, ended: "_Attempt", outcome: dict[str, Any]) -> Failure | None:
        """Decide about an attempt that ended: done, failed for good, or (None and not ok) to be tried again."""
        job = ended.job
        if not outcome["ok"] and outcome.get("died") and read_result(job) is not None:
            outcome["ok"] = True      # it died after its result was committed
        if outcome["ok"]:
            ended.spec.unlink(missing_ok=True)
            return None
        if outcome.get("died") and ended.number <= self.retries:
            log.warning("job %s: %s; trying again (%d of %d)", job.name, outcome["reason"], ended.number, self.retries)
            return None
        details = outcome["details"]
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
            raise ConfigError(explain(expected=f"executor.gpus between 0 and the {len(found)} that are visible", got=str(gpus),
                                      where="executor.gpus", do="see nvidia-smi and CUDA_VISIBLE_DEVICES, or use executor.gpus=auto"))
        return found[:gpus]
    return [str(name) for name in ([gpus] if isinstance(gpus, str) else gpus)]


def _stop_all(gangs: list["_Gang"]) -> None:
    for gang in gangs:
        gang.release()
    deadline = time.monotonic() + _GRACE_S
    for gang in gangs:
        gang.kill(after=deadline)
    gangs.clear()


class _Attempt:
    """One job and how often it was started."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.number = 0
        self.spec = job.result.with_name(job.result.name + ".job.json")


class _Worker:
    """One process and the pipe its answers come through."""

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        answers, given = os.pipe()
        with log_path.open("ab") as stream:
            # A session of its own: Ctrl-C reaches only the parent, and the whole group can be ended at once.
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-X", "faulthandler", "-m", "al_lab.execution.worker", "--pool", str(given)],
                stdin=subprocess.PIPE, stdout=stream, stderr=stream, env=environment, pass_fds=(given,), start_new_session=True)
        os.close(given)
        self._answers = answers
        self._buffer = b""
        self.reply: dict[str, Any] | None = None
        self.is_dead = False

    def register(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        selector.register(self._answers, selectors.EVENT_READ, self)

    def send(self, request: dict[str, Any]) -> None:
        self.reply = None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):      # dead: its answers will end, too
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def read(self) -> None:
        data = os.read(self._answers, 65536)
        self._buffer += data
        if not data:
            self.is_dead = True
            self._selector.unregister(self._answers)
        elif self._buffer.endswith(b"\n"):
            self.reply, self._buffer = json.loads(self._buffer), b""

    def release(self) -> None:
        """Tell an idle worker that nothing more will come; a busy one ends at once."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def kill(self, after: float = 0.0) -> int:
        """End the process and all it has started, no sooner than ``after``; return its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(0.0, after - time.monotonic()))
        code = self.process.returncode
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait() if code is None else code
        self.release()
        if not self.is_dead:
            with contextlib.suppress(KeyError, AttributeError):
                self._selector.unregister(self._answers)
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        self.is_dead = True
        return code


class _Gang:
    """The processes (one per device) that run one job at a time together; one process in the usual case."""

    def __init__(self, size: int, environment: dict[str, str]) -> None:
        self.size = size
        self.attempt: _Attempt | None = None
        self._environment = environment
        self._workers: list[_Worker] = []
        self._deadline: float | None = None

    def start(self, attempt: _Attempt, selector: selectors.BaseSelector) -> None:
        """Start the processes unless they are warm, and give them the job."""
        attempt.number += 1
        job = attempt.job
        write_json(attempt.spec, job.to_json())
        logs = [job.log_path if rank == 0 else job.log_path.with_suffix(f".rank{rank}.log") for rank in range(self.size)]
        for path in logs:
            with path.open("w" if attempt.number == 1 else "a") as stream:
                stream.write(f"== {job.name}: {job.fn}, attempt {attempt.number}\n")
        if not self._workers:
            self._workers = [_Worker(self._environment, path) for path in logs]
            for worker in self._workers:
                worker.register(selector)
        port = _free_port() if self.size > 1 else 0
        for rank, (worker, path) in enumerate(zip(self._workers, logs, strict=True)):
            group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            env = {name: str(value) for name, value in group.items()} if self.size > 1 else {}
            worker.send({"spec": str(attempt.spec), "log": str(path), "env": env})
        self.attempt, self._deadline = attempt, None

    def outcome(self) -> dict[str, Any] | None:
        """Return how the attempt ended, None while it runs; after anything but success the processes are gone."""
        replies = [worker.reply for worker in self._workers]
        if all(reply and reply["ok"] for reply in replies):
            self.attempt = None
            return {"ok": True}
        dead = next((rank for rank, worker in enumerate(self._workers) if worker.is_dead), None)
        errors = [reply for reply in replies if reply and not reply["ok"]]
        if dead is None and not errors:
            return None
        if dead is None and not all(replies):
            # One rank raised. The others may be about to tell the true cause, or wait for it forever.
            self._deadline = self._deadline or time.monotonic() + _GRACE_S
            if time.monotonic() < self._deadline:
                return None
        # A worker that just died may need a moment to become waitable; a deadline in the past would kill it first.
        reason = _cause(self._workers[dead].kill(after=time.monotonic() + 1.0)) if dead is not None else ""
        rank = f"rank {dead} of {self.size}: " if self.size > 1 else ""
        self.kill()
        if dead is not None:
            return {"ok": False, "died": True, "reason": f"{rank}worker {reason}", "details": ""}
        return next((error for error in errors if error["lab"]), errors[0])

    def release(self) -> None:
        for worker in self._workers:
            worker.release()

    def kill(self, after: float = 0.0) -> None:
        for worker in self._workers:
            worker.kill(after)
        self._workers, self.attempt, self._deadline = [], None, None


def _cause(code: int) -> str:
    """Say what an exit code means."""
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL (the kernel does this when memory runs out)"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
