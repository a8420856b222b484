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
    assert {ip for name, ip in listening() if name in ("gcs_server", "raylet", "python")} == {"127.0.0.1"}
    assert {ip for _, ip in listening()} == {"127.0.0.1"}

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


def listening() -> set[tuple[str, str]]:
    """Return name and address of whatever this process and its children listen with."""
    import psutil  # it comes with ray

    me = psutil.Process()
    return {
        (process.name(), socket.laddr.ip.removeprefix("::ffff:"))
        for process in (me, *me.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == "LISTEN"
    }


def test_a_start_that_times_out_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    told = {}

    def init(**options: object) -> None:
        told.update(options)
        raise Exception("The current node timed out during startup. This could happen because …\nmore")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        JobError, match="without an address: expected Ray to start on this machine, got Exception: The cur"
    ) as caught:
        _ = RayExecutor().num_workers
    assert "more" not in str(caught.value)
    assert told["_node_ip_address"] == "127.0.0.1" and told["include_dashboard"] is False
    with pytest.raises(
        JobError, match=r"executor.address=ray://here:1: expected a Ray cluster, got .*; start one with"
    ):
        _ = RayExecutor(address="ray://here:1").num_workers


def test_a_ray_that_others_can_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.7")
    with pytest.raises(JobError, match="only this machine can reach, got one on 192.0.2.7"):
        _ = RayExecutor().num_workers


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"al_lab\[cluster\]"):
        RayExecutor()


def test_more_than_one_gpu_comes_in_whole_ones() -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with pytest.raises(ConfigError, match=r"executor.gpus: expected a whole number >= 1, got 1\.5"):
        RayExecutor(gpus=1.5)
