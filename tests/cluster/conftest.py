"""A small campaign, and what an undisturbed run of it ends in."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900


class Campaign:
    """One campaign in a folder of its own; the data are shared."""

    def __init__(self, folder: Path, data: Path, *words: str) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        self.steps: dict[int, list[int]] = {}  # of each cycle's training, as its progress showed them
        self.command = [
            sys.executable, str(ROOT / "run.py"), "strategy=entropy", "dataset=shapes", "debug=smoke", "budget.cycles=1",  # noqa: E501
            "dataset.num_pool=40", "dataset.num_val=4", "dataset.num_test=10", "trainer.max_iters=300",
            "runtime.predict_batch=64", f"runtime.outputs_dir={folder}", f"runtime.data_dir={data}", *words,
        ]  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen:
        """Start it, or go on with it."""
        with self.log.open("ab") as stream:
            process = subprocess.Popen([*self.command, *words], stdout=stream, stderr=stream)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        return process

    def _watch(self, process: subprocess.Popen) -> None:
        """Note the steps: an attempt shows the first one it makes at once, and then one every few seconds."""
        while process.poll() is None:
            for path in self.folder.rglob("seed0/cycle_*/training/progress.json"):
                with contextlib.suppress(OSError, ValueError):
                    step, seen = (
                        json.loads(path.read_text())["step"],
                        self.steps.setdefault(int(path.parts[-3][-2:]), []),
                    )
                    seen += [step] if not seen or seen[-1] != step else []
            time.sleep(0.2)

    def finish(self, *words: str) -> Path:
        """Run it to its end and return the run's folder."""
        code = self.start(*words).wait(timeout=PATIENCE_S)
        assert code == 0, self.said()[-4000:]
        return self.run_dir

    def said(self) -> str:
        """Return what all its processes have said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def run_dir(self) -> Path:
        """The run's folder; there is one as soon as something is committed."""
        (ledger,) = (p for p in self.folder.rglob("ledger.jsonl") if "before-restart" not in str(p))
        return ledger.parent

    def wait_until(self, is_so: Callable[[], object], process: subprocess.Popen) -> None:
        """Wait for a moment of the campaign while its process runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert process.poll() is None, self.said()[-4000:]
            assert time.monotonic() < deadline, f"waited in vain\n{self.said()[-4000:]}"
            time.sleep(0.2)

    def wait_for_training(self, process: subprocess.Popen, cycle: int = 0) -> None:
        """Wait until the training of a cycle is in the middle of its steps."""
        self.wait_until(lambda: len(self.steps.get(cycle, ())) > 1, process)


def assert_same(ours: Path, theirs: Path) -> None:
    """Compare what was bought and the last model, byte by byte."""
    for name in ("selections.json", "metrics.jsonl", "cycle_00/model.ckpt", "cycle_01/model.ckpt"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the generated images are."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The run folder of the campaign in one process, undisturbed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return Campaign(tmp_path_factory.mktemp("whole") / "out", data, "executor=inline").finish()
