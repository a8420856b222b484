"""A process that runs jobs: ``python -m al_lab.execution.worker job.json`` for one, or as a warm member of a pool.

In a pool it reads one JSON line per job from its standard input, ``{"spec": path, "log": path, "env": {…}, "note":
…}``, and answers one line on the file descriptor it was given. Standard input at its end means that the parent is gone:
the worker then ends at once, also in the middle of a job, together with every process the job has started.
"""

import json
import os
import queue
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from al_lab.core.errors import JobError, explain
from al_lab.execution.job import Job, attempt, output_to
from al_lab.execution.memory import empty_cache

_GRACE_S = 2.0  # for an idle worker to end by itself


def main(arguments: list[str]) -> int:
    """Run one job by hand, or serve a pool; return the exit code."""
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return _run_one(Path(arguments[0]))
    if len(arguments) == 2 and arguments[0] == "--pool":
        _serve(answers=int(arguments[1]))
        return 0
    sys.stderr.write("usage: python -m al_lab.execution.worker job.json\n")
    return 2


def read_spec(path: Path) -> Job:
    """Read a job's description.

    Raises:
        JobError: if the file is missing or describes no job.
    """
    try:
        return Job.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise JobError(
            explain(
                expected="a job as JSON: name, fn, kwargs, result, devices",
                got=f"{type(error).__name__}: {error}",
                where=str(path),
                do="give the .job.json file that stands beside a failed job's log",
            )
        ) from error


def _run_one(spec: Path) -> int:
    try:
        outcome = attempt(read_spec(spec))
    except JobError as error:
        outcome = {"ok": False, "reason": str(error), "details": ""}
    if outcome["ok"]:
        sys.stdout.write(json.dumps(outcome["result"]) + "\n")
        return 0
    sys.stderr.write(f"{outcome['details']}{outcome['reason']}\n")
    return 1


def _serve(answers: int) -> None:
    """Answer requests until standard input ends."""
    _guard()
    requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    busy = threading.Event()
    # Nothing a job does may read the requests or write among the answers, so both leave 0 and 1 at once.
    incoming = os.fdopen(os.dup(0), encoding="utf-8")
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    threading.Thread(target=_listen, args=(incoming, requests, busy), daemon=True).start()
    with os.fdopen(answers, "w", encoding="utf-8") as outgoing:
        while (request := requests.get()) is not None:
            outcome = _answer(request)
            busy.clear()
            outgoing.write(json.dumps(outcome) + "\n")
            outgoing.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(request["env"])
    with output_to(Path(request["log"])):
        outcome = attempt(read_spec(Path(request["spec"])), request["note"])
        _leave_process_group()
        empty_cache()
    outcome.pop("result", None)  # the committed file is the answer; a pipe is no place for data
    return outcome


def _listen(incoming: TextIO, requests: "queue.SimpleQueue[dict[str, Any] | None]", busy: threading.Event) -> None:
    for line in incoming:
        busy.set()
        requests.put(json.loads(line))
    if busy.is_set():
        # The parent died during a job: nobody will use what it does from now on, and files are only ever renamed into
        # place.
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
    requests.put(None)


def _leave_process_group() -> None:
    """Let the next job of this warm process start torch.distributed afresh (torch is only touched if the job did)."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _guard() -> None:
    """Leave a tiny process behind that ends this whole process group once the parent is gone.

    The listening thread does the same faster, but native code that never returns would keep it waiting.
    """
    worker = os.getpid()
    if os.fork():
        return
    os.closerange(3, 256)  # the answers' pipe above all: its end tells the parent that the worker died
    gone = select.poll()
    gone.register(0, 0)  # asks for nothing, so only the other end's closing wakes it up
    gone.poll()
    deadline = time.monotonic() + _GRACE_S
    while os.getppid() == worker and time.monotonic() < deadline:
        time.sleep(0.05)
    if os.getpgid(0) == worker:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
