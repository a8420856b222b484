"""What holds for every executor: the same results, done means committed, stale results never count."""

import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from al_lab.core.errors import Interrupted, JobError
from al_lab.core.record.identity import ENVIRONMENT, RunIdentity
from al_lab.execution.inline import InlineExecutor
from al_lab.execution.job import Executor, Job
from al_lab.execution.local import LocalExecutor
from al_lab.execution.slurm import SlurmExecutor

MakeJob = Callable[..., Job]


def slurm() -> Executor:
    pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    return SlurmExecutor(cluster="local", poll_seconds=0.1)


@pytest.fixture(
    params=[InlineExecutor, lambda: LocalExecutor(workers=2, gpus=0), slurm], ids=["inline", "local", "slurm"]
)
def executor(request: pytest.FixtureRequest) -> Executor:
    with request.param() as made:
        yield made


def test_results_come_in_order_and_do_not_depend_on_the_executor(executor: Executor, make_job: MakeJob) -> None:
    jobs = [make_job("square", x=x) for x in (3, 1, 2)]
    assert executor.run(jobs) == [{"y": y, "tags": ["a", "b"]} for y in (9, 1, 4)]
    committed = [json.loads(job.result.read_text()) for job in jobs]
    assert [c["job_hash"] for c in committed] == [job.hash for job in jobs]


