"""The check of a card: its page is kept point by point, and the whole of it runs in its CPU form."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from al_lab.benchmarks.gpu.page import Page
from al_lab.benchmarks.gpu.setup import Photos, Seen

ROOT = Path(__file__).parents[2]
CARD = {"card": "Pretend H100, 80 GiB", "driver": "1.2"}


def _well() -> Seen:
    yield "a | b", "3 steps/s"


def _badly() -> Seen:
    yield "first", "seen"
    raise RuntimeError("CUDA error:\nno kernel image")


def test_a_point_that_fails_is_on_the_page_and_is_run_again_alone(tmp_path: Path) -> None:
    page, told = Page(tmp_path, CARD), list[str]()
    assert page.run(7, "Suppression", _well, told.append)
    assert not page.run(3, "Objectives", _badly, told.append)
    text = (tmp_path / "pretend_h100_80_gib.md").read_text()
    assert text.index("## 3. Objectives") < text.index("## 7. Suppression")
    assert "| a \\| b | 3 steps/s |" in text and "| first | seen |" in text
    assert "| FAILED | RuntimeError: CUDA error: no kernel image (test_gpu_check.py:" in text
    again = Page(tmp_path, CARD)
    assert again.is_done(7) and not again.is_done(3)
    assert not Page(tmp_path, CARD | {"driver": "1.3"}).is_done(7)  # another driver's numbers are others


def test_photographs_cost_what_decoding_costs(tmp_path: Path) -> None:
    drawn = Photos(3)
    assert drawn.is_drawn and len(drawn.pool_ids) == 3
    assert drawn.load_image(drawn.pool_ids[1]).shape == (*drawn.size_hw(drawn.pool_ids[1]), 3) == (500, 375, 3)
    shutil.copy(drawn._files[drawn.pool_ids[0]], tmp_path / "real.jpg")
    assert Photos(3, tmp_path).pool_ids == ("real",)


@pytest.mark.slow
def test_the_whole_check_runs_in_its_cpu_form(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/gpu_check.py", "--device", "cpu", "--smoke", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "none_the_cpu.md").read_text()
    assert [f"## {n}. " in text for n in range(1, 10)] == [True] * 9
    assert "exit code" not in text and "FAILED" not in text
    done = subprocess.run([*command, "--points", "1", "9"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.count("done before") == 2
