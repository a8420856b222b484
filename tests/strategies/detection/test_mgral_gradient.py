"""MGRAL without rows: a campaign that buys by gains, and values of batches whose copies count less."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.oracle import Oracle, SimulatedOracle
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.reporting.read.find import read_run
from al_lab.reporting.sections.mgral.of_run import mgral_sections
from al_lab.strategies.detection._mgral.agent_scores import load_scores
from al_lab.strategies.detection._mgral.gradient import copies, jobs
from al_lab.strategies.detection._mgral.gradient.copies import share_of_copies
from al_lab.strategies.detection._mgral.gradient.information import InformationGain
from al_lab.strategies.detection._mgral.gradient.jobs import load_gains
from al_lab.strategies.detection.mgral import Mgral
from tests.strategies.detection.test_mgral import config, measured
from tests.stubs import StubGradients, StubLearner, quicken


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    monkeypatch.setattr("al_lab.stages.jobs._measure", measured)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every training that is really done, by the name of its checkpoint."""
    seen: list[str] = []
    real = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: seen.append(task.checkpoint.name) or real(self, task))
    return seen


def campaign(folder: Path, query: str = "top", rows: int = 0, **lut: Any) -> Path:
    node = config(1, agent={"query": query}, reward="gradient", **lut)
    node["strategy"]["truth"] = {"rows": rows}
    node["detector"] = {"_target_": "tests.stubs.StubGradients"}
    run_campaign(node, folder)
    return folder / "cycle_00"


def bought(folder: Path) -> list[str]:
    return [row["id"] for row in json.loads((folder / "queries.json").read_text())["queries"]]


@pytest.mark.parametrize("query", ["top", "set"])
def test_a_campaign_buys_by_gains_and_trains_no_row(tmp_path: Path, query: str, fits: list[str]) -> None:
    folder = campaign(tmp_path / "run", query)
    gains = load_gains([folder / "lut" / "gains.npz"])
    assert fits == ["model.ckpt", "base_0.ckpt", "model.ckpt"]
    assert len(gains) == 20  # the candidates
    by_gain = sorted(gains, key=lambda i: -gains[i])
    assert (bought(folder) == by_gain[:5]) == (query == "top")
    scores = load_scores(folder)
    assert bought(folder) == sorted(scores, key=lambda i: -scores[i])[:5]
    assert sorted(path.name for path in (folder / "lut").iterdir()) == [
        "base_0.ckpt",
        "base_0.json",
        "gains.npz",
        "table.json",
    ]
    facts = json.loads((folder / "agent.json").read_text())
    share = sum(gains[i] for i in bought(folder)) / sum(gains.values())
    assert facts["share_of_gains"] == pytest.approx(share)
    assert (facts["largest_share_of_gains"] == pytest.approx(share)) == (query == "top")
    told = mgral_sections(read_run(tmp_path / "run"))
    assert [section.key for section in told] == ["gains", "truth"]
    assert f"{100 * share:.1f} %" in told[0].text
    assert told[0].tables[0].rows[0][2] == 5


