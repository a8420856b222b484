"""A real campaign in real processes, killed with SIGKILL at arbitrary moments: the same command ends in the same run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_resume import contents

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("AL_LAB_TEST_KILLS", "4"))


def command(outputs: Path, data: Path) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), "strategy=entropy", "dataset=shapes", "debug=smoke", "executor=local", "executor.workers=2",
            "dataset.num_pool=60", "dataset.num_val=4", "dataset.num_test=20", "trainer.max_iters=40", "runtime.checkpoint_minutes=0.005",
            "runtime.predict_batch=8", f"runtime.outputs_dir={outputs}", f"runtime.data_dir={data}"]


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
        process = subprocess.Popen(command(tmp_path / str(attempt), tmp_path / "data"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=float(rng.uniform(4, 20)))
            same(finish(tmp_path / str(attempt), tmp_path / "data"), whole)
            attempt += 1  # it came to its end between two kills: the next ones hit a new run
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    same(finish(tmp_path / str(attempt), tmp_path / "data"), whole)


def same(run_dir: Path, whole: Path) -> None:
    ours, theirs = contents(run_dir), contents(whole)
    assert set(ours) == set(theirs)
    for name in theirs:
        if name != "config.yaml":  # it names the outputs folder
            assert ours[name] == theirs[name], name
