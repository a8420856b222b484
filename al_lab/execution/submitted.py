"""Where a job is in a cluster's queue: a note beside its result, for whoever waits for it next."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from al_lab.core.files import write_json
from al_lab.execution.job import Job

SUFFIX = ".submitted"


@dataclasses.dataclass
class Submitted:
    """A job and its submission.

    Attributes:
        job: the job.
        attempts: how often it was submitted because it ended without an answer, the first time included.
        requeues: how often it was submitted again because the cluster ended it.
        token: of this very submission, so that an answer to an earlier one is not taken for ours.
        folder: submitit's files.
        job_id: the queue's name of it.
        cluster: which queue: ``slurm`` or ``local``.
        ended: when the queue was first seen without it, on this process' clock.
    """

    job: Job
    attempts: int = 0
    requeues: int = 0
    token: str = ""
    folder: str = ""
    job_id: str = ""
    cluster: str = "slurm"
    ended: float | None = None

    @property
    def note(self) -> Path:
        """The file that says where the job is."""
        return _beside(self.job, SUFFIX)

    @property
    def refusal(self) -> Path:
        """Where the job says why it failed."""
        return _beside(self.job, ".failed.json")

    @property
    def interruption(self) -> Path:
        """Where the job says that it was asked to end."""
        return _beside(self.job, ".interrupted.json")

    def write(self) -> None:
        """Write the note."""
        kept = ("attempts", "requeues", "token", "folder", "job_id", "cluster")
        write_json(
            self.note,
            {"job_hash": self.job.hash, "run": self.job.run_mark, **{name: getattr(self, name) for name in kept}},
        )

    @classmethod
    def read(cls, job: Job) -> tuple[Self, bool] | None:
        """Return what an earlier process submitted under this job's name, and whether it is this very job.

        None if nothing.
        """
        note = read_note(cls(job).note)
        if note is None:
            return None
        is_same = note.pop("job_hash") == job.hash and note.pop("run") == job.run_mark
        return cls(job, **{k: v for k, v in note.items() if k != "run"}), is_same

    def says(self, path: Path) -> dict[str, Any] | None:
        """Return what the job wrote to ``path`` in this very submission."""
        try:
            said = json.loads(path.read_text())
            return dict(said) if said["token"] == self.token else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def read_note(path: Path) -> dict[str, Any] | None:
    """Return a note's content; None if it is missing or damaged."""
    kinds = {
        "job_hash": str,
        "attempts": int,
        "requeues": int,
        "token": str,
        "folder": str,
        "job_id": str,
        "cluster": str,
    }
    try:
        note = json.loads(path.read_text())
        values = {name: note[name] for name in kinds} | {"run": note["run"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return values if all(isinstance(values[name], kind) for name, kind in kinds.items()) else None


def _beside(job: Job, suffix: str) -> Path:
    return job.result.with_name(job.result.name + suffix)
