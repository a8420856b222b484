"""A SLURM that runs here: whatever ends a job or the campaign, the same command ends in the selections of an
undisturbed run.

A SLURM is taken as it is found. Where none runs, AL_LAB_TEST_SLURM may name a script that is called with ``start`` and,
at the end, with ``stop``; AL_LAB_TEST_SLURM_OPTIONS adds options of the executor ("slurm_partition=test
slurm_account=me").
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Campaign, assert_same

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
MakeCampaign = Callable[..., Campaign]


def answers(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


@pytest.fixture(scope="session", autouse=True)
def slurm() -> Iterator[None]:
    """SLURM, found or started."""
    script = os.environ.get("AL_LAB_TEST_SLURM")
    started = not answers("sinfo", "--noheader") and script is not None
    if started:
        subprocess.run([script, "start"], check=True, timeout=120)
    if not answers("sinfo", "--noheader"):
        have = "slurmctld does not answer" if shutil.which("sinfo") else "no SLURM is installed"
        pytest.skip(f"{have}: start one, or name a script that does in AL_LAB_TEST_SLURM")
    yield
    if started:
        subprocess.run([script, "stop"], check=True, timeout=120)


@pytest.fixture
def campaign(tmp_path: Path, data: Path) -> Iterator[Campaign]:
    """A campaign whose jobs run on SLURM; nothing of it is left in the queue."""
    extra = [f"+executor.options.{word}" for word in os.environ.get("AL_LAB_TEST_SLURM_OPTIONS", "").split()]
    made = Campaign(
        tmp_path / "out", data, "executor=slurm", "executor.parallel=1", "executor.poll_seconds=1",
        "executor.options.gpus_per_node=0", "executor.options.timeout_min=30", *extra,
    )  # fmt: skip
    yield made
    for path in (tmp_path / "out").rglob("environment.json"):
        name = f"al_lab-{json.loads(path.read_text())['run']['id']}"
        assert not answers("squeue", "--noheader", f"--name={name}"), "jobs are left"


def training_job(campaign: Campaign, cycle: int = 0) -> str:
    """Return the id of the job that trains."""
    note = campaign.run_dir / f"cycle_{cycle:02d}" / "train.json.submitted"
    return json.loads(note.read_text())["job_id"]


def state(job_id: str) -> str:
    """Return what SLURM says of a job; it forgets one a few minutes after its end."""
    return (answers("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job_id}") or "forgotten").strip()


def test_a_whole_campaign(campaign: Campaign, whole: Path) -> None:
    assert_same(campaign.finish(), whole)
    assert "sacct" not in campaign.said()
    assert "again" not in campaign.said() and "cancelled" not in campaign.said()


def test_a_training_that_is_cancelled_or_requeued_goes_on_where_it_was(campaign: Campaign, whole: Path) -> None:
    process = campaign.start()
    campaign.wait_for_training(process)
    cancelled = training_job(campaign)
    subprocess.run(["scancel", cancelled], check=True)
    campaign.wait_until(lambda: state(cancelled) == "CANCELLED", process)
    campaign.wait_for_training(process, cycle=1)
    requeued = training_job(campaign, cycle=1)
    subprocess.run(["scontrol", "requeue", requeued], check=True)
    campaign.wait_until(lambda: state(requeued) == "PENDING", process)
    subprocess.run(
        ["scontrol", "update", f"JobId={requeued}", "StartTime=now"], check=False
    )  # else it waits two minutes
    assert process.wait(timeout=900) == 0, campaign.said()[-4000:]
    assert_same(campaign.run_dir, whole)
    assert campaign.said().count("put back into the queue") == 1  # SLURM itself does it with what was requeued
    assert all(steps == sorted(steps) for steps in campaign.steps.values()), "a step was made twice"


def kill_while_held(driver: subprocess.Popen, job_id: str) -> None:
    """Kill a driver; its job stands still, or it would be done before a slow machine has started the next driver."""
    subprocess.run(["scontrol", "suspend", job_id], check=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_a_driver_that_is_killed_leaves_its_job_and_one_that_is_stopped_cancels_it(
    campaign: Campaign, whole: Path
) -> None:
    process = campaign.start()
    campaign.wait_for_training(process)
    left = training_job(campaign)
    kill_while_held(process, left)
    process = campaign.start()
    campaign.wait_until(lambda: f"was submitted before ({left}): waiting for that one" in campaign.said(), process)
    subprocess.run(["scontrol", "resume", left], check=True)
    campaign.wait_for_training(process, cycle=1)
    cancelled = training_job(campaign, cycle=1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert f"cancelled 1 submitted jobs: {cancelled}" in campaign.said()
    assert_same(campaign.finish(), whole)
    assert all(steps == sorted(steps) for steps in campaign.steps.values()), "a step was made twice"


def test_restart_after_a_killed_driver_ends_the_old_job_and_nothing_of_it_counts(
    campaign: Campaign, whole: Path
) -> None:
    """The old run trains with another learning rate, in the same place and under the same names."""
    process = campaign.start("trainer.lr=0.0001", "name=here")
    campaign.wait_for_training(process)
    job_id = training_job(campaign)
    kill_while_held(process, job_id)
    assert_same(campaign.finish("name=here", "restart=true"), whole)
    assert f"ending 1 jobs of the earlier run: {job_id}" in campaign.said()
    assert len(list(campaign.folder.rglob("*before-restart-1"))) == 1
    submitted = campaign.said().count("submitted ")
    campaign.finish("name=here", "restart=true")  # acts once: it is finished
    assert "already finished" in campaign.said()
    assert campaign.said().count("submitted ") == submitted
