"""``trainer.precision=auto`` is decided once, by the device that trains, and a run keeps what was decided."""

from pathlib import Path
from typing import Any

import pytest
import torch

from al_lab.campaign import precision
from al_lab.campaign.loop import run_campaign
from al_lab.config.load import load_config
from al_lab.core.files import read_json
from al_lab.stages.probe import device as DEVICE  # noqa: N812 - the real one
from tests.stubs import stub_config

RANDOM = {"_target_": "al_lab.strategies.general.random.Random"}
ASKED: list[str] = []  # what the device answers, from now on


def answer() -> dict[str, Any]:
    """Stand in for `al_lab.stages.probe.device`."""
    ASKED.append("")
    return {"device": "Card", "precision": "bf16-mixed" if len(ASKED) == 1 else 32}


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)
    monkeypatch.setattr(precision, "visible_gpus", lambda: ["0"])
    monkeypatch.setattr("al_lab.stages.probe.device", answer)
    ASKED.clear()


def run(folder: Path, value: Any = "auto", **changes: Any) -> Any:
    """Run a campaign and return the precision that its folder says."""
    config = stub_config(RANDOM, cycles=0) | changes
    config["trainer"] = {**config["trainer"], "precision": value}
    run_campaign(config, folder)
    return load_config(folder)["trainer"]["precision"]


def test_the_device_is_asked_once_and_another_one_changes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "run") == "bf16-mixed"
    assert read_json(tmp_path / "run" / "device.json")["result"] == {"device": "Card", "precision": "bf16-mixed"}
    assert run(tmp_path / "run") == "bf16-mixed" and len(ASKED) == 1
    assert run(tmp_path / "run", restart="again") == 32 and len(ASKED) == 2  # a new run asks anew


def test_a_lost_configuration_is_written_with_what_was_decided(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    assert run(tmp_path / "run") == "bf16-mixed" and len(ASKED) == 1


def test_a_run_that_was_begun_in_32_goes_on_in_it(tmp_path: Path) -> None:
    run(tmp_path / "run", 32)
    assert run(tmp_path / "run") == 32 and not ASKED


def test_without_a_gpu_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "visible_gpus", list)
    assert run(tmp_path / "run") == 32 and not ASKED
    assert not (tmp_path / "run" / "device.json").exists()


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert DEVICE() == {"device": "a CPU", "precision": 32}
