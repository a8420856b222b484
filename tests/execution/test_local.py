"""The pool of warm workers: what it does with deaths, errors, ranks, and the end of its own process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from al_lab.core.errors import ConfigError, JobError
from al_lab.execution.job import Job
from al_lab.execution.local import LocalExecutor

MakeJob = Callable[..., Job]


def wait_for(condition: Callable[[], bool], seconds: float = 100.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_workers_are_warm_and_carry_their_threads_and_gpus(make_job: MakeJob) -> None:
    with LocalExecutor(workers=2, threads=3, gpus=["7", "8"]) as executor:
        executor.cores = 8
        seen = executor.run([make_job("who", x=n) for n in range(8)])
        again = executor.run([make_job("who", x=9)])
        assert len(executor._groups) == 2
    assert {s["pid"] for s in seen} >= {again[0]["pid"]}
    assert len({s["pid"] for s in seen}) <= 2
    assert {s["gpus"] for s in seen} <= {"7", "8"}
    assert {(s["threads"], s["al_lab"], s["rank"], s["cores"]) for s in seen} == {("3", "3", None, "4")}
    assert again[0]["cores"] == "8"  # one job alone has all of them


def test_no_more_workers_than_jobs_and_none_at_construction(make_job: MakeJob) -> None:
    with LocalExecutor(workers=5) as executor:
        assert executor._groups == []
        executor.run([make_job("who")])
        assert len(executor._groups) == 1


def test_a_worker_that_dies_is_replaced_and_its_job_tried_again(make_job: MakeJob, tmp_path: Path) -> None:
    jobs = [make_job("dies", flag=str(tmp_path / "flag"), times=2), *[make_job("square", x=n) for n in range(4)]]
    with LocalExecutor(workers=2, retries=2) as executor:
        results = executor.run(jobs)
    assert results[0] == {"attempts": 3}
    assert [r["y"] for r in results[1:]] == [0, 1, 4, 9]


def test_a_job_that_keeps_killing_its_worker_fails_after_the_others_finished(make_job: MakeJob, tmp_path: Path) -> None:
    bad = make_job("dies", name="row-7", flag=str(tmp_path / "flag"), times=99, how=int(signal.SIGSEGV))
    good = [make_job("square", x=n) for n in range(3)]
    with LocalExecutor(workers=2, retries=1) as executor, pytest.raises(JobError) as caught:
        executor.run([bad, *good])
    assert all(job.result.exists() for job in good)
    message = str(caught.value)
    assert "1 of 4 jobs failed" in message
    assert "job 'row-7' (lab_jobs:dies, 2 attempts): worker was killed by SIGSEGV" in message
    assert "says goodbye" in message  # the job's own last words


def test_a_death_after_the_commit_counts_as_done(make_job: MakeJob) -> None:
    with LocalExecutor(workers=1, retries=0) as executor:
        assert executor.run([make_job("dies_after_commit", result="x")]) == [{"y": 1}]


def test_an_error_of_ours_is_delivered_whole_and_not_tried_again(make_job: MakeJob) -> None:
    with LocalExecutor(workers=1) as executor, pytest.raises(JobError) as caught:
        executor.run([make_job("refuses")])
    assert "1 attempt): DataError: image 'cat.jpg': expected a picture, got a poem; read it aloud" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_any_other_exception_is_not_tried_again_and_shows_traceback_log_and_the_way_to_repeat_it(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("breaks", name="b", marker=str(tmp_path / "calls"))
    with LocalExecutor(workers=1) as executor, pytest.raises(JobError) as caught:
        executor.run([job])
    assert (tmp_path / "calls").read_text() == "x"
    message = str(caught.value)
    assert 'return {"y": 1 // 0}' in message
    assert "  | about to divide" in message
    spec = job.result.with_name("b.json.job.json")
    assert f"python -m al_lab.execution.worker {spec}" in message
    by_hand = subprocess.run(
        [sys.executable, "-m", "al_lab.execution.worker", str(spec)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert by_hand.returncode == 1
    assert "ZeroDivisionError" in by_hand.stderr


def test_a_job_that_leaves_the_interpreter_fails_like_one_that_raises(make_job: MakeJob) -> None:
    with LocalExecutor(workers=1) as executor, pytest.raises(JobError, match="1 attempt.: SystemExit: 3"):
        executor.run([make_job("leaves", code=3)])


def test_progress_files_reach_the_callback(make_job: MakeJob, tmp_path: Path) -> None:
    seen: list[int] = []

    def look(_job: Job, value: dict[str, int]) -> None:
        seen.append(value["step"])
        (tmp_path / f"progress.json.seen{value['step']}").touch()

    with LocalExecutor(workers=1) as executor:
        executor.run([make_job("reports", progress=str(tmp_path / "progress.json"))], on_progress=look)
    assert seen == [0, 1, 2]


def test_ranks_meet_each_other_and_rank_zero_answers(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    with LocalExecutor(workers=2, gpus=["4", "5", "6"]) as executor:
        pair, single = executor.run([make_job("ranks", folder=str(tmp_path / "meet"), devices=2), make_job("who")])
    assert pair == {"rank": 0, "world": 2, "address": "127.0.0.1", "gpus": "4,5"}
    assert single["rank"] is None


def test_a_rank_that_dies_ends_the_others_and_the_job_is_tried_again(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    job = make_job("ranks", folder=str(tmp_path / "meet"), dead_rank=1, flag=str(tmp_path / "flag"), devices=2)
    with LocalExecutor(workers=2, gpus=0) as executor:
        assert executor.run([job])[0]["world"] == 2
    assert (tmp_path / "flag").exists()


@pytest.mark.slow
def test_a_rank_that_raises_ends_those_who_wait_for_it(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    job = make_job("ranks", folder=str(tmp_path / "meet"), raising_rank=1, devices=2)
    with (
        LocalExecutor(workers=2, gpus=0) as executor,
        pytest.raises(JobError, match="1 attempt.: DivergedError: loss is NaN"),
    ):
        executor.run([job])


def test_more_devices_than_gpus_is_said_before_anything_starts(make_job: MakeJob) -> None:
    with (
        LocalExecutor(workers=2, gpus=["0"]) as executor,
        pytest.raises(JobError, match="needs 2 devices and executor.gpus has 1"),
    ):
        executor.run([make_job("ranks", folder="", devices=2)])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"workers": 0}, "executor.workers"),
        ({"workers": "many"}, "executor.workers"),
        ({"threads": 0}, "executor.threads"),
        ({"retries": -1}, "executor.retries"),
        ({"gpus": 500}, "executor.gpus"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LocalExecutor(**options)  # type: ignore[arg-type]


DRIVER = """
import sys
from pathlib import Path
from al_lab.execution.job import Job
from al_lab.execution.local import LocalExecutor
folder = Path(sys.argv[1])
with LocalExecutor(workers=2, gpus=0) as executor:
    executor.run([Job(str(n), "lab_jobs:takes_long", {"pid": str(folder / f"{n}.pid")}, folder / f"{n}.json") for n in range(2)])
"""  # noqa: E501


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_and_what_they_started_end_with_their_parent(
    make_job: MakeJob, tmp_path: Path, how: signal.Signals
) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        env=env,
        stderr=subprocess.DEVNULL,
        # a background job's children ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    files = [tmp_path / "0.pid", tmp_path / "1.pid"]
    try:
        assert wait_for(lambda: all(path.exists() and len(path.read_text().split()) == 2 for path in files))
        started = [int(pid) for path in files for pid in path.read_text().split()]
        assert all(is_running(pid) for pid in started)
        driver.send_signal(how)
        driver.wait(timeout=100)
        assert wait_for(lambda: not any(is_running(pid) for pid in started))
    finally:
        driver.kill()
