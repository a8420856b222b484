"""How long the rest takes: unknown rather than wrong."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from al_lab.campaign import progress
from al_lab.campaign.loop import run_campaign
from al_lab.campaign.progress import Eta
from al_lab.core.record.ledger import Ledger
from tests.stubs import quicken, stub_config

STAGES = ("train", "evaluate", "select")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def eta_of(ledger: Ledger, cycles: int = 3) -> Eta:
    return Eta(ledger, [(cycle, SimpleNamespace(name=name)) for cycle in range(cycles) for name in STAGES])


def done(
    ledger: Ledger, cycle: int, *, train: float, evaluate: float = 10, select: float = 5, reused: bool = False
) -> None:
    for stage, seconds in zip(STAGES, (train, evaluate, select), strict=True):
        ledger.commit(cycle, stage, seconds=seconds, scalars={}, files={})
    folder = ledger.path.parent / f"cycle_{cycle:02d}"
    folder.mkdir()
    if not reused:
        (folder / "train.json").touch()


def test_the_next_cycles_take_as_long_as_the_last(ledger):
    eta = eta_of(ledger)
    assert eta.seconds() is None
    done(ledger, 0, train=100)
    assert eta.seconds() == 2 * 115
    done(ledger, 1, train=120, select=8)
    assert eta.seconds() == 120 + 10 + 8
    assert eta.sentence() == " | about 2 min 18 s to go"


def test_a_training_from_the_cache_says_nothing_of_the_next(ledger):
    eta = eta_of(ledger)
    done(ledger, 0, train=0.1, reused=True)
    assert eta.seconds() is None
    assert eta.sentence() == ""
    done(ledger, 1, train=100)
    assert eta.seconds() == 115
    eta = eta_of(ledger, cycles=4)
    done(ledger, 2, train=0.1, reused=True)
    assert eta.seconds() == 115


def test_a_training_that_went_on_after_a_kill_counts_no_less(ledger):
    eta = eta_of(ledger)
    done(ledger, 0, train=100)
    done(ledger, 1, train=3)
    assert eta.seconds() == 115


def test_the_training_under_way_tells_of_those_to_come(ledger, monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    eta = eta_of(ledger)
    done(ledger, 0, train=0.1, reused=True)
    eta.begin(1, "train")
    now += 40
    assert eta.seconds(current_left=60) == 60 + 15 + 100 + 15
    with caplog.at_level(logging.INFO):
        eta.on_job_progress(
            SimpleNamespace(name="cycle 01 train"),
            {"step": 4, "total": 10, "loss": 1.0, "it_per_s": 0.1, "seconds_left": 60},
        )
    assert caplog.messages == [
        "cycle 01 train | step 4/10 | loss 1 | 0.10 it/s | 1 min 00 s left here | about 3 min 10 s to go"
    ]


def test_a_campaign_shows_which_of_its_trainings_were_reused(tmp_path, monkeypatch):
    """What the estimate looks for is what a training and the cache really leave behind."""
    quicken(monkeypatch)
    config = stub_config({"_target_": "al_lab.strategies.general.random.Random"}, cycles=0)
    config["runtime"]["cache_dir"] = str(tmp_path / "cache")
    known = []
    for run in ("first", "second"):
        run_campaign(config, tmp_path / run)
        known.append("train" in Eta(Ledger(tmp_path / run / "ledger.jsonl"), [])._took())
    assert known == [True, False]
