"""Rows of earlier cycles in the table: gains over their own base, less weight, described by today's detector."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.mgral.of_run import mgral_sections
from al_lab.stages.annotate import load_pool
from al_lab.strategies.detection._mgral import train_agent
from al_lab.strategies.detection._mgral.predictor.choice import Images, Records
from al_lab.strategies.detection._mgral.rows.kept import Kept, kept_facts
from tests.strategies.detection.test_mgral import config, measured
from tests.stubs import StubDetection, StubLearner, quicken


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    monkeypatch.setattr("al_lab.stages.jobs._measure", measured)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Images, Records]]:
    """What each cycle's predictors learned from."""
    found: list[tuple[Images, Records]] = []
    real = train_agent.choose

    def choose(images: Images, records: Records, *rest: Any) -> Any:
        found.append((images, records))
        return real(images, records, *rest)

    monkeypatch.setattr(train_agent, "choose", choose)
    return found


def campaign(folder: Path, cycles: int = 3, **lut: Any) -> Path:
    run_campaign(config(cycles, agent={"controls": 0}, keep=0.5, **lut), folder)
    return folder


def table(folder: Path, cycle: int) -> dict:
    return json.loads((folder / f"cycle_{cycle:02d}" / "lut" / "table.json").read_text())


def test_rows_of_earlier_cycles_count_by_what_they_gained_then(
    tmp_path: Path, seen: list[tuple[Images, Records]]
) -> None:
    folder = campaign(tmp_path / "run")
    assert [len(records.rewards_M) for _, records in seen] == [6, 12, 18]
    images, records = seen[2]
    assert records.weight_M.tolist() == [1.0] * 6 + [0.5] * 6 + [0.25] * 6
    base = {c: np.mean(table(folder, c)["references"]) for c in range(3)}
    gains = [row["reward"] - base[c] for c in (2, 1, 0) for row in table(folder, c)["rows"] if row["seed"] == 0]
    assert records.rewards_M == pytest.approx(100 * (base[2] + np.array(gains)))
    sizes = [len(b) for b in records.bases]
    assert sizes == [30] * 6 + [25] * 6 + [20] * 6  # what was labeled then
    first = load_pool(StubDetection(), folder, 0).labeled()
    assert set(records.bases[-1].tolist()) <= set(images.labeled.tolist()) and len(first) == 20
    # some of an old row's images are labeled by now, and it stays all the same
    assert any(batch.max() >= images.num for batch in records.batches[6:])
    assert all(batch.max() < images.num for batch in records.batches[:6])
    facts = json.loads((folder / "cycle_02" / "agent.json").read_text())
    assert facts["kept"]["records"] == {"0": 6, "1": 6, "2": 6}
    assert "6 of 2 cycles ago with weight 0.25" in facts["sentence"]
    assert len(facts["leave_one_out"]["estimates"]) == 6
    text = next(s.text for s in mgral_sections(read_run(folder)) if s.key == "lut")
    assert "The table holds 18 records: 6 of this cycle, 6 of 1 cycle ago" in text


@pytest.mark.parametrize("predictor", ["ridge", "ensemble"])
def test_regressors_weigh_them_too(tmp_path: Path, predictor: str) -> None:
    folder = campaign(tmp_path / "run", 2, predictor=predictor)
    facts = json.loads((folder / "cycle_01" / "agent.json").read_text())
    assert facts["predictor"] == predictor
    assert facts["kept"]["records"] == {"0": 6, "1": 6}


def test_killed_or_without_an_earlier_table_the_same_is_bought_and_no_row_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []
    real, likeness = StubLearner.fit, train_agent.likeness
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: fits.append(str(task.checkpoint)) or real(self, task))
    whole = campaign(tmp_path / "a" / "run", 2)
    expected = len(fits)
    fits.clear()

    def dies(*rest: Any) -> Any:
        if (tmp_path / "b" / "run" / "cycle_01" / "lut" / "agent_state.ckpt").exists():
            raise KeyboardInterrupt
        return likeness(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(train_agent, "likeness", dies)
        with pytest.raises(KeyboardInterrupt):
            campaign(tmp_path / "b" / "run", 2)
    (tmp_path / "b" / "run" / "cycle_00" / "lut" / "table.json").unlink()
    again = campaign(tmp_path / "b" / "run", 2)
    assert len(fits) == expected
    for name in ("queries.json", "agent_scores.npz", "agent.json"):
        assert (again / "cycle_01" / name).read_bytes() == (whole / "cycle_01" / name).read_bytes()


def test_without_earlier_rows_it_is_said() -> None:
    facts = kept_facts([], 0.5, 6, ["a"])
    assert (facts["records"], facts["share_bought"]) == ({"0": 6}, 0.0)
    assert facts["sentence"] == "the table holds 6 records: 6 of this cycle, none of earlier ones"
    facts = kept_facts([Kept(1, ("a", "b"), ("c",), 0.1)], 1.0, 2, ["a"])
    assert facts["share_bought"] == 0.5


@pytest.mark.parametrize(
    ("lut", "message"),
    [
        ({"keep": 0}, "lut.keep"),
        ({"keep": 1.5}, "lut.keep"),
        ({"keep": 0.5, "reward": "gradient"}, "rows that are batches of the pool, and are trained"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, lut: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_campaign(config(1, **lut), tmp_path / "run")
