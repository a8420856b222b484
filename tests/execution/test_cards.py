"""GPUs that only exist as names: who is on which, who waits, and what happens when one's memory is full."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from al_lab.core.errors import ConfigError, JobError, LabError
from al_lab.execution import machine
from al_lab.execution.cards import Cards, runtime_folder
from al_lab.execution.job import Job
from al_lab.execution.local import LocalExecutor

MakeJob = Callable[..., Job]
EIGHT = [str(n) for n in range(8)]


def test_pools_take_different_cards_and_get_none_when_all_are_taken() -> None:
    pools = [Cards(["0", "1"]) for _ in range(3)]
    assert [pool.take(1) for pool in pools] == [["0"], ["1"], None]
    assert pools[2].holders() == f"GPU 0: process {os.getpid()}, GPU 1: process {os.getpid()}"
    pools[1].give_back(["1"])
    assert pools[2].take(1) == ["1"]


def test_a_pool_with_more_workers_than_cards_shares_them_evenly() -> None:
    cards = Cards(["0", "1"], workers=3)
    assert [cards.take(1) for _ in range(5)] == [["0"], ["1"], ["0"], ["1"], None]
    cards.give_back(["0"])
    cards.give_back(["0"])
    other = Cards(["0", "1"])
    assert other.take(1) == ["0"]  # the last user's end is the end of the lock
    assert cards.take(1) is None


def test_a_group_gets_all_its_cards_or_keeps_none() -> None:
    one, other = Cards(["0", "1", "2"]), Cards(["0", "1", "2"])
    assert one.take(2) == ["0", "1"]
    assert other.take(2) is None
    assert one.take(1) == ["2"]  # which the other did not keep


def test_so_many_campaigns_share_a_card_as_each_says() -> None:
    pools = [Cards(["0"], share=2) for _ in range(3)]
    assert [pool.take(1) for pool in pools] == [["0"], ["0"], None]
    assert Cards(["0"], share=1).take(1) is None
    assert Cards(["0"], share=None).take(1) == ["0"]  # a cluster's own business
    pools[0].give_back(["0"])
    assert pools[2].take(1, alone=True) is None
    pools[1].give_back(["0"])
    assert pools[2].take(1, alone=True) == ["0"]
    assert pools[0].take(1) is None


def test_no_other_job_of_the_pool_begins_on_a_card_that_is_kept_or_cleared_for_one() -> None:
    cards = Cards(["0", "1"], workers=4)
    assert cards.take(1) == ["0"]
    assert cards.take(1, alone=True, first=["0"]) == ["1"]
    assert [cards.take(1), cards.take(1)] == [["0"], None]
    cards.give_back(["1"])
    assert cards.take(1, closed={"1"}) is None
    assert cards.take(1) == ["1"]


def test_without_gpus_nobody_waits_and_nothing_is_locked(runtime_folder: Path) -> None:
    assert [Cards([]).take(n) for n in (1, 4)] == [[], []]
    assert list(runtime_folder.iterdir()) == []


HOLDER = """
import subprocess, sys, time
from pathlib import Path
from al_lab.execution.cards import Cards
cards = Cards(["0"])
assert cards.take(1)
worker = subprocess.Popen(["sleep", "100"], pass_fds=cards.descriptors(["0"]))
Path(sys.argv[1]).write_text(str(worker.pid))
time.sleep(100)
"""


def test_a_dead_process_keeps_its_card_until_its_worker_is_gone(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "pid")], env=env)
    try:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert holder.poll() is None
            time.sleep(0.02)
        cards = Cards(["0"])
        assert cards.take(1) is None
        holder.kill()
        holder.wait()
        assert cards.take(1) is None
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while (taken := cards.take(1)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert taken == ["0"]


def test_two_names_of_a_card_are_one_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    lines = ("GPU 0: H100 (UUID: GPU-aaaa-1)", "GPU 1: H100 (UUID: GPU-bbbb-2)", "  MIG 1g Device 0: (UUID: MIG-c)")
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.visible_gpus() == ["0", "1"]
    assert Cards(["1"]).take(1) == ["1"]
    assert Cards(["GPU-bbbb"]).take(1) is None
    assert machine.card_ids(["0", "GPU-bbbb-2", "MIG-c"]) == {
        "0": "GPU-aaaa-1", "GPU-bbbb-2": "GPU-bbbb-2", "MIG-c": "MIG-c",
    }  # fmt: skip


def test_locks_lie_in_a_folder_of_the_user_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_folder() == tmp_path / "runtime" / "al_lab" / "gpus"
    assert runtime_folder().stat().st_mode & 0o777 == 0o700
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "al_lab").symlink_to(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(strange))
    with pytest.raises(LabError, match="XDG_RUNTIME_DIR"):
        Cards(["0"]).take(1)


def test_a_sweep_of_four_campaigns_with_two_workers_each_uses_every_card_and_none_twice(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Nobody gets to the end before all eight jobs run at once."""
    (tmp_path / "meet").mkdir()
    seen: list[str] = []

    def campaign(number: int) -> None:
        jobs = [make_job("meets", name=f"{number}-{n}", folder=str(tmp_path / "meet"), number=8) for n in range(2)]
        with LocalExecutor(workers=2, gpus=EIGHT) as executor:
            seen.extend(result["gpus"] for result in executor.run(jobs))

    threads = [threading.Thread(target=campaign, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == EIGHT


def test_a_campaign_waits_for_a_card_and_says_so_once(make_job: MakeJob, caplog: pytest.LogCaptureFixture) -> None:
    other = Cards(["0"])
    other.purpose = "outputs/voc/random"
    assert other.take(1)
    threading.Timer(1.5, other.close).start()
    with caplog.at_level(logging.INFO), LocalExecutor(workers=2, gpus=["0"]) as executor:
        assert len(executor.run([make_job("who", x=n) for n in range(2)])) == 2
        assert Cards(["0"]).take(1) == ["0"]  # warm workers hold none
    said = [r.getMessage() for r in caplog.records if "waiting for a free GPU" in r.getMessage()]
    assert len(said) == 1
    assert f"GPU 0: process {os.getpid()} (outputs/voc/random)" in said[0]
    assert "executor.share=2" in said[0]


def test_a_warm_worker_goes_on_where_a_card_is_free(make_job: MakeJob) -> None:
    with LocalExecutor(workers=1, gpus=["0", "1"]) as executor:
        assert executor.run([make_job("who", x=0)])[0]["gpus"] == "0"
        other = Cards(["0", "1"])
        assert other.take(1) == ["0"]
        assert executor.run([make_job("who", x=1)])[0]["gpus"] == "1"


def test_a_job_whose_memory_is_full_is_tried_once_more_with_the_card_to_itself(
    make_job: MakeJob, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    big = make_job("needs_memory", name="big", folder=str(folder), seconds=0.1, times=1)
    rest = [make_job("needs_memory", name=f"small{n}", folder=str(folder), seconds=0.5) for n in range(5)]
    for job in (big, *rest):
        job.kwargs["name"] = job.name
    with caplog.at_level(logging.WARNING), LocalExecutor(workers=3, gpus=["5"]) as executor:
        results = executor.run([big, *rest])
    assert results[0] == {"beside": [], "gpus": "5"}
    assert any(result["beside"] for result in results[1:])  # else there was nothing to be alone from
    assert json.loads(big.result.read_text())["note"] == {"out_of_memory": ["5"], "alone": ["5"]}
    assert "note" not in json.loads(rest[0].result.read_text())
    assert "attempt 2, alone on GPU 5" in big.log_path.read_text()
    assert [m for m in caplog.messages if "the memory of GPU 5 is full; tried again with a GPU to itself" in m]


def test_a_job_that_is_too_big_for_a_card_fails_with_what_helps(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("needs_memory", name="huge", folder=str(tmp_path), times=9)
    job.kwargs["name"] = "huge"
    with LocalExecutor(workers=1, gpus=["5"]) as executor, pytest.raises(JobError) as caught:
        executor.run([job])
    message = str(caught.value)
    assert "2 attempts" in message
    assert "out of memory twice, the second time with GPU 5 to itself" in message
    for word in ("runtime.devices=2", "trainer.batch_size", "trainer.precision"):
        assert word in message


@pytest.mark.parametrize(
    ("options", "named"), [({"share": 0}, "executor.share"), ({"campaigns": 0}, "executor.campaigns")]
)
def test_impossible_shares_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LocalExecutor(**options)


@pytest.mark.parametrize(("gpus", "campaigns", "workers"), [(EIGHT, 1, 8), (EIGHT, 2, 4), (["0"], 2, 1), (0, 3, 1)])
def test_campaigns_of_a_sweep_have_their_part_of_the_cards(gpus: list[str] | int, campaigns: int, workers: int) -> None:
    assert LocalExecutor(gpus=gpus, campaigns=campaigns).num_workers == workers
