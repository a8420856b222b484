"""SLURM's path through submitit's local mode: arrays, answers, lost jobs, and a driver that comes back."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from al_lab.core.errors import ConfigError, Interrupted, JobError
from al_lab.core.record.identity import ENVIRONMENT, RunIdentity
from al_lab.execution import slurm
from al_lab.execution.job import Job
from al_lab.execution.queues import ALIVE, ENDED, SlurmQueue, open_queue
from al_lab.execution.slurm import SlurmExecutor, SlurmTask
from al_lab.execution.submitted import Submitted

pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
MakeJob = Callable[..., Job]


def executor(**options: object) -> SlurmExecutor:
    return SlurmExecutor(cluster="local", poll_seconds=0.1, **options)  # type: ignore[arg-type]


def test_failures_come_whole_and_hide_nothing(make_job: MakeJob) -> None:
    good, bad, worse = make_job("square", x=3), make_job("refuses"), make_job("breaks")
    with pytest.raises(JobError) as caught:
        executor().run([bad, good, worse])
    assert json.loads(good.result.read_text())["result"]["y"] == 9
    message = str(caught.value)
    assert "2 of 3 jobs failed" in message
    assert "DataError: image 'cat.jpg': expected a picture, got a poem; read it aloud" in message
    assert "| about to divide" in message
    assert not list(good.result.parent.glob("*.submitted"))


def test_a_job_that_ends_without_an_answer_is_submitted_again(make_job: MakeJob, tmp_path: Path) -> None:
    assert executor().run([make_job("dies", flag=str(tmp_path / "flag"))]) == [{"attempts": 2}]
    with pytest.raises(JobError, match="2 attempts.: it ended without an answer"):
        executor(retries=1).run([make_job("dies", flag=str(tmp_path / "other"), times=99)])


def test_a_job_that_was_just_started_is_alive() -> None:
    queue = open_queue("local", 1.0)
    for _ in range(200):  # its command line is empty for a moment, as a zombie's is
        process = subprocess.Popen(["/bin/sh", "-c", "read line", "submitit"], stdin=subprocess.PIPE)
        assert queue.state(str(process.pid)) == ALIVE
        process.communicate()
        assert queue.state(str(process.pid)) == ENDED
    assert queue.state("2") == ENDED  # no command line, and never one


def test_a_job_that_is_a_zombie_has_ended() -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "exit", "submitit"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert open_queue("local", 1.0).state(str(process.pid)) == ENDED
    process.wait()


def test_several_devices_are_processes_of_one_node(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    (result,) = executor().run([make_job("ranks", folder=str(tmp_path / "meet"), devices=2)])
    assert (result["rank"], result["world"]) == (0, 2)


DRIVER = """
import sys
from pathlib import Path
from al_lab.execution.job import Job
from al_lab.execution.queues import ALIVE, ENDED, open_queue
from al_lab.execution.slurm import SlurmExecutor, SlurmTask
from al_lab.execution.submitted import Submitted
folder = Path(sys.argv[1])
SlurmExecutor(cluster="local", poll_seconds=0.1).run(
    [Job("slow", "lab_jobs:waits", {"go": str(folder / "go"), "log": str(folder / "log")}, folder / "slow.json")])
"""


def drive_and_kill(folder: Path, *until: str) -> None:
    """Start a driver of one job that waits, and kill it as soon as these files are there."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=env, start_new_session=True)
    deadline = time.monotonic() + 100
    while not all((folder / name).exists() for name in until) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_jobs_outlive_the_driver_and_are_waited_for_not_submitted_twice(make_job: MakeJob, tmp_path: Path) -> None:
    drive_and_kill(tmp_path, "slow.json.submitted", "log")
    note = json.loads((tmp_path / "slow.json.submitted").read_text())
    (tmp_path / "go").touch()
    job = Job(
        "slow", "lab_jobs:waits", {"go": str(tmp_path / "go"), "log": str(tmp_path / "log")}, tmp_path / "slow.json"
    )
    assert note["job_hash"] == job.hash
    assert executor().run([job]) == [{"waited": True}]
    assert (tmp_path / "log").read_text() == "started\n"  # once
    assert not (tmp_path / "slow.json.submitted").exists()


