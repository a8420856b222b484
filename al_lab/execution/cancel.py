"""Ending what a run has left in a queue, whichever executor put it there."""

import logging
import shutil
import time
from pathlib import Path

from al_lab.core.record.identity import read_identity
from al_lab.execution.queues import ALIVE, JobQueue, LocalQueue, SlurmQueue
from al_lab.execution.submitted import SUFFIX, read_note

log = logging.getLogger(__name__)

_LEAVE_S = 40.0  # SLURM gives a cancelled job 30 s to end
_LOOK_S = 1.0


def cancel_submitted(run_dir: Path) -> None:
    """End the submitted jobs of the run in this folder, and wait a while for them to be gone.

    Local workers end with the process that started them, and Ray ends the tasks of one that is gone. A job that can't
    be
    reached stays away by itself: it finds another run in its folder.
    """
    notes = {path: note for path in sorted(run_dir.rglob(f"*{SUFFIX}")) if (note := read_note(path))}
    left: list[tuple[JobQueue, str]] = []
    for queue, ids in ((SlurmQueue(_LOOK_S), _slurm_ids(run_dir, notes)), (LocalQueue(), _ids(notes, "local"))):
        alive = [job_id for job_id in sorted(ids) if queue.state(job_id) == ALIVE]
        if alive:
            log.info("ending %d jobs of the earlier run: %s", len(alive), " ".join(alive))
            queue.cancel(alive)
            left += [(queue, job_id) for job_id in alive]
    deadline = time.monotonic() + _LEAVE_S
    while (left := [(queue, i) for queue, i in left if queue.state(i) == ALIVE]) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    if left:
        still = " ".join(job_id for _, job_id in left)
        log.warning("jobs %s are still ending; they can no longer write into this folder", still)
    for path in notes:
        path.unlink(missing_ok=True)


def _ids(notes: dict[Path, dict], cluster: str) -> set[str]:
    return {note["job_id"] for note in notes.values() if note["cluster"] == cluster}


def _slurm_ids(run_dir: Path, notes: dict[Path, dict]) -> set[str]:
    """Return the ids in the notes and those that the queue has under the run's name: a note may have come too late."""
    noted, begun = _ids(notes, "slurm"), read_identity(run_dir)
    if shutil.which("squeue") is None or shutil.which("scancel") is None:
        if noted:
            log.warning(
                "jobs %s of the earlier run can't be ended from here, a machine without scancel; "
                "when they get to run they leave this folder alone",
                " ".join(sorted(noted)),
            )
        return set()
    return noted if begun is None else noted | set(SlurmQueue(0).of_run(begun["id"]))
