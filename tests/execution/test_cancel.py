"""What a run left in a queue is ended before its folder is used for another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from al_lab.core.record.identity import ENVIRONMENT
from al_lab.execution import cancel
from al_lab.execution.cancel import cancel_submitted
from al_lab.execution.job import Job
from al_lab.execution.submitted import Submitted


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder; SLURM's commands, if the test makes some, lie beside it."""
    monkeypatch.setattr(cancel, "_LOOK_S", 0.05)
    monkeypatch.setattr(cancel, "_LEAVE_S", 5.0)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ENVIRONMENT).write_text(json.dumps({"run": {"id": "old", "fingerprint": "f"}}))
    return folder


def submitted(run_dir: Path, name: str, job_id: str, cluster: str = "slurm") -> Path:
    note = Submitted(Job(name, "a:b", {}, run_dir / "cycle_00" / f"{name}.json"), 1, 0, "t", "", job_id, cluster)
    note.write()
    return note.note


def script(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def test_those_in_notes_and_those_of_the_runs_name_are_ended(run_dir: Path, tmp_path: Path) -> None:
    notes = [submitted(run_dir, "train", "7_0"), submitted(run_dir, "score", "8")]
    (tmp_path / "queue").write_text(
        "7_0|RUNNING|None|x\n8|COMPLETED|None|x\n9|PENDING|None|al_lab-old\n10|RUNNING|None|al_lab-another\n"
    )
    (tmp_path / "after").write_text("7_0|CANCELLED|None|x\n10|RUNNING|None|al_lab-another\n")
    script(tmp_path / "squeue", 'while read -r line; do echo "$line"; done < "$FAKE_SLURM/queue"')
    copy = 'while read -r line; do echo "$line"; done < "$FAKE_SLURM/after" > "$FAKE_SLURM/queue"'
    script(tmp_path / "scancel", 'echo "$@" >> "$FAKE_SLURM/cancelled"', copy)
    cancel_submitted(run_dir)
    assert (tmp_path / "cancelled").read_text() == "7_0 9\n"
    assert not any(note.exists() for note in notes)


def test_local_processes_are_ended(run_dir: Path) -> None:
    code = "import time; time.sleep(100)  # submitit"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while b"submitit" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass
        submitted(run_dir, "train", str(process.pid), "local")
        cancel_submitted(run_dir)
        assert process.wait(timeout=60) < 0


def test_without_scancel_it_is_said_and_a_damaged_note_is_no_obstacle(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    submitted(run_dir, "train", "7")
    (run_dir / "cycle_00" / "score.json.submitted").write_text('{"job_hash": 5')
    cancel_submitted(run_dir)
    assert "jobs 7 of the earlier run can't be ended from here, a machine without scancel" in caplog.text
