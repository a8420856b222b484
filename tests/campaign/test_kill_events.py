"""Killed before any file-system event, with or without what was not fsynced, the same command ends in the same run."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from al_lab.core.record.ledger import Ledger
from tests.campaign.kills import KINDS, asked_twice, campaign, facts
from tests.strategies.detection.test_mgral import measured
from tests.stubs import quicken

# Of the fast tests, which are to take seconds; the slow ones look at every event.
_STEPS = {
    "image": 41,
    "pixel": 67,
    "people": 17,
    "box": 85,
    "pseudo-label": 17,
    "mgral": 17,
    "ensemble": 17,
    "two_pass": 17,
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        patch.setattr("al_lab.stages.jobs._measure", measured)
        yield


def kill_at(kind: str, folder: Path, step: int, tears: tuple[bool, ...]) -> str:
    """Kill one run at every ``step``-th event and return how many there were of what."""
    status, events = campaign(KINDS[kind], folder / "whole" / "run")
    assert status == "finished"
    whole = facts(folder / "whole" / "run")
    wedged, different, kills = [], [], 0
    for number, event in enumerate(range(1, events + 1, step)):
        for tear in tears if len(tears) > 1 and step == 1 else (tears[number % len(tears)],):
            run_dir = folder / "killed" / "run"
            shutil.rmtree(run_dir.parent, ignore_errors=True)
            assert campaign(KINDS[kind], run_dir, event, tear)[0] == "killed"
            kills += 1
            status, _ = campaign(KINDS[kind], run_dir)
            if status not in ("finished", "already finished"):
                wedged.append((event, tear, status))
            elif facts(run_dir) != whole or Ledger(run_dir / "ledger.jsonl").harmed(run_dir):
                different.append((event, tear))
            assert not asked_twice(run_dir)
    assert not wedged, wedged[:3]
    assert not different, different[:3]
    return f"{kind}: {events} events, {kills} kills, {len(wedged)} wedged, {len(different)} different"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            k, marks=[pytest.mark.slow] if k in ("mgral", "pseudo-label", "people", "ensemble", "two_pass") else []
        )
        for k in KINDS
    ],
)
def test_killed_at_some_events(kind: str, tmp_path: Path) -> None:
    kill_at(kind, tmp_path, _STEPS[kind], (False, True))


@pytest.mark.slow
@pytest.mark.timeout(0)  # 3,500 kills; how long they take is the machine's business
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_event(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = kill_at(kind, tmp_path, 1, (False, True))
    with capsys.disabled():
        sys.stdout.write(f"\n{said}\n")
