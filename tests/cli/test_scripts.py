import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def script(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_a_wrong_path_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path / "nowhere")])
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nowhere'}: expected a run folder")


def test_a_run_in_progress_gets_its_page(maker):
    folder = maker.run("entropy", done=0)
    done = script("report.py", folder, cwd=maker.root)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == folder / "report.html"
    assert (folder / "report.html").is_file()


def test_a_report_says_beside_its_path_whether_going_on_is_worth_it(maker, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", str(maker.run("entropy"))])
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    said = capsys.readouterr()
    assert said.out.endswith("report.html\n") and said.err.startswith("Is it worth going on with entropy?")
