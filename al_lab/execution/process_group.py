"""Worker processes: one, or as many as a job has devices, that run one job at a time together."""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from al_lab.core.files import write_json
from al_lab.execution.cards import Cards
from al_lab.execution.job import Job
from al_lab.execution.machine import worker_environment

GRACE_S = 5.0  # after one rank's error: time for the others to say what happened to them


class Attempt:
    """One job and how often it was started.

    Attributes:
        gpus: where it was started last.
        is_alone: it did not fit beside others: next time it has its GPUs to itself.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.number = 0
        self.gpus: list[str] = []
        self.is_alone = False
        self.spec = job.result.with_name(job.result.name + ".job.json")


class Worker:
    """One process and the pipe its answers come through."""

    def __init__(self, environment: dict[str, str], log_path: Path, locks: tuple[int, ...] = ()) -> None:
        answers, given = os.pipe()
        with log_path.open("ab") as stream:
            # A session of its own: Ctrl-C reaches only the parent, and the whole group can be ended at once.
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-X", "faulthandler", "-m", "al_lab.execution.worker", "--pool", str(given)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                pass_fds=(given, *locks),
                start_new_session=True,
            )
        os.close(given)
        self._answers = answers
        self._buffer = b""
        self.reply: dict[str, Any] | None = None
        self.is_dead = False

    def register(self, selector: selectors.BaseSelector) -> None:
        """Let the selector tell when there is something to `read`."""
        self._selector = selector
        selector.register(self._answers, selectors.EVENT_READ, self)

    def send(self, request: dict[str, Any]) -> None:
        """Give it a job; the reply to the one before is forgotten."""
        self.reply = None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # dead: its answers will end, too
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def read(self) -> None:
        """Take what has arrived: a part of a reply, the rest of it, or the end."""
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


class WorkerGroup:
    """The processes (one per device) that run one job at a time together; one process in the usual case."""

    def __init__(self, size: int, threads: int, cards: Cards) -> None:
        self.size = size
        self.attempt: Attempt | None = None
        self.cores = threads  # that each of its processes may use, loaders included
        self._threads = threads
        self._cards = cards
        self._gpus: list[str] = []  # that its processes see
        self._has_gpus = False  # and nobody else may take
        self._workers: list[Worker] = []
        self._deadline: float | None = None

    def take_gpus(self, attempt: Attempt, closed: Collection[str] = ()) -> bool:
        """Take what an attempt needs; return whether it can start now.

        Args:
            attempt: that is to start.
            closed: GPUs that are being cleared for another one.
        """
        if self._has_gpus and not attempt.is_alone and not set(self._gpus) & set(closed):
            return True
        self.let_go()
        gpus = self._cards.take(self.size, self._gpus, attempt.is_alone, closed)
        if gpus is None:
            return False
        if gpus != self._gpus:
            self.kill()  # warm on GPUs that somebody else has now
        self._gpus, self._has_gpus = gpus, True
        return True

    def let_go(self) -> None:
        """Let others have the GPUs; the processes stay warm."""
        if self._has_gpus:
            self._cards.give_back(self._gpus)
            self._has_gpus = False

    def start(self, attempt: Attempt, selector: selectors.BaseSelector) -> None:
        """Start the processes unless they are warm, and give them the job."""
        attempt.number += 1
        job = attempt.job
        write_json(attempt.spec, job.to_json())
        logs = [
            job.log_path if rank == 0 else job.log_path.with_suffix(f".rank{rank}.log") for rank in range(self.size)
        ]
        for path in logs:
            with path.open("w" if attempt.number == 1 else "a") as stream:
                alone = f", alone on GPU {','.join(self._gpus)}" if attempt.is_alone else ""
                stream.write(f"== {job.name}: {job.fn}, attempt {attempt.number}{alone}\n")
        if not self._workers:
            environment = worker_environment(self._threads, self._gpus)
            locks = self._cards.descriptors(self._gpus)
            self._workers = [Worker(environment, path, locks) for path in logs]
            for worker in self._workers:
                worker.register(selector)
        port = _free_port() if self.size > 1 else 0
        for rank, (worker, path) in enumerate(zip(self._workers, logs, strict=True)):
            group = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": self.size,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            env = {name: str(value) for name, value in group.items()} if self.size > 1 else {}
            env["AL_LAB_CORES"] = str(self.cores)
            note = {"out_of_memory": attempt.gpus, "alone": self._gpus} if attempt.is_alone else None
            worker.send({"spec": str(attempt.spec), "log": str(path), "env": env, "note": note})
        self.attempt, self._deadline = attempt, None
        attempt.gpus = self._gpus

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
            self._deadline = self._deadline or time.monotonic() + GRACE_S
            if time.monotonic() < self._deadline:
                return None
        # A worker that just died may need a moment to become waitable; a deadline in the past would kill it first.
        reason = _cause(self._workers[dead].kill(after=time.monotonic() + 1.0)) if dead is not None else ""
        rank = f"rank {dead} of {self.size}: " if self.size > 1 else ""
        self.kill()
        if dead is not None:
            return {"ok": False, "died": True, "reason": f"{rank}worker {reason}", "details": ""}
        # A rank that was asked to end leaves the others without a partner: what they say follows from that.
        # One whose memory is full, too.
        first = [e for word in ("interrupted", "out_of_memory", "lab") for e in errors if e.get(word)]
        return first[0] if first else errors[0]

    def interrupt(self) -> None:
        """Ask all of them to end; a training saves its state first."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)

    def release(self) -> None:
        """Tell all of them that nothing more will come."""
        for worker in self._workers:
            worker.release()

    def kill(self, after: float = 0.0) -> None:
        """End all of them, no sooner than ``after``."""
        for worker in self._workers:
            worker.kill(after)
        self._workers, self.attempt, self._deadline = [], None, None
        self.let_go()


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