def test_a_committed_job_is_not_run_again(executor: Executor, make_job: MakeJob, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    jobs = [make_job("note", log=str(log), n=n) for n in range(2)]
    executor.run(jobs[:1])
    executor.run(jobs)
    executor.run(jobs)
    assert len(log.read_text().split()) == 2


@pytest.mark.parametrize("content", ['{"job_hash": "another", "result": {"y": 0}}', '{"job_hash": "tru', "[]"])
def test_a_result_of_other_arguments_is_moved_aside_and_the_job_runs(
    make_job: MakeJob, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    job = make_job("square", x=4)
    job.result.parent.mkdir()
    job.result.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert InlineExecutor().run([job])[0]["y"] == 16
    assert job.result.with_name(job.result.name + ".stale").read_text() == content
    assert "runs again" in caplog.text


@pytest.mark.parametrize("harm", ["gone", "another"])
def test_a_job_whose_file_is_not_there_or_is_another_is_not_done(make_job: MakeJob, tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out.txt"
    job = dataclasses.replace(make_job("write", path=str(out), text="whole"), outputs=(out,))
    InlineExecutor().run([job])
    out.unlink()
    if harm == "another":
        out.write_text("whole?")
    InlineExecutor().run([Job.from_json(job.to_json())])
    assert out.read_text() == "whole"
    assert out.with_name("out.txt.damaged").exists() == (harm == "another")


def test_a_result_in_which_a_digit_was_changed_does_not_count(make_job: MakeJob) -> None:
    job = make_job("square", x=4)
    InlineExecutor().run([job])
    job.result.write_text(job.result.read_text().replace("16", "17"))
    assert InlineExecutor().run([job])[0]["y"] == 16


@pytest.fixture
def identity(tmp_path: Path) -> RunIdentity:
    """The run that the folder ``tmp_path`` holds."""
    (tmp_path / ENVIRONMENT).write_text(json.dumps({"run": {"id": "mine", "fingerprint": "f"}}))
    return RunIdentity(str(tmp_path), "mine", "f")


def test_the_result_of_another_run_does_not_count(
    make_job: MakeJob, identity: RunIdentity, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = make_job("note", log=str(tmp_path / "calls"))
    for run in (
        None,
        identity,
        dataclasses.replace(identity, folder="moved"),
        dataclasses.replace(identity, id="theirs"),
    ):
        (tmp_path / ENVIRONMENT).write_text(json.dumps({"run": {"id": run.id if run else "", "fingerprint": "f"}}))
        executor = InlineExecutor()
        executor.identity = run and dataclasses.replace(run, folder=str(tmp_path))
        executor.run([job])
    assert len((tmp_path / "calls").read_text().split()) == 3
    assert "belongs to another run" in caplog.text
    assert json.loads(job.result.read_text())["run"] == {"id": "theirs", "fingerprint": "f"}


def test_a_worker_refuses_the_folder_of_another_run_at_the_start_and_in_the_middle(
    executor: Executor, make_job: MakeJob, identity: RunIdentity, tmp_path: Path
) -> None:
    executor.identity, executor.retries = identity, 0
    environment, out = tmp_path / ENVIRONMENT, tmp_path / "out"
    job = make_job("loses_its_folder", environment=str(environment), out=str(out))
    for _ in range(2):
        with pytest.raises(JobError, match="got that of run theirs|ended without an answer"):
            executor.run([job])
        # A job of its own process may not even have begun when its driver gives it up.
        assert not out.exists() or out.read_text() == "before"
        assert not job.result.exists()


def test_a_job_travels_with_its_run(make_job: MakeJob, identity: RunIdentity) -> None:
    job = dataclasses.replace(make_job("square", x=1), run=identity, outputs=(Path("a"),))
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_a_job_that_was_asked_to_end_is_tried_again(make_job: MakeJob, tmp_path: Path) -> None:
    """By whatever ends workers: an operator, a script, a container that shuts down."""
    with LocalExecutor(workers=1, gpus=0, retries=1) as local:
        assert local.run([make_job("is_asked_to_end", flag=str(tmp_path / "flag"))]) == [{"asked": 2}]
        with pytest.raises(JobError, match="2 attempts.: it was interrupted: SIGTERM, at step 7"):
            local.run([make_job("is_asked_to_end", flag=str(tmp_path / "other"), times=9)])
    with pytest.raises(Interrupted):  # here the signal is meant for the whole process
        InlineExecutor().run([make_job("is_asked_to_end", flag=str(tmp_path / "third"))])


def test_a_failure_does_not_hide_the_others(make_job: MakeJob) -> None:
    jobs = [make_job("refuses"), make_job("square", x=6), make_job("breaks")]
    with pytest.raises(JobError, match=r"(?s)2 of 3 jobs failed.*DataError.*read it aloud.*ZeroDivisionError"):
        InlineExecutor().run(jobs)
    assert jobs[1].result.exists()


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        ("os.system", "expected a function named 'package.module:function'"),
        ("os:system; ls", "expected a function named"),
        ("no_such_package.x:f", "expected a module 'no_such_package.x', got no such module"),
        ("lab_jobs:missing", "expected a function 'missing' in lab_jobs"),
        ("lab_jobs:json", "expected a function 'json' in lab_jobs, got module"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(make_job: MakeJob, tmp_path: Path, fn: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        InlineExecutor().run([Job("j", fn, {}, tmp_path / "r.json")])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("set", "a return value that JSON can hold"),
        ("nan", "finite numbers"),
        ("list", "a function that returns a dict, got list"),
        ("none", "got NoneType"),
    ],
)
def test_a_return_value_json_cannot_hold_is_refused(make_job: MakeJob, kind: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        InlineExecutor().run([make_job("returns", kind=kind)])


@pytest.mark.parametrize("kwargs", [{"path": Path("x")}, {"lr": float("inf")}])
def test_arguments_json_cannot_hold_are_refused_at_once(tmp_path: Path, kwargs: dict[str, object]) -> None:
    with pytest.raises(JobError, match="job 'j': expected arguments that JSON can hold"):
        Job("j", "a:b", kwargs, tmp_path / "r.json")


def test_two_jobs_may_not_share_a_result(make_job: MakeJob) -> None:
    first = make_job("square", name="a", x=1)
    second = Job("b", first.fn, {"x": 2}, first.result.parent / "elsewhere" / ".." / "a.json")
    with pytest.raises(JobError, match="jobs 'a' and 'b'"):
        InlineExecutor().run([first, second])


def test_no_device_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="devices >= 1"):
        Job("j", "a:b", {}, tmp_path / "r.json", devices=0)


def test_the_hash_names_the_work_and_not_the_place(tmp_path: Path) -> None:
    job = Job("a", "m:f", {"x": 1, "y": [2]}, tmp_path / "a.json")
    assert job.hash == Job("b", "m:f", {"y": [2], "x": 1}, tmp_path / "b.json", devices=4).hash
    assert job.hash != Job("a", "m:g", {"x": 1, "y": [2]}, tmp_path / "a.json").hash
    assert job.hash != Job("a", "m:f", {"x": 2, "y": [2]}, tmp_path / "a.json").hash


def test_by_hand_a_spec_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"name": "x"}')
    done = subprocess.run(
        [sys.executable, "-m", "al_lab.execution.worker", str(tmp_path / "job.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "expected a job as JSON: name, fn, kwargs, result, devices" in done.stderr
