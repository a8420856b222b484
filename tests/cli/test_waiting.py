import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from al_lab.cli import waiting

ROOT = Path(__file__).parents[2]


def test_the_first_line_needs_nothing_heavy():
    code = (
        "import sys; from al_lab.cli import main; from al_lab.cli.waiting import first_line; first_line([]); "
        "print([m for m in ('torch', 'hydra', 'omegaconf', 'numpy', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
    assert "al-lab: reading the configuration of the campaign" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["strategy=entropy"], "campaign"),
        (["-m", "seed=0,1"], "sweep"),
        (["--help"], ""),
        (["--cfg", "job"], ""),
        (["--cfg=job"], ""),
    ],
)
def test_commands_that_only_look_say_nothing(arguments, said, capsys):
    waiting.first_line(arguments)
    assert (f"of the {said}\n" in capsys.readouterr().err) == bool(said)


def test_what_takes_long_is_said_again(monkeypatch, caplog):
    monkeypatch.setattr(waiting, "_SECONDS_BETWEEN_LINES", 0.02)
    with caplog.at_level(logging.INFO, "al_lab"), waiting.said_while("loading torch"):
        deadline = time.monotonic() + 10
        while "so far" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert caplog.messages[0] == "loading torch"
    assert "s so far" in caplog.messages[1] and "took" in caplog.messages[-1]
