"""A folder holds one run; what belongs to another is refused."""

import json
from pathlib import Path

import pytest

from al_lab.core.errors import JobError
from al_lab.core.files import checked_writes, write_text
from al_lab.core.record.identity import ENVIRONMENT, RunIdentity, read_identity


def hold(folder: Path, **run: object) -> None:
    (folder / ENVIRONMENT).write_text(json.dumps({"run": run}))


def test_only_the_run_that_is_in_the_folder_may_go_on(tmp_path: Path) -> None:
    mine = RunIdentity(str(tmp_path), "a", "lr=1")
    with pytest.raises(JobError, match="no run named"):
        mine.check()
    hold(tmp_path, id="a", fingerprint="lr=1")
    mine.check()
    hold(tmp_path, id="b", fingerprint="lr=1")
    with pytest.raises(JobError, match="of run a, got that of run b"):
        mine.check()
    hold(tmp_path, id="a", fingerprint="lr=2")
    with pytest.raises(JobError):
        mine.check()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"run": 5}', '{"run": {"id": "", "fingerprint": "x"}}', '{"run": {"id": 1}}']
)
def test_what_names_no_run_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ENVIRONMENT).write_text(content)
    assert read_identity(tmp_path) is None


def test_a_run_that_lost_its_folder_in_the_middle_of_its_work_writes_nothing_more(tmp_path: Path) -> None:
    hold(tmp_path, id="a", fingerprint="lr=1")
    with checked_writes(RunIdentity(str(tmp_path), "a", "lr=1").check):
        write_text(tmp_path / "weights", "of a")
        hold(tmp_path, id="b", fingerprint="lr=1")
        with pytest.raises(JobError):
            write_text(tmp_path / "weights", "of a, later")
        with pytest.raises(JobError):
            write_text(tmp_path / "new folder" / "weights", "of a, later")
    assert (tmp_path / "weights").read_text() == "of a"
    assert not (tmp_path / "new folder").exists()
    write_text(tmp_path / "weights", "of b")
