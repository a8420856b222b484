"""Rows from a shared start are held against rows from scratch once, where it is asked for."""

import json
from pathlib import Path

import pytest

from al_lab.core.errors import ConfigError
from al_lab.learners.base import FitTask
from al_lab.strategies.detection._mgral.rows.settings import LutSettings
from al_lab.strategies.detection._mgral.rows.shared_start import agreement_with_scratch
from tests.strategies.detection.test_build_lut import ROWS, by_state, run
from tests.stubs import StubLearner, quicken


def test_some_batches_are_trained_from_scratch_as_well_and_their_ranks_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quicken(monkeypatch)
    tasks: list[FitTask] = []
    fit = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: tasks.append(task) or fit(self, task))
    monkeypatch.setattr("al_lab.stages.jobs._measure", by_state)
    table = run(tmp_path / "run", rows=5, against_scratch=4, length=0.5, lr_scale=0.1)
    scratch = [task for task in tasks if task.checkpoint.name.startswith("scratch_")]
    assert [task.start for task in scratch] == ["scratch"] * 4
    assert [list(task.unlabeled) for task in scratch] == [row["ids"] for row in table["rows"][:4]]
    facts = table["shared_start"]
    assert facts["shared"] == [row["reward"] for row in table["rows"][:4]]
    assert facts == agreement_with_scratch(facts["shared"], facts["scratch"])
    ledger = [json.loads(line) for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()]
    scalars = next(e for e in ledger if e["stage"] == "build_lut")["scalars"]
    assert scalars["shared_start"] == facts["rank_correlation"]


def test_what_two_ways_to_train_agree_in_is_said() -> None:
    facts = agreement_with_scratch([0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.3, 0.4])
    assert facts["rank_correlation"] == pytest.approx(0.8)
    assert facts["sentence"].startswith("of 4 batches") and facts["sentence"].endswith("a rank correlation of +0.80")


@pytest.mark.parametrize("change", [{"mode": "scratch"}, {"reward": "gradient"}])
def test_without_a_shared_start_there_is_nothing_to_compare(change: dict) -> None:
    with pytest.raises(ConfigError, match="strategy.lut.against_scratch: expected rows that start from their base"):
        LutSettings(**(ROWS | {"against_scratch": 4} | change))