def test_a_running_job_of_other_arguments_is_cancelled(make_job: MakeJob, tmp_path: Path) -> None:
    drive_and_kill(tmp_path, "slow.json.submitted")
    old = int(json.loads((tmp_path / "slow.json.submitted").read_text())["job_id"])
    job = Job("slow", "lab_jobs:square", {"x": 2}, tmp_path / "slow.json")
    assert executor().run([job])[0]["y"] == 4
    deadline = time.monotonic() + 100
    while (
        Path(f"/proc/{old}/cmdline").exists()
        and Path(f"/proc/{old}/cmdline").read_bytes()
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not Path(f"/proc/{old}/cmdline").exists() or not Path(f"/proc/{old}/cmdline").read_bytes()


@pytest.mark.parametrize(("options", "cores"), [({}, 10), ({"cpus_per_task": 3}, 3)])
def test_a_job_asks_for_the_cores_of_its_loaders_too(
    options: dict[str, int], cores: int, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submitit

    asked: dict[str, object] = {}
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **given: asked.update(given))
    one = executor(threads=2, options={"gpus_per_node": 1, **options})
    one.loaders = 3
    one._submitter(make_job("square").result.parent / "slurm", devices=2)
    assert (asked["cpus_per_task"], asked["gpus_per_node"]) == (cores, 2)


SINFO = """#!/bin/sh
case "$*" in *partition=gpu*) echo "16|gpu:a100:4(S:0-1)";; *) printf '2|(null)\\n12|(null)\\n16|gpu:4\\n';; esac
"""


@pytest.mark.parametrize(
    ("options", "devices", "cores"),
    [
        ({}, 1, 9),  # the largest node has 16
        ({}, 2, 16),
        ({"slurm_partition": "gpu", "gpus_per_node": 1}, 1, 4),  # its 4 GPUs share 16
        ({"slurm_partition": "gpu", "gpus_per_node": 1}, 2, 8),
        ({"cpus_per_task": 40}, 1, 40),
    ],
)
def test_of_its_own_accord_a_job_asks_for_no_more_cores_than_a_node_has(
    options: dict[str, int], devices: int, cores: int, make_job: MakeJob, fake_slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import submitit

    (fake_slurm / "sinfo").write_text(SINFO)
    (fake_slurm / "sinfo").chmod(0o755)
    asked: dict[str, object] = {}
    monkeypatch.setattr(submitit.AutoExecutor, "update_parameters", lambda self, **given: asked.update(given))
    cluster = SlurmExecutor(options=options)
    cluster.loaders = 8
    cluster._submitter(make_job("square").result.parent / "slurm", devices)
    assert asked["cpus_per_task"] == cores


def test_a_job_that_waits_for_what_no_node_has_is_said_once(fake_slurm: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fake_slurm / "queue").write_text("8|PENDING|Priority|a|b\n9|PENDING|PartitionConfig|a\n")
    queue = SlurmQueue(0)
    assert [queue.state(i) for i in ("8", "9", "9")] == [ALIVE] * 3
    (said,) = caplog.messages
    assert "SLURM does not start job 9, for PartitionConfig" in said and "scontrol show job 9" in said


def test_options_submitit_does_not_know_are_named(make_job: MakeJob) -> None:
    with pytest.raises(ConfigError, match=r"executor.options: .*slurm_partitoin"):
        executor(options={"slurm_partitoin": "gpu"}).run([make_job("square", x=1)])


def test_without_slurm_on_the_machine_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="sbatch and srun"):
        SlurmExecutor()


def test_the_cluster_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match=r"executor\.cluster: expected slurm \| local, got 'pbs'"):
        SlurmExecutor(cluster="pbs")


SBATCH = """#!/bin/sh
# A cluster of one machine: runs every task of the array at once, as sbatch would, and answers like it. As sbatch does, it takes
# a copy of the script before it returns: submitit moves the file then. The first array loses the task $FAKE_LOSES.
cp "$1" "$FAKE_SLURM/submitted.sh"
echo >> "$FAKE_SLURM/arrays"
array=$(wc -l < "$FAKE_SLURM/arrays")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
ids=7$array
[ -n "$last" ] && ids=$(seq -f 7${array}_%g 0 "$last")
for id in $ids; do
  [ "$id" = "71_$FAKE_LOSES" ] && continue
  SLURM_JOB_ID=$id SLURM_ARRAY_JOB_ID=${last:+7$array} SLURM_ARRAY_TASK_ID=${last:+${id#*_}} SLURM_NTASKS=1 SLURM_PROCID=0 \\
    SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here sh "$FAKE_SLURM/submitted.sh" >/dev/null 2>&1 &
done
echo "Submitted batch job 7$array"
"""  # noqa: E501
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift;; esac; shift; done
exec "$@"
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
"""
SQUEUE = """#!/bin/sh
cat "$FAKE_SLURM/queue"
"""
SCANCEL = """#!/bin/sh
echo "$@" >> "$FAKE_SLURM/cancelled"
"""


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cluster without accounting, whose queue is what the file ``queue`` says."""
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("squeue", SQUEUE), ("scancel", SCANCEL),
                       ("sinfo", "#!/bin/sh\nexit 1\n")):  # fmt: skip
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    return tmp_path


