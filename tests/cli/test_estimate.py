"""The estimate as a person reads it."""

import sys

import pytest

from al_lab.campaign.forecast_speed import CardSpeed
from al_lab.cli import estimate, main


def test_the_page_of_a_published_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["strategy=mgral", "dataset=voc", "--gpus", "16"]) == 0
    page = capsys.readouterr().out
    for line in (
        "strategy=mgral dataset=voc, protocol mgral",
        "pool 16,551, test 4,952 images (the official counts)",
        "row: 1,872 trainings of 120,000 steps, 224,640,000 in all",
        "nobody has run it",
        "at most 1680 images a second and device; with runtime.num_workers=",
        "(what this command does)",
        "stopped early",
        "strategy.lut.early_stop=0.25",
        "strategy.lut.calibrate=8",
        "executor.workers=32",
        "labels: 10,000 images, 24,203 boxes; 52.6 hours of people",
    ):
        assert line in page
    assert " on 16" in page and " on 8" not in page


def test_a_network_without_numbers_is_said_to_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["strategy=entropy", "dataset=shapes"]) == 0
    page = capsys.readouterr().out
    assert "this network is in no table; --measure tells them from a minute here" in page
    assert "disk: unknown (--measure)" in page
    assert "280 images" in page and "boxes (of unknown number) left out" in page


def test_the_hours_of_a_program_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["detector=predictions", "strategy=entropy", "dataset=shapes"]
    assert estimate.main(words) == 0
    page = capsys.readouterr().out
    assert "training: 4 trainings\n" in page and "hours: those of the model's own program" in page
    assert estimate.main([*words, "--measure"]) == 2
    assert "got one that its own program trains; time the program itself" in capsys.readouterr().err


def test_a_command_that_can_not_run_has_no_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert estimate.main(["strategy=entropi", "dataset=shapes"]) == 2
    assert "did you mean 'entropy'?" in capsys.readouterr().err


def test_a_campaigns_own_command_is_estimated_with_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(estimate, "main", lambda arguments: asked.append(arguments) or 0)
    monkeypatch.setattr(sys, "argv", ["run.py", "strategy=entropy", "--estimate", "dataset=voc"])
    assert main.main() == 0
    assert asked == [["strategy=entropy", "dataset=voc"]]


@pytest.mark.parametrize(("seconds", "text"), [(61, "61 s"), (4000, "67 min"), (7 * 3600, "7.0 h"), (4e6, "1,111 h")])
def test_durations(seconds: float, text: str) -> None:
    assert estimate._time(seconds) == text


def test_cores_that_keep_up_are_said_to() -> None:
    from al_lab.campaign.forecast import Training
    from al_lab.campaign.forecast_tables import CARDS, NETWORKS

    speed = CardSpeed(CARDS[0], NETWORKS["retinanet_r50"], 1.0, {"campaign": 8}, {"campaign": 1.0}, 1000.0, 1000.0)
    lines = estimate._hours("x", speed, [(0, (Training("training", 10),))], [1])
    assert lines[-1].endswith("1000 images a second and device, which is enough)")
