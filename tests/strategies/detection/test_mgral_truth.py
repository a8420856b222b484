"""What batches are worth with their labels: measured after the choice, read by the report alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.oracle import Oracle, SimulatedOracle
from al_lab.execution.inline import InlineExecutor
from al_lab.strategies.detection._mgral.truth import TruthSettings, against_rows, rank_correlation, sentence
from tests.strategies.detection.test_mgral import config, measured
from tests.stubs import quicken

RIVALS = {"random": {"_target_": "al_lab.strategies.general.random.Random"}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    monkeypatch.setattr("al_lab.stages.jobs._measure", measured)


def campaign(run_dir: Path, rows: int, **truth: Any) -> Path:
    node = config(1, agent={"controls": 0})
    node["strategy"]["truth"] = {"rows": rows, "rivals": RIVALS} | truth
    run_campaign(node, run_dir)
    return run_dir / "cycle_00"


def test_it_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with_it, without = (campaign(tmp_path / str(rows), rows, seeds=2) for rows in (4, 0))
    for name in ("queries.json", "labels.jsonl", "cost.json"):
        assert (with_it / name).read_bytes() == (without / name).read_bytes()
    for name in ("selections.json", "cycle_01/model.ckpt"):
        assert (tmp_path / "4" / name).read_bytes() == (tmp_path / "0" / name).read_bytes()
    assert not (without / "truth.json").exists()
    facts = json.loads((with_it / "truth.json").read_text())
    assert [b["name"] for b in facts["batches"]] == [*(f"row {m}" for m in range(4)), "agent", "best row", "random"]
    assert facts["on"] == "pool" and facts["measured_on"] == "test"
    assert {len(b["values"]) for b in facts["batches"]} == {2}
    assert all(0 < value <= 100 for b in facts["batches"] for value in b["values"])  # points
    rows = [b for b in facts["batches"] if b["name"].startswith("row ")]
    expected = spearmanr([b["reward"] for b in rows], [np.mean(b["values"]) for b in rows]).statistic
    assert facts["rank_correlation"]["value"] == pytest.approx(expected)
    assert facts["analyzed"]["images"] > 0
    table = json.loads((with_it / "lut" / "table.json").read_text())
    told = {f"row {r['number']}": 100 * r["value"] for r in table["rows"] if r["seed"] == 0}
    assert [b["reward"] for b in rows] == pytest.approx([told[b["name"]] for b in rows])
    best = next(b for b in facts["batches"] if b["name"] == "best row")
    assert best["reward"] == pytest.approx(max(told.values()))


def test_with_people_the_labeled_set_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedOracle, "peek", Oracle.peek)
    facts = json.loads((campaign(tmp_path / "run", 5) / "truth.json").read_text())
    assert facts["on"] == "labeled"
    assert facts["analyzed"] == {"images": 0, "boxes": 0}
    assert len(facts["batches"]) == 5 and facts["against"] == {}
    assert "parts of the labeled set" in facts["sentence"]


def test_killed_between_trainings_it_trains_only_what_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    ran, run = [], InlineExecutor.run

    def count(self: InlineExecutor, jobs: list) -> list:
        ran.extend(job.name for job in jobs if " truth " in job.name and not job.result.exists())
        return run(self, jobs)

    monkeypatch.setattr(InlineExecutor, "run", count)
    folder = campaign(tmp_path / "run", 4)
    first, whole = len(ran), (folder / "truth.json").read_bytes()
    lines = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
    count_before = [json.loads(line)["key"] for line in lines].index("00/truth")
    (tmp_path / "run" / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines[:count_before]))
    (folder / "truth.json").unlink()
    next(iter(sorted((folder / "truth").glob("*_seed0.json")))).unlink()
    campaign(tmp_path / "run", 4)
    assert len(ran) == first + 1
    assert (folder / "truth.json").read_bytes() == whole


def batch(name: str, reward: float | None, *values: float) -> dict[str, Any]:
    return {"name": name, "reward": reward, "values": list(values)}


def test_the_rank_correlation_and_its_interval() -> None:
    rows = [batch(f"row {n}", float(n), float(n), float(n) + 2) for n in range(10)]
    found = rank_correlation(rows)
    assert found is not None and found["value"] == pytest.approx(1) and found["rows"] == 10
    mixed = [batch(f"row {n}", float(n), float((7 * n) % 10)) for n in range(10)]
    found = rank_correlation(mixed)
    assert found is not None and found["low"] < found["value"] < found["high"]
    z = np.arctanh([found["low"], found["high"]])
    assert np.diff(z)[0] / 2 == pytest.approx(1.96 * np.sqrt((1 + found["value"] ** 2 / 2) / 7))
    upside_down = rank_correlation([batch(f"row {n}", float(-n), float(n)) for n in range(10)])
    assert upside_down is not None and upside_down["value"] == pytest.approx(-1)
    assert -1 <= upside_down["low"] <= upside_down["high"] < 0
    assert rank_correlation([batch("row 0", 1.0, 2.0)] * 8) is None
    assert rank_correlation(rows[:3]) is None


def test_batches_are_weighed_against_the_random_ones() -> None:
    rows = [batch(f"row {n}", 0.0, v) for n, v in enumerate([1.0, 2.0, 3.0, 2.0])]
    found = against_rows([*rows, batch("agent", None, 12.0), batch("best row", 0.0, 2.0)])
    assert found["agent"]["difference"] == pytest.approx(10)
    assert found["agent"]["standard_error"] == pytest.approx(np.std([1, 2, 3, 2], ddof=1) * (1 + 1 / 4) ** 0.5)
    assert found["agent"]["verdict"] == "clearly better"
    assert found["best row"]["difference"] == pytest.approx(0)
    assert found["agent over best row"]["standard_error"] == pytest.approx(np.std([1, 2, 3, 2], ddof=1) * 2**0.5)
    facts = {"on": "pool", "measured_on": "test", "batches": rows, "rank_correlation": None, "against": found}
    assert "+10.00" in sentence(facts) and "clearly better" in sentence(facts)


@pytest.mark.parametrize("rows", [-1, 1, 3])
def test_fewer_rows_than_can_be_correlated_are_refused(rows: int) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.truth"):
        TruthSettings(rows=rows)


def test_designed_rows_are_no_random_batches() -> None:
    rows = [batch(f"row {n}", 0.0, 50.0 + n) for n in range(4)]
    random = [batch(f"random {n}", None, v) for n, v in enumerate([1.0, 2.0, 3.0, 2.0])]
    found = against_rows([*rows, *random, batch("agent", None, 3.0), batch("best row", 0.0, 53.0)])
    assert found["agent"]["difference"] == pytest.approx(1)
    assert "random 0" not in found and "row 0" not in found