def test_killed_at_any_point_nothing_is_trained_twice_and_the_same_is_bought(
    tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = campaign(tmp_path / "a" / "run", rows=4)
    expected = sorted(fits)
    fits.clear()
    where = iter(("hold_out", "save_gains", "write_json"))
    for name in where:
        module = (
            jobs
            if name != "write_json"
            else __import__("al_lab.strategies.detection._mgral.gradient.weigh", fromlist=["weigh"])
        )
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _killed)
            with pytest.raises(KeyboardInterrupt):
                campaign(tmp_path / "b" / "run", rows=4)
    again = campaign(tmp_path / "b" / "run", rows=4)
    assert sorted(fits) == expected
    for name in ("queries.json", "lut/gains.npz", "agent.json", "lut/table.json", "truth.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_gains_are_held_against_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = campaign(tmp_path / "run", "set", rows=4)
    table = json.loads((folder / "lut" / "table.json").read_text())
    truth = json.loads((folder / "truth.json").read_text())
    told = [row["reward"] for row in truth["batches"] if row["name"].startswith("row ")]
    assert told == pytest.approx([100 * row["value"] for row in table["rows"][:4]])
    monkeypatch.setattr(SimulatedOracle, "peek", Oracle.peek)
    folder = campaign(tmp_path / "people", rows=4)
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["on"] == "labeled"
    assert len({row["reward"] for row in truth["batches"]}) > 1


@pytest.mark.parametrize(
    ("lut", "agent", "message"),
    [
        ({"split": "kfold"}, {}, "one held-out set"),
        ({"predictor": "auto"}, {}, "lut.predictor"),
        ({}, {"query": "annealed"}, "expected top . set, got 'annealed'"),
        ({"reward": "gradients"}, {}, "did you mean 'gradient'|training . gradient"),
    ],
)
def test_what_nobody_would_read_is_refused(tmp_path: Path, lut: dict, agent: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_campaign(config(1, agent=agent, **({"reward": "gradient"} | lut)), tmp_path / "run")


def test_detectors_without_gradients_are_refused(tmp_path: Path) -> None:
    strategy = Mgral(**{k: v for k, v in config(1, reward="gradient")["strategy"].items() if k[0] != "_"})
    strategy.check_model(TinyDetector(3))
    with pytest.raises(ConfigError, match="last class layers are known, got AnchorDetector"):
        strategy.check_model(AnchorDetector(3, (32, 32)))
    with pytest.raises(ConfigError, match="gradients can be asked for, got StubLearner"):
        jobs._with_gradients(StubLearner(3))
    assert jobs._with_gradients(StubGradients(3))


def test_of_two_copies_the_second_adds_less_and_labeled_ones_count() -> None:
    x = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    value = InformationGain(x, np.array([1.0, 1.0, 1.0]), np.zeros((0, 2)))
    one, both = value(np.array([0])), value(np.array([0, 1]))
    assert one < both < 2 * one
    assert value(np.array([0, 2])) == pytest.approx(one + value(np.array([2])))  # nothing in common
    assert one == pytest.approx(np.log1p(4 / 3))  # (1/3)(4 + 4 + 1) = 3: lengths are 1 on average
    known = InformationGain(x, np.ones(3), np.array([[2.0, 0.0]]))
    assert known(np.array([0])) < one
    assert known(np.array([2])) == pytest.approx(value(np.array([2])))


def test_the_greedy_batch_is_near_the_best_one_and_leaves_copies_out() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(3, 6)), 4, 0)
    x[4:] += 0.5 * rng.normal(size=(8, 6))
    worth = rng.random(12)
    value = InformationGain(x, worth, rng.normal(size=(2, 6)))
    batch = value.greedy(4)
    assert len(set(batch.tolist())) == 4
    best = max(value(np.array(s)) for s in itertools.combinations(range(12), 4))
    assert value(batch) > 0.9 * best
    steps = [value(batch[:k]) for k in range(1, 5)]
    first = max(range(12), key=lambda n: value(np.array([n])))
    assert (batch[0], steps[0]) == (first, pytest.approx(value(np.array([first]))))
    for k in range(1, 4):  # each is the best next one
        assert steps[k] == pytest.approx(max(value(np.append(batch[:k], n)) for n in set(range(12)) - set(batch[:k])))
    assert InformationGain(x, np.zeros(12), x[:0]).greedy(20).shape == (12,)


def test_how_much_a_pool_repeats_itself_is_counted() -> None:
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(300, 32))
    again = apart[:3].repeat(60, 0) + 0.01 * rng.normal(size=(180, 32))
    none = np.zeros((0, 32))
    assert share_of_copies(apart, none, rng)["share"] == 0
    found = share_of_copies(np.concatenate([apart, again]), none, rng)
    assert found["share"] == pytest.approx(183 / 480)  # three originals, too
    assert "38 % of the candidates have a near copy" in found["sentence"]
    assert share_of_copies(apart[:3] + 0.001, apart, rng)["share"] == 1  # copies of labeled images
    assert share_of_copies(np.ones((5, 4)), np.zeros((0, 4)), rng)["share"] == 1  # a model that tells nothing apart


def test_many_images_are_looked_at_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_MOST", 100)
    x = np.random.default_rng(0).normal(size=(400, 16))
    x[200:] = x[:200] + 0.001
    assert share_of_copies(x, x[:0], np.random.default_rng(1))["share"] == 1


def test_where_nothing_repeats_a_closed_gate_buys_at_random_and_says_so(tmp_path: Path, fits: list[str]) -> None:
    node = config(1, agent={"query": "set", "gate": "random"}, reward="gradient")
    node["detector"] = {"_target_": "tests.stubs.StubGradients"}
    run_campaign(node, tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    assert fits == ["model.ckpt", "model.ckpt"]  # no row base
    assert not (folder / "lut").exists()
    facts = json.loads((folder / "agent.json").read_text())
    assert facts["copies"]["share"] < copies.FEWEST
    assert len(bought(folder)) == 5
    (section,) = mgral_sections(read_run(tmp_path / "run"))
    assert "the batch is a random one" in section.text
    with pytest.raises(ConfigError, match="set strategy.agent.gate=warn"):
        node["strategy"]["truth"] = {"rows": 4}
        run_campaign(node, tmp_path / "other")
