"""Ray: a killed worker's job runs again, errors come whole, impossible wishes are refused."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from al_lab.core.errors import ConfigError, JobError
from al_lab.core.record.identity import ENVIRONMENT, RunIdentity
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
    assert "it needs 3 CPUs and no node of the Ray cluster has more than 2" in message
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


@pytest.mark.parametrize(
    ("options", "loaders", "cluster", "needs"),
    [
        ({}, 0, {"CPU": 8.0}, (1, 0.0)),
        ({}, 7, {"CPU": 64.0, "GPU": 8.0}, (8, 1.0)),
        ({}, 7, {"CPU": 32.0, "GPU": 8.0}, (4, 1.0)),  # every GPU gets a job
        ({"threads": 2, "gpus": 0.5}, 3, {"CPU": 128.0, "GPU": 8.0}, (5, 0.5)),
        ({"threads": 2, "gpus": 0.5}, 3, {"CPU": 64.0, "GPU": 8.0}, (4, 0.5)),
        ({}, 8, {"CPU": 2.0}, (2, 0.0)),  # a laptop
        ({}, 8, {}, (1, 0.0)),
        ({"cpus": 4, "gpus": 0}, 3, {"CPU": 64.0}, (4, 0.0)),
    ],
)
def test_a_device_asks_for_the_cores_and_gpus_it_uses(options, loaders, cluster, needs) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    executor = RayExecutor(**options)
    executor.loaders = loaders
    assert executor._needs([{}, cluster, {"CPU": 1.0}]) == needs


def test_cpus_by_choice_on_a_cluster_with_gpus_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    executor = RayExecutor(gpus=0)
    for _ in range(2):
        executor._needs([{"CPU": 8.0, "GPU": 2.0}])
    assert [m for m in caplog.messages if "the Ray cluster has 2 GPUs (executor.gpus=auto)" in m] == caplog.messages


class Tasks:
    """Ray's calls, each done at once in this process; keeps what every task asked for."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, **resources: float) -> None:
        self.resources, self.asked, self.done = resources, [], {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"CPU": 512.0}}]

    def remote(self, function: Callable[..., Any]) -> SimpleNamespace:
        def call(*arguments: Any) -> int:
            self.done[len(self.done)] = function(*arguments)
            return len(self.done) - 1

        def options(**wishes: Any) -> SimpleNamespace:
            self.asked.append((wishes["num_cpus"], wishes["num_gpus"]))
            return SimpleNamespace(remote=call)

        return SimpleNamespace(options=options)

    def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return references[:1], references[1:]

    def get(self, reference: int) -> Any:
        return self.done[reference]


@pytest.mark.parametrize(("times", "is_done"), [(1, True), (9, False)])
def test_a_job_that_finds_its_part_of_a_gpu_full_gets_a_whole_one_once(
    times: int, is_done: bool, make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    tasks, executor = Tasks(CPU=8.0, GPU=2.0), RayExecutor(gpus=0.25)
    monkeypatch.setattr(executor, "_connect", lambda: tasks)
    (tmp_path / "memory").mkdir()
    job = make_job("needs_memory", name="big", folder=str(tmp_path / "memory"), times=times)
    job.kwargs["name"] = "big"
    if is_done:
        assert executor.run([job])[0]["beside"] == []
        assert json.loads(job.result.read_text())["note"] == {"out_of_memory": [0.25], "alone": [1]}
    else:
        with pytest.raises(JobError, match=r"out of memory; .*runtime.devices=2"):
            executor.run([job])
    assert tasks.asked == [(1, 0.25), (1, 1.0)]


def test_a_node_that_does_not_see_the_run_folder_is_named_and_makes_none(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NETWORK_DISK_S", 0.0)
    monkeypatch.setattr("al_lab.core.record.identity.socket.gethostname", lambda: "node7")
    gone = tmp_path / "network" / "run"
    job = dataclasses.replace(make_job("square", x=1), result=gone / "row.json", run=RunIdentity(str(gone), "a", "f"))
    outcome = module.run_on_node(job, 1, 2)
    assert outcome["reason"].startswith(
        f"JobError: {gone}: expected the folder of run a, got no such folder on machine node7"
    )
    assert "mount its disk on node7" in outcome["reason"]
    assert not gone.parent.exists()


def test_a_node_that_loses_the_run_folder_in_the_middle_is_named(make_job: MakeJob, tmp_path: Path) -> None:
    run = tmp_path / "network"
    run.mkdir()
    (run / ENVIRONMENT).write_text(json.dumps({"run": {"id": "a", "fingerprint": "f"}}))
    job = make_job("loses_its_disk", folder=str(run))
    job = dataclasses.replace(job, result=run / "row.json", run=RunIdentity(str(run), "a", "f"))
    outcome = module.run_on_node(job, 1, 2)
    assert "no such folder on machine" in outcome["reason"] and outcome["lab"]
    assert not run.exists()


def test_more_than_one_gpu_comes_in_whole_ones() -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with pytest.raises(ConfigError, match=r"executor.gpus: expected a whole number >= 1, got 1\.5"):
        RayExecutor(gpus=1.5)
