"""A real campaign in real processes, killed with SIGKILL at arbitrary moments: the same command ends in the
same run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.campaign.runs import contents

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("AL_LAB_TEST_KILLS", "4"))


def command(outputs: Path, data: Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "run.py"),
        "strategy=entropy",
        "dataset=shapes",
        "debug=smoke",
        "executor=local",
        "executor.workers=2",
        "dataset.num_pool=60",
        "dataset.num_val=4",
        "dataset.num_test=20",
        "trainer.max_iters=40",
        "runtime.checkpoint_minutes=0.005",
        "runtime.predict_batch=8",
        f"runtime.outputs_dir={outputs}",
        f"runtime.data_dir={data}",
    ]


def finish(outputs: Path, data: Path) -> Path:
    result = subprocess.run(command(outputs, data), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    (ledger,) = outputs.rglob("ledger.jsonl")
    return ledger.parent


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole", tmp_path / "data")
    rng = np.random.default_rng(0)
    killed = attempt = 0
    while killed < KILLS:
        process = subprocess.Popen(
            command(tmp_path / str(attempt), tmp_path / "data"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=float(rng.uniform(4, 20)))
            same(finish(tmp_path / str(attempt), tmp_path / "data"), whole)
            attempt += 1  # it came to its end between two kills: the next ones hit a new run
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    same(finish(tmp_path / str(attempt), tmp_path / "data"), whole)


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_campaign_behind(tmp_path: Path) -> None:
    python, script, *overrides = command(tmp_path / "outputs", tmp_path / "data")
    sweep = [python, script, "-m", "seed=0,1", *overrides, "trainer.max_iters=10"]
    process = subprocess.Popen(sweep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("run.log"))) < 2:  # both campaigns hold their folders
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(5)  # a job looks twice a second, its workers end within two
    result = subprocess.run(sweep, capture_output=True, text=True, check=False)  # refused if a folder were still locked
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "sweep: 2 of 2 jobs ended well" in result.stdout


def same(run_dir: Path, whole: Path) -> None:
    ours, theirs = contents(run_dir), contents(whole)
    assert set(ours) == set(theirs)
    for name in theirs:
        if name != "config.yaml":  # it names the outputs folder
            assert ours[name] == theirs[name], name
