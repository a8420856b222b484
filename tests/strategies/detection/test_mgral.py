"""MGRAL as a campaign: the stages, resuming inside the agent's training, the checks of honesty, the published
numbers."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.metrics.miou import confusion_matrix, miou_from_confusion
from al_lab.strategies.detection._mgral import decide, train_agent
from al_lab.strategies.detection._mgral.agent_scores import load_scores
from al_lab.strategies.detection._mgral.decide import AgentSettings
from al_lab.strategies.detection._mgral.honesty import SIGNIFICANCE
from al_lab.strategies.detection._mgral.predictor.choice import Images
from al_lab.strategies.detection._mgral.predictor.leave_one_out import LeaveOneOut
from al_lab.strategies.detection._mgral.reinforce import Iteration
from al_lab.strategies.detection._mgral.rows.settings import scaled
from al_lab.strategies.detection._mgral.world import World
from al_lab.strategies.detection.mgral import Mgral
from tests.stubs import FakeSegmenter, StubDense, StubLearner, quicken, stub_config

ISD = {"_target_": "al_lab.objectives.isd.ISD"}
LUT = {"rows": 6, "objective": "isd", "objectives": {"isd": ISD}, "minimum": 2, "repeats": 2, "seeds": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)
    # The stub's boxes lie anywhere: an AP of 0 would be the worth of every batch. Here it is a number that follows from
    # the model.
    monkeypatch.setattr("al_lab.stages.jobs._measure", measured)


def measured(learner: StubLearner, checkpoint: Path, run_dir: str, dataset: Any, ids: list[str]) -> dict:
    learner.load(checkpoint)
    return {"metrics": {"voc07_ap50": int(learner.state[:4], 16) / 16**4}, "per_class": {}}


def config(cycles: int = 2, agent: dict | None = None, learning: dict | None = None, **lut: object) -> dict:
    node = {
        "_target_": "al_lab.strategies.detection.mgral.Mgral",
        "_recursive_": False,
        "lut": LUT | lut,
        "agent": {"controls": 3} | (agent or {}),
        "learning": {"iterations": 12} | (learning or {}),
    }
    budget = {"_target_": "al_lab.core.budget.Budget", "unit": "image", "initial": 20, "per_cycle": 5, "cycles": cycles}
    return stub_config(node, cycles=cycles, budget=budget)


@pytest.mark.parametrize(
    ("predictor", "needs"),
    [("table", ("image_embedding",)), ("ridge", ("image_embedding", "class_probs"))],
)
def test_what_the_detector_finds_is_asked_for_by_regressors_alone(predictor: str, needs: tuple[str, ...]) -> None:
    node = config(1, predictor=predictor)["strategy"]
    assert Mgral(node["lut"], node["agent"], node["learning"]).needs_for("image") == needs


def test_a_campaign_buys_what_the_agent_scores_highest(tmp_path: Path) -> None:
    run_campaign(config(), tmp_path / "run")
    for cycle in range(2):
        folder = tmp_path / "run" / f"cycle_{cycle:02d}"
        scores = load_scores(folder)
        bought = [row["id"] for row in json.loads((folder / "queries.json").read_text())["queries"]]
        assert bought == sorted(scores, key=lambda i: -scores[i])[:5]
        assert len(list(csv.DictReader((folder / "rl_curves.csv").open()))) == 12
    honesty = json.loads((tmp_path / "run" / "cycle_00" / "agent.json").read_text())
    assert honesty["leave_one_out"]["rmse"] > 0
    assert len(honesty["controls"]["random"]) == 3
    assert "controls" not in json.loads((tmp_path / "run" / "cycle_01" / "agent.json").read_text())
    assert load_scores(tmp_path) == {}
    assert {"mean_entropy", "sum_entropy"} <= set(Candidates.load(folder / "candidates.npz").info)
    assert len(json.loads((folder / "entropies.json").read_text())["largest"]["sum_entropy"]) == 4


def test_a_learned_predictor_and_a_clustered_pool_run_to_the_end(tmp_path: Path) -> None:
    run_campaign(config(1, agent={"clusters": 4, "controls": 0}, predictor="ridge"), tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    facts = json.loads((folder / "agent.json").read_text())
    assert facts["predictor"] == "ridge"
    assert facts["regressor"]["rmse"] > 0
    curves = list(csv.DictReader((folder / "rl_curves.csv").open()))
    assert {row["neighbors"] for row in curves} == {"0.0"}  # the regressor answered, never the table
    assert facts["fall_backs"] == 0
    scores = load_scores(folder)
    bought = [row["id"] for row in json.loads((folder / "queries.json").read_text())["queries"]]
    assert bought == sorted(scores, key=lambda i: -scores[i])[:5]


@pytest.mark.parametrize("query", ["annealed", "set"])
def test_designed_rows_the_best_predictor_and_the_other_queries(tmp_path: Path, query: str, monkeypatch) -> None:
    monkeypatch.setattr(LeaveOneOut, "is_believed", True)
    settings = config(1, agent={"query": query, "controls": 2}, predictor="auto", batches="clusters", num_clusters=4)
    run_campaign(settings, tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    facts = json.loads((folder / "agent.json").read_text())
    assert facts["predictor"] == min(facts["predictors"], key=lambda name: facts["predictors"][name]["rmse"])
    assert (facts["query"]["way"], "learning" in facts) == (query, query == "annealed")
    assert facts["query"]["estimate"] <= facts["query"]["ceiling"]
    assert len(facts["controls"]["random"]) == 2
    info = Candidates.load(folder / "candidates.npz").info
    assert {"entropy", "boxes"} <= set(info)
    scores = load_scores(folder)
    assert len(scores) == 20  # none of the labeled images, which regressors look at
    bought = [row["id"] for row in json.loads((folder / "queries.json").read_text())["queries"]]
    assert bought == sorted(scores, key=lambda i: -scores[i])[:5]


def test_rows_from_the_labeled_set_are_simulated_queries(tmp_path: Path, monkeypatch) -> None:
    tasks = []
    real = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: tasks.append(task) or real(self, task))
    monkeypatch.setattr(LeaveOneOut, "is_believed", True)
    lut = {"rows_from": "labeled", "predictor": "auto", "mode": "scratch"}
    run_campaign(config(1, agent={"query": "set"}, **lut), tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    by_name = {t.checkpoint.stem: t for t in tasks}
    first, whole = set(by_name["base_half"].labeled), set(by_name["base_0"].labeled)
    rows = [t for name, t in by_name.items() if "row_" in name]
    assert len(rows) == 6 + 2
    for row in rows:  # the first half, and a part of the second; all with labels
        assert first < set(row.labeled) < whole
        assert (row.unlabeled, row.start) == ((), "scratch")
    seen = Candidates.load(folder / "lut" / "half.npz")
    assert set(seen.sample_ids) == whole - first  # by the model that saw the first half alone
    facts = json.loads((folder / "agent.json").read_text())
    assert set(facts["predictors"]) == {"ridge", "ensemble"}
    assert "controls" not in facts
    assert len(json.loads((folder / "queries.json").read_text())["queries"]) == 5


def test_auto_buys_at_random_where_nobody_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaveOneOut, "is_believed", False)
    run_campaign(config(1, predictor="auto"), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "cycle_00" / "agent.json").read_text())
    assert facts["predictor"] == "none"
    assert "no predictor tells" in facts["gate"]["sentence"]


def test_a_query_of_all_that_is_left_compares_a_batch_with_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = config(1, agent={"controls": 2})
    settings["budget"]["per_cycle"] = 20
    run_campaign(settings, tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    facts = json.loads((folder / "agent.json").read_text())
    assert facts["leave_one_out"] is None
    assert facts["controls"]["against_shuffled"]["difference"] == 0
    assert len(list((folder / "lut").glob("control_*.json"))) == 1
    assert {facts[name]["sentence"] for name in ("signal", "learning", "controls")} <= set(caplog.messages)


@pytest.mark.parametrize("harm", ["of another cycle", "a flipped bit"])
def test_a_state_that_is_not_this_agents_is_not_gone_on_with(tmp_path: Path, harm: str) -> None:
    run_dir = tmp_path / "run"
    run_campaign(config(agent={"controls": 0}), run_dir)
    whole = (run_dir / "cycle_01" / "agent_scores.npz").read_bytes()
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    count = [json.loads(line)["key"] for line in lines].index("01/train_agent")
    (run_dir / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines[:count]))
    state = run_dir / "cycle_01" / "lut" / "agent_state.ckpt"
    other = (run_dir / "cycle_00" / "lut" / "agent_state.ckpt").read_bytes()
    flipped = bytearray(state.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    state.write_bytes(other if harm == "of another cycle" else flipped)
    run_campaign(config(agent={"controls": 0}), run_dir)
    assert (run_dir / "cycle_01" / "agent_scores.npz").read_bytes() == whole


def test_the_gate_leaves_a_table_of_noise_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bought = []
    for p_value, is_believed in ((0.5, True), (0.01, False), (0.01, True)):
        monkeypatch.setattr(train_agent, "signal_and_noise", lambda facts, p=p_value: {"p_value": p, "sentence": ""})
        monkeypatch.setattr(LeaveOneOut, "is_believed", is_believed)
        root = tmp_path / f"{p_value}_{is_believed}"
        run_campaign(config(1, agent={"gate": "random"}), root / "run")
        folder = root / "run" / "cycle_00"
        is_closed = "gate" in json.loads((folder / "agent.json").read_text())
        assert is_closed == (p_value > SIGNIFICANCE or not is_believed)
        assert len(list(csv.DictReader((folder / "rl_curves.csv").open()))) == (0 if is_closed else 12)
        assert bool(list((folder / "lut").glob("control_*"))) != is_closed
        scores = load_scores(folder)
        assert len(set(scores.values())) == len(scores)
        bought.append([row["id"] for row in json.loads((folder / "queries.json").read_text())["queries"]])
        assert bought[-1] == sorted(scores, key=lambda i: -scores[i])[:5]
    run_campaign(config(1) | {"strategy": {"_target_": "al_lab.strategies.general.random.Random"}}, tmp_path / "random")
    queries = json.loads((tmp_path / "random" / "cycle_00" / "queries.json").read_text())["queries"]
    assert bought[0] == bought[1] == [row["id"] for row in queries] != bought[2]


def contents(run: Path) -> dict[str, Any]:
    names = (
        "selections.json",
        "cycle_00/rl_curves.csv",
        "cycle_01/rl_curves.csv",
        "cycle_00/agent.json",
        "cycle_00/agent_scores.npz",
    )
    return {name: (run / name).read_bytes() for name in names}


def test_killed_inside_the_agents_training_it_goes_on_and_trains_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_campaign(config(threshold="pairwise_std"), tmp_path / "a" / "run")
    fits = []
    real_fit, real_call = StubLearner.fit, Iteration.__init__
    monkeypatch.setattr(
        StubLearner, "fit", lambda self, task: fits.append(str(task.checkpoint)) or real_fit(self, task)
    )
    settings = config(threshold="pairwise_std")
    settings["runtime"]["checkpoint_minutes"] = 1e-9

    def dies(self: Iteration, iteration: int, *args: object, **kwargs: object) -> None:
        if iteration == 7:
            raise KeyboardInterrupt
        real_call(self, iteration, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Iteration, "__init__", dies)
        with pytest.raises(KeyboardInterrupt):
            run_campaign(settings, tmp_path / "b" / "run")
    run_campaign(settings, tmp_path / "b" / "run")
    assert contents(tmp_path / "b" / "run") == contents(tmp_path / "a" / "run")
    assert len(fits) == len(set(fits))
    assert any("/row_" in name for name in fits)
    curves = list(csv.DictReader((tmp_path / "a" / "run" / "cycle_00" / "rl_curves.csv").open()))
    assert 0 < int(curves[6]["fall_backs"]) < int(curves[-1]["fall_backs"])  # records before the kill and after it


def test_only_the_agent_itself_has_batches_trained_that_meet_no_row(tmp_path: Path) -> None:
    learning = {"max_fall_backs": 3, "fall_backs": "spread"}
    run_campaign(config(1, learning=learning, threshold="pairwise_std"), tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    other = list(csv.DictReader((folder / "lut" / "shuffled_curves.csv").open()))
    assert json.loads((folder / "agent.json").read_text())["fall_backs"] == 3
    assert int(other[-1]["fall_backs"]) > 0  # the agent with shuffled rewards meets none either, and nothing is trained
    assert len(list((folder / "lut").glob("fallback_*.json"))) == 3


def test_a_schedule_is_scaled_as_a_whole() -> None:
    recipe = {"max_iters": 300, "max_epochs": None, "milestones": [210, 270], "warmup_iters": 50, "lr": 1.0}
    assert scaled(recipe, 0.5) == {
        "max_iters": 150,
        "max_epochs": None,
        "milestones": [105, 135],
        "warmup_iters": 25,
        "lr": 1.0,
    }
    shortest = scaled(recipe, 0.001)
    assert (shortest["max_iters"], shortest["milestones"], shortest["warmup_iters"]) == (1, [1, 1], 1)
    assert scaled(recipe, 1.0) == recipe
    assert scaled(recipe, 1.0, 0.1) == recipe | {"lr": 0.1}
    assert scaled({"max_epochs": 26, "max_iters": None, "milestones": [20], "lr": 1.0}, 0.5)["milestones"] == [10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lut": LUT | {"objective": "isdd"}}, "did you mean 'isd'"),
        ({"agent": {"feedback": "score"}}, "strategy.agent.feedback"),
        ({"learning": {"policy": "greedy"}}, "policy"),
        ({"lut": LUT | {"distance": "w1"}}, "strategy.lut.distance"),
        ({"lut": LUT | {"length": 0}}, "strategy.lut.length"),
        ({"lut": LUT | {"predictor": "mlp"}}, "strategy.lut.predictor"),
        ({"lut": LUT | {"predictor": "ridge", "rows": 2, "repeats": 1}}, "at least 3"),
        ({"agent": {"gate": "random"}, "lut": LUT | {"seeds": 1}}, "trained again"),
        ({"lut": LUT | {"predictor": "auto", "rows": 2, "repeats": 1}}, "at least 3"),
        ({"lut": LUT | {"batches": "cluster"}}, "did you mean 'clusters'"),
        ({"lut": LUT | {"rows_from": "labelled"}}, "did you mean 'labeled'"),
        ({"lut": LUT | {"rows_from": "labeled"}}, "mode=scratch"),
        ({"lut": LUT | {"rows_from": "labeled", "mode": "scratch"}}, "predictor=auto"),
        ({"lut": LUT | {"rows_from": "labeled", "mode": "scratch", "split": "kfold"}}, "split=holdout"),
        (
            {
                "lut": LUT | {"rows_from": "labeled", "mode": "scratch", "predictor": "auto"},
                "truth": {"rows": 4},
            },
            "strategy.truth.rows=0",
        ),
        ({"lut": LUT | {"num_clusters": 1}}, "strategy.lut.num_clusters"),
        ({"agent": {"query": "best"}}, "strategy.agent.query"),
        ({"agent": {"query": "annealed"}, "learning": {"reward_of": "top"}}, "strategy.learning.reward_of=draw"),
        ({"agent": {"gate": "shut"}}, "strategy.agent.gate"),
        ({"agent": {"clusters": 1}}, "strategy.agent.clusters: expected a whole number >= 2, or null, got 1"),
        ({"agent": {"clusters": 4}, "learning": {"reshuffle": True}}, "strategy.agent.clusters"),
    ],
)
def test_wrong_values_are_named(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mgral(**({"lut": LUT, "agent": {}, "learning": {}} | change))


def test_a_reward_that_the_dataset_does_not_have_is_named() -> None:
    strategy = Mgral(lut=LUT | {"metric": "coco_ap"}, agent={}, learning={})
    with pytest.raises(ConfigError, match="strategy.lut.metric: expected voc07_ap50, got 'coco_ap'"):
        strategy.check_dataset(SimpleNamespace(metrics=["voc07_ap50"]))


NEGATIVE = {"_target_": "al_lab.objectives.adapt.Adaptation", "negative": 1.0}
SEGMENT = LUT | {"objective": "negative", "objectives": {"negative": NEGATIVE}}
ENTROPY = {"_target_": "al_lab.strategies.general.entropy.Entropy"}


@pytest.mark.parametrize(
    ("task", "lut", "truth", "message"),
    [
        (
            "segmentation",
            LUT,
            {},
            "expected an objective for segmentation, got one for detection; set strategy.lut.obj",
        ),
        ("detection", SEGMENT, {}, "got one for segmentation; set strategy.lut.objective=isd"),
        ("segmentation", SEGMENT, {"rows": 4, "rivals": {"entropy": ENTROPY}}, "set strategy.truth.rows=0"),
    ],
)
def test_what_is_another_tasks_is_refused(task: str, lut: dict, truth: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mgral(lut=lut, agent={}, learning={}, truth=truth).check_task(task)
    Mgral(lut=SEGMENT, agent={}, learning={}).check_task("segmentation")
    Mgral(lut=LUT, agent={}, learning={}).check_task("detection")
    # rows of the labeled set are trained as the campaign's models are
    from_labels = LUT | {"rows_from": "labeled", "mode": "scratch", "predictor": "auto"}
    Mgral(lut=from_labels, agent={}, learning={}).check_task("segmentation")


def test_a_segmenter_is_rewarded_with_the_miou_of_what_was_bought(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()  # the real measurement
    monkeypatch.setattr("al_lab.campaign.publish._write_report", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda fd: None)
    tasks, real = {}, FakeSegmenter.fit
    monkeypatch.setattr(FakeSegmenter, "fit", lambda self, t: tasks.setdefault(t.checkpoint.stem, t) and real(self, t))
    node = config()["strategy"] | {"lut": SEGMENT | {"minimum": 2, "predictor": "ridge"}, "agent": {"controls": 0}}
    budget = {"_target_": "al_lab.core.budget.Budget", "unit": "image", "initial": 4, "per_cycle": 2, "cycles": 1}
    run_campaign(stub_config(node, dense=True, cycles=1, budget=budget), tmp_path / "run")
    folder = tmp_path / "run" / "cycle_00"
    held = sorted(set(tasks["model"].labeled) - set(tasks["base_0"].labeled))
    assert len(held) == 2 and len(tasks["row_000_seed0"].unlabeled) == 2
    learner, total, dataset = FakeSegmenter(3), np.zeros((3, 3), np.int64), StubDense()
    learner.load(tasks["base_0"].checkpoint)
    for view in learner.views(held, ("dense_probs",)):
        total += confusion_matrix(dataset.truth(view.sample_id), view.probs.argmax(0).numpy(), 3)
    table = json.loads((folder / "lut" / "table.json").read_text())
    expected = miou_from_confusion(total, dataset.classes)[0].scalars["miou"]
    assert (table["metric"], table["references"]) == ("miou", [pytest.approx(expected)])
    assert set(Candidates.load(folder / "candidates.npz").info) == {"embedding", "entropy"}


def test_agent_settings_judge_their_numbers() -> None:
    with pytest.raises(ConfigError, match="strategy.agent.controls: expected a whole number >= 0, got -1"):
        AgentSettings(controls=-1)


@pytest.mark.parametrize(("ref0", "reference"), [("base", 30.0), ("first", None)])
def test_the_first_reference_is_the_bases_metric_or_the_first_reward(tmp_path, monkeypatch, ref0, reference):
    seen = []

    def reinforce(*arguments):
        seen.append(arguments[-2])
        raise InterruptedError

    monkeypatch.setattr(decide, "Reinforce", reinforce)
    world = World(tuple("abcd"), Images(np.zeros((4, 2), np.float32), 4), 2, None, {"references": [0.2, 0.4]})
    stage = train_agent.TrainAgent(AgentSettings(ref0=ref0), None, None, None)
    with pytest.raises(InterruptedError):
        stage._train(None, world, None, tmp_path / "agent_state.ckpt", Rng(0), None)
    assert seen == [reference if reference is None else pytest.approx(reference)]
