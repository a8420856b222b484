"""Ray on three nodes, one of which is lost in the middle of a training."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Campaign, assert_same

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and three nodes, of which the head takes no job."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(3):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def node_of(cluster: Any, pid: int) -> Any:
    """Return the node whose worker has this process id: the one whose raylet is among its parents."""
    raylets = {info.process.pid: node for node in cluster.worker_nodes for info in node.all_processes["raylet"]}
    while pid > 1:
        if pid in raylets:
            return raylets[pid]
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    raise LookupError("no node has this process")


def worker_that_trains(session_pids: set[int]) -> int | None:
    """Return the process that runs a job: Ray names it after the task."""
    for pid in session_pids:
        try:
            if b"ray::cycle 00 train" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except OSError:
            continue
    return None


def test_a_node_that_is_lost_in_the_middle_of_a_training_costs_nothing(
    cluster: Any, tmp_path: Path, data: Path, whole: Path
) -> None:
    campaign = Campaign(tmp_path / "out", data, "executor=ray", f"executor.address={cluster.address}")
    process = campaign.start("runtime.checkpoint_minutes=0.02")
    campaign.wait_for_training(process)
    pids = {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()}
    pid = worker_that_trains(pids)
    assert pid is not None
    cluster.remove_node(node_of(cluster, pid), allow_graceful=False)
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert process.wait(timeout=900) == 0, campaign.said()[-4000:]
    assert_same(campaign.run_dir, whole)
    assert campaign.steps[0].count(1) == 1, "the training began anew"
    assert "the task will be retried" in campaign.said()