def test_a_batch_is_one_job_array_with_its_threads_and_its_import_path(make_job: MakeJob, fake_slurm: Path) -> None:
    cluster = SlurmExecutor(
        threads=2, parallel=2, poll_seconds=0.1, options={"slurm_partition": "gpu", "timeout_min": 30}
    )
    results = cluster.run([make_job("who", x=n) for n in range(3)])
    assert {(r["threads"], r["al_lab"]) for r in results} == {("2", "2")}
    submitted = (fake_slurm / "submitted.sh").read_text()
    for line in ("#SBATCH --array=0-2%2", "#SBATCH --partition=gpu", "#SBATCH --time=30", "#SBATCH --cpus-per-task=2"):
        assert line in submitted


def test_a_job_that_neither_accounting_nor_queue_knows_is_submitted_again(
    make_job: MakeJob, fake_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_LOSES", "1")
    monkeypatch.setattr(slurm, "_NETWORK_DISK_S", 0.0)
    (fake_slurm / "queue").write_text("71_0\n71_2\n72\n")
    results = SlurmExecutor(poll_seconds=0.1).run([make_job("square", x=n) for n in range(3)])
    assert [r["y"] for r in results] == [0, 1, 4]
    assert len((fake_slurm / "arrays").read_text()) == 2


def test_a_queue_that_does_not_answer_loses_no_job(
    make_job: MakeJob, fake_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(slurm, "_NETWORK_DISK_S", 0.0)
    assert SlurmExecutor(poll_seconds=0.1).run([make_job("square", x=n) for n in range(2)])[1]["y"] == 1
    assert len((fake_slurm / "arrays").read_text()) == 1


def test_what_the_cluster_ends_is_put_back_a_few_times_and_the_way_to_end_it_is_said(
    make_job: MakeJob, fake_slurm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job was killed before it could say a word: only the queue's state tells."""
    job = make_job("dies", flag=str(fake_slurm / "flag"), times=2)
    (fake_slurm / "queue").write_text("71|CANCELLED|None|x\n72|PREEMPTED|None|x\n73|RUNNING|None|x\n")
    assert SlurmExecutor(poll_seconds=0.1, retries=0, options={"requeues": 2}).run([job]) == [{"attempts": 3}]
    (first, second) = [r.getMessage() for r in caplog.records if "put back" in r.getMessage()]
    assert "(1 of 2)" in first and "(2 of 2)" in second
    assert f"to end it for good stop this process, {os.getpid()} on " in first
    assert not list(job.result.parent.glob("*.interrupted.json")) + list(job.result.parent.glob("*.submitted"))


def test_a_job_that_says_it_was_asked_to_end_is_put_back_and_at_last_given_up(
    make_job: MakeJob, fake_slurm: Path
) -> None:
    cluster = SlurmExecutor(poll_seconds=0.1, retries=0, options={"requeues": 1})
    (fake_slurm / "queue").write_text("79|RUNNING|None|x\n")
    assert cluster.run([make_job("is_asked_to_end", flag=str(fake_slurm / "flag"))]) == [{"asked": 2}]
    with pytest.raises(JobError, match=r"the cluster ended it 2 times .*executor.options.requeues"):
        cluster.run([make_job("is_asked_to_end", flag=str(fake_slurm / "other"), times=9)])


def test_the_time_limit_is_no_error_of_the_job(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit puts the job back from within a signal handler, and leaves it with a SystemExit in the middle of its
    work."""
    task, job = SlurmTask(threads=1, retries=0), make_job("leaves", code=-1)
    spec = job.to_json()

    def run(*args: object) -> dict:
        again = task.checkpoint(spec, "token")
        assert (again.args, again.function.is_put_back) == ((spec, "token"), False)
        return real(*args)

    real = slurm.run_on_this_machine
    monkeypatch.setattr(slurm, "run_on_this_machine", run)
    assert task(spec, "token") == "put back"
    assert [path.suffix for path in job.result.parent.iterdir()] == [".log"]


def test_a_job_of_another_run_leaves_not_even_a_log(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a cluster's node it looks for a while: a network disk may show what was there before."""
    looks = []
    monkeypatch.setattr("al_lab.execution.local._POLL_S", 0.0)
    monkeypatch.setattr(slurm, "_NETWORK_DISK_S", 30.0)
    monkeypatch.setenv("SLURM_JOB_ID", "1")

    def check(self: RunIdentity) -> None:
        looks.append(self.id)
        if len(looks) < 3:
            real(self)

    environment = tmp_path / ENVIRONMENT
    environment.write_text('{"run": {"id": "theirs", "fingerprint": "f"}}')
    job = dataclasses.replace(make_job("square", x=2), run=RunIdentity(str(tmp_path), "mine", "f"))
    real = RunIdentity.check
    with monkeypatch.context() as patch:
        patch.setattr(RunIdentity, "check", check)
        assert SlurmTask(1, 0)(job.to_json(), "token") == "done"
    assert looks[:3] == ["mine"] * 3
    job.result.unlink()
    job.log_path.unlink()
    monkeypatch.setattr(slurm, "_NETWORK_DISK_S", 0.0)
    assert SlurmTask(1, 0)(job.to_json(), "token") == "of another run"
    assert "got that of run theirs" in caplog.text
    assert not list(job.result.parent.iterdir())


def test_how_often_is_a_number(fake_slurm: Path) -> None:
    with pytest.raises(ConfigError, match="executor.options.requeues"):
        SlurmExecutor(options={"requeues": -1})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Interrupted])
def test_stopping_cancels_and_the_next_process_submits_again_without_counting(
    make_job: MakeJob, fake_slurm: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def stopped(seconds: float) -> None:
        raise stop

    job = make_job("waits", go=str(fake_slurm / "go"), log=str(fake_slurm / "log"))
    (fake_slurm / "queue").write_text("71|RUNNING|None|x\n")
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "time", SimpleNamespace(sleep=stopped, monotonic=time.monotonic))
        with pytest.raises(stop):
            SlurmExecutor(poll_seconds=0.1, options={"requeues": 0}).run([job])
    assert (fake_slurm / "cancelled").read_text() == "71\n"
    (fake_slurm / "go").touch()
    (fake_slurm / "queue").write_text("71|CANCELLED|None|x\n72|RUNNING|None|x\n")
    assert SlurmExecutor(poll_seconds=0.1, options={"requeues": 0}).run([job]) == [{"waited": True}]


def test_jobs_of_this_run_that_no_note_names_are_ended(make_job: MakeJob, fake_slurm: Path) -> None:
    (fake_slurm / ENVIRONMENT).write_text('{"run": {"id": "mine", "fingerprint": "f"}}')
    (fake_slurm / "queue").write_text(
        "8|RUNNING|None|al_lab-mine\n9|RUNNING|None|al_lab-other\n10|COMPLETED|None|al_lab-mine\n"
    )
    cluster = SlurmExecutor(poll_seconds=0.1)
    cluster.identity = RunIdentity(str(fake_slurm), "mine", "f")
    assert cluster.run([make_job("square", x=2)])[0]["y"] == 4
    assert (fake_slurm / "cancelled").read_text() == "8\n"
    assert "#SBATCH --job-name=al_lab-mine" in (fake_slurm / "submitted.sh").read_text()


def test_a_job_of_another_run_in_the_same_place_is_cancelled_not_waited_for(
    make_job: MakeJob, fake_slurm: Path
) -> None:
    """Same function, same arguments: only the run tells them apart."""
    (fake_slurm / ENVIRONMENT).write_text('{"run": {"id": "mine", "fingerprint": "f"}}')
    job = make_job("square", x=2)
    job.result.parent.mkdir()
    theirs = RunIdentity(str(fake_slurm), "theirs", "f")
    Submitted(dataclasses.replace(job, run=theirs), 1, 0, "token", str(fake_slurm), "8").write()
    (fake_slurm / "queue").write_text("8|PENDING|None|al_lab-theirs\n")
    cluster = SlurmExecutor(poll_seconds=0.1)
    cluster.identity = RunIdentity(str(fake_slurm), "mine", "f")
    assert cluster.run([job])[0]["y"] == 4
    assert (fake_slurm / "cancelled").read_text() == "8\n"


def test_a_cluster_without_accounts_is_not_complained_about(
    make_job: MakeJob, fake_slurm: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (fake_slurm / "sacct").write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2\nexit 1\n")
    (fake_slurm / "queue").write_text("71|RUNNING|None|x\n")
    with caplog.at_level(logging.DEBUG):
        SlurmExecutor(poll_seconds=0.1).run([make_job("square", x=2)])
    assert "sacct" not in caplog.text and "accounting" not in capfd.readouterr().err
