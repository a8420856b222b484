"""What the agent would buy is trained while it learns, and the predictor learns from it at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.agent import Agent
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.learning.worth import is_due
from al_lab.strategies.detection._mgral.reinforce import Reinforce
from tests.strategies.detection.test_mgral import config, measured
from tests.stubs import StubLearner, quicken


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    monkeypatch.setattr("al_lab.stages.jobs._measure", measured)


def loop() -> Reinforce:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))
    return Reinforce(Agent(4, Rng(0)), features, 5, ReinforceSettings(iterations=9, lr=0.05), Rng(1))


def test_trainings_are_spread_and_none_comes_at_the_end() -> None:
    assert [i for i in range(9) if is_due(i, 9, 2)] == [2, 5]
    assert [i for i in range(800) if is_due(i, 800, 1)] == [399]
    assert not any(is_due(i, 9, 0) for i in range(9))
    assert sum(is_due(i, 3, 7) for i in range(3)) <= 3  # no more than iterations
    training, asked = loop(), []
    training.run(lambda batch: 1.0, lambda batch: asked.append(sorted(batch)) or 7.0, None, online=2)
    assert [own.iteration for own in training.own] == [2, 5][: len(training.own)]
    assert asked == [sorted(own.batch) for own in training.own]
    assert {(own.reward, own.expected) for own in training.own} == {(7.0, 1.0)}


def test_a_training_that_was_cut_goes_on_with_the_records_it_had() -> None:
    def values(known: list[float]) -> Any:
        return lambda batch: float(np.sum(batch)) + sum(known)  # what was trained moves the estimates

    whole, known = loop(), []
    whole.run(values(known), lambda batch: known.append(1.0) or 3.0, None, online=2)
    cut, known = loop(), []

    def stop(record: Any) -> None:
        if record.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.run(values(known), lambda batch: known.append(1.0) or 3.0, stop, online=2)
    again = loop()
    again.load_state_dict(cut.state_dict())
    assert len(again.records) == 1
    again.run(values(known), lambda batch: known.append(1.0) or 3.0, None, online=2)
    assert again.own == whole.own
    assert again.curves == whole.curves


@pytest.mark.parametrize("predictor", ["table", "ridge"])
def test_a_campaign_trains_its_agents_own_batches(
    tmp_path: Path, predictor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []
    real = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: fits.append(task.checkpoint.name) or real(self, task))

    def campaign(name: str) -> Path:
        node = config(
            1, agent={"controls": 2}, learning={"max_fall_backs": 0, "lr": 0.05}, online=2, predictor=predictor
        )
        run_campaign(node, tmp_path / name / "run")
        return tmp_path / name / "run" / "cycle_00"

    whole = campaign("a")
    facts = json.loads((whole / "agent.json").read_text())
    own = facts["learning"]["own"]
    trained = [name for name in fits if name.startswith("fallback_")]
    assert 1 <= len(own) == len(trained) == len(set(trained)) <= 2
    assert f"{len(own)} of its own batches were trained" in facts["sentence"]
    expected = sorted(fits)
    fits.clear()

    def dies(self: StubLearner, task: Any) -> dict[str, float]:
        if "fallback_" in task.checkpoint.name and any("fallback_" in name for name in fits):
            raise KeyboardInterrupt
        fits.append(task.checkpoint.name)
        return real(self, task)

    if len(own) > 1:
        with monkeypatch.context() as patch:
            patch.setattr(StubLearner, "fit", dies)
            with pytest.raises(KeyboardInterrupt):
                campaign("b")
    again = campaign("b")
    assert sorted(fits) == expected
    for name in ("queries.json", "agent_scores.npz", "agent.json", "rl_curves.csv"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("lut", "agent", "message"),
    [
        ({"online": -1}, {}, "lut.online"),
        ({"online": 1, "reward": "gradient"}, {}, "rows that are batches of the pool, and are trained"),
        ({"online": 1}, {"query": "set"}, "an agent, whose batches are trained on the way"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, lut: dict, agent: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_campaign(config(1, agent=agent, **lut), tmp_path / "run")
