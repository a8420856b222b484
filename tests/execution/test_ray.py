"""Ray: a killed worker's job runs again, errors come whole, impossible wishes are refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from al_lab.core.errors import ConfigError, JobError
from al_lab.execution import ray as module
from al_lab.execution.job import Job
from al_lab.execution.ray import RayExecutor

MakeJob = Callable[..., Job]


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """Ray on two cores, writing nothing into the home folder."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with RayExecutor(num_cpus=2, retries=1) as ray:
        yield ray


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_and_an_error_comes_whole(
    make_job: MakeJob, tmp_path: Path, executor: RayExecutor
) -> None:
    (tmp_path / "meet").mkdir()
    good = [
        make_job("dies", flag=str(tmp_path / "flag")),
        make_job("who"),
        make_job("ranks", folder=str(tmp_path / "meet"), devices=2),
    ]
    died, who, ranks = executor.run(good)
    assert died == {"attempts": 2}
    assert who["threads"] == "1"
    assert ranks["world"] == 2
    assert executor.num_workers == 2

    wishes = [
        make_job("refuses"),
        make_job("dies", name="doomed", flag=str(tmp_path / "other"), times=9),
        make_job("who", name="big", devices=3),
        make_job("square", x=5),
    ]
    with pytest.raises(JobError) as caught:
        executor.run(wishes)
    message = str(caught.value)
    assert "DataError: image 'cat.jpg': expected a picture, got a poem; read it aloud" in message
    assert "job 'doomed' (lab_jobs:dies, 2 attempts)" in message
    assert "says goodbye" in message
    assert "it needs 3 CPUs and the Ray cluster has 2" in message
    assert wishes[3].result.exists()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"al_lab\[cluster\]"):
        RayExecutor()


def test_more_than_one_gpu_comes_in_whole_ones() -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with pytest.raises(ConfigError, match="gpus=1.5"):
        RayExecutor(gpus=1.5)
