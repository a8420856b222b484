"""The command as the system sees it: what it makes of its surroundings, and how it ends."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from al_lab.cli import main as command

ROOT = Path(__file__).parents[2]


def test_a_reader_who_has_seen_enough_gets_no_traceback():
    arguments = [sys.executable, ROOT / "run.py", "--help"]
    started = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait() == 128 + 13


def test_a_notebooks_backend_of_figures_is_not_taken_over(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr(sys, "argv", ["al-lab", "--help"])
    assert command.main() == 0 and "al-lab" in capsys.readouterr().out
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.parametrize("module", ["al_lab", "al_lab.cli.main"])
def test_python_m_is_the_command(module, monkeypatch, capsys, tmp_path):
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "argv", ["al-lab", "report", nowhere])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert capsys.readouterr().err.startswith(f"error: {nowhere}: expected a run folder")
