"""Killed at any (cycle, stage), before or after its commit, the same command ends in the same run folder."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError, ResumeError
from al_lab.core.oracle import SimulatedOracle
from al_lab.core.record import ledger as ledger_module
from al_lab.core.record.predictions import load_predictions
from al_lab.learners.base import FitTask, read_pseudo
from al_lab.learners.checkpoint import load_checkpoint
from al_lab.stages.annotate import load_pool
from tests.campaign.runs import CONFIGS, DETECTION, PIXELS, PSEUDO, contents, finished, segmenter_config
from tests.stubs import FakeSegmenter, StubDense, StubDetection, StubLearner, quicken, stub_config


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing cleans up after it."""


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        yield


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, dict[str, object]]:
    # Other runs live at other paths of the same name: checkpoints and queries name no path, and this proves it.
    return {kind: contents(finished(kind)) for kind in CONFIGS}


def kill_at_next_commit(patch: pytest.MonkeyPatch, when: str) -> None:
    real = ledger_module.Ledger.commit

    def commit(self: ledger_module.Ledger, *args: object, **kwargs: object) -> None:
        if when == "after":
            real(self, *args, **kwargs)
        raise Killed

    patch.setattr(ledger_module.Ledger, "commit", commit)


@pytest.mark.parametrize("kind", CONFIGS)
def test_killed_before_and_after_every_commit(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict
) -> None:
    """One process for each half of each stage: the first dies just before its commit, the second just after it."""
    run_dir = tmp_path / "run"
    for _ in uninterrupted[kind]["ledger.jsonl"]:
        for when in ("before", "after"):
            with monkeypatch.context() as patch:
                kill_at_next_commit(patch, when)
                with pytest.raises(Killed):
                    run_campaign(CONFIGS[kind](), run_dir)
    assert run_campaign(CONFIGS[kind](), run_dir)["status"] == "already finished"
    assert contents(run_dir) == uninterrupted[kind]


def test_killed_while_appending_to_the_ledger(uninterrupted: dict) -> None:
    run_dir = finished("images")
    ledger = run_dir / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-30])
    run_campaign(CONFIGS["images"](), run_dir)
    assert contents(run_dir) == uninterrupted["images"]


def test_finished_run_returns_at_once_and_more_cycles_continue_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict
) -> None:
    run_dir = tmp_path / "run"
    run_campaign(stub_config(DETECTION, cycles=1), run_dir)
    assert run_campaign(CONFIGS["images"](), run_dir)["status"] == "finished"
    ours, whole = contents(run_dir), uninterrupted["images"]
    assert ours == whole
    monkeypatch.setattr("al_lab.config.parts.build", lambda *_, **__: pytest.fail("a finished run builds nothing"))
    assert run_campaign(CONFIGS["images"](), run_dir)["status"] == "already finished"


def test_another_config_is_refused_with_the_difference_and_restart_moves_the_old_run_aside() -> None:
    run_dir = finished("images")
    changed = CONFIGS["images"]()
    changed["budget"]["per_cycle"] = 4
    with pytest.raises(ResumeError, match=r"budget\.per_cycle.*restart=true"):
        run_campaign(changed, run_dir)
    assert run_campaign(changed | {"restart": True}, run_dir)["status"] == "finished"
    assert (run_dir.with_name("run.before-restart-1") / "ledger.jsonl").is_file()


def test_values_are_judged_before_anything_is_created(tmp_path: Path) -> None:
    wrong = stub_config({"_target_": "al_lab.strategies.general.margin.Margin", "aggregate": "median"})
    with pytest.raises(ConfigError, match="median"):
        run_campaign(wrong, tmp_path / "run")
    wrong = CONFIGS["images"]()
    wrong["dataset"]["metrics"] = ["voc07_ap"]
    with pytest.raises(ConfigError, match="voc07_ap50"):
        run_campaign(wrong, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_machine_keys_never_refuse(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(stub_config(DETECTION, cycles=1), run_dir)
    moved = stub_config(DETECTION, cycles=1)
    moved["runtime"]["num_workers"] = 3
    assert run_campaign(moved, run_dir)["status"] == "already finished"


def test_broken_ledger_is_named_and_kept(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(stub_config(DETECTION, cycles=1), run_dir)
    ledger = run_dir / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join([lines[0], "garbage", *lines[2:]]) + "\n")
    with pytest.raises(ResumeError, match="line 2"):
        run_campaign(stub_config(DETECTION, cycles=1), run_dir)
    assert "garbage" in ledger.read_text()


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    from al_lab.core.files import folder_lock

    run_dir = tmp_path / "run"
    with folder_lock(run_dir), pytest.raises(ResumeError, match="nobody else is using"):
        run_campaign(CONFIGS["images"](), run_dir)


@pytest.mark.parametrize("kind", ["images", "pseudo"])
def test_labels_never_bought_can_be_garbage(kind: str, tmp_path: Path, uninterrupted: dict) -> None:
    """The oracle's firewall: a run that could not have seen a label selects and trains the same whatever that label
    says (PL-6)."""
    bought = {
        row["id"]
        for purchase in json.loads(uninterrupted[kind]["selections.json"])["purchases"]
        for row in purchase["queries"]
    }
    config = CONFIGS[kind]()
    config["dataset"]["garbage_for"] = [i for i in (f"img/{k:03d}" for k in range(40)) if i not in bought]
    run_campaign(config, tmp_path / "run")
    now = contents(tmp_path / "run")
    for name in ("selections.json", "cycle_00/model.ckpt", "cycle_01/model.ckpt", "cycle_02/model.ckpt"):
        assert now[name] == uninterrupted[kind][name]


def test_pseudo_labels_are_of_the_previous_model_and_never_of_a_bought_image(tmp_path: Path) -> None:
    seen = []

    def fit(self: StubLearner, task: FitTask) -> dict[str, float]:
        seen.append((task, read_pseudo(task)))
        return real(self, task)

    with pytest.MonkeyPatch.context() as patch:
        real = StubLearner.fit
        patch.setattr(StubLearner, "fit", fit)
        run_campaign(CONFIGS["pseudo"](), tmp_path / "run")
    assert [task.pseudo and task.pseudo.parent.name for task, _ in seen] == [None, "cycle_00", "cycle_01"]
    assert seen[0][1] == {}
    for task, labels in seen[1:]:
        found = load_predictions([task.pseudo])
        assert set(labels) == set(found) & set(task.unlabeled)
        assert not set(labels) & set(task.labeled)
        assert all((d.confidence >= np.float32(0.6)).all() for d in found.values())  # noqa: PLR2004
        stats = json.loads((task.pseudo.parent / "pseudo_stats.json").read_text())
        assert (stats["images"], stats["unlabeled"]) == (len(labels), len(task.unlabeled))
    assert set(found) - set(labels), "some image with pseudo-labels was bought, or this test proves nothing"


def test_pseudo_labels_come_with_every_strategy(tmp_path: Path) -> None:
    for name in ("random.Random", "entropy.Entropy", "core_set.CoreSet"):
        run_campaign(
            stub_config({"_target_": f"al_lab.strategies.general.{name}"}, objective=PSEUDO, cycles=1), tmp_path / name
        )
        pool = load_pool(StubDetection(), tmp_path / name, 0)
        found = load_predictions([tmp_path / name / "cycle_00" / "pseudo.npz"])
        assert found
        assert set(found) <= set(pool.unlabeled())


def test_pixels_never_bought_can_be_garbage(tmp_path: Path, uninterrupted: dict) -> None:
    pool = load_pool(StubDense(), finished("pixels"), 2)
    config = CONFIGS["pixels"]()
    config["dataset"]["garbage_outside"] = {i: np.flatnonzero(pool.bought_mask(i)).tolist() for i in pool.partial()}
    assert len(config["dataset"]["garbage_outside"]) >= 6  # the initial set was bought whole
    run_campaign(config, tmp_path / "second")
    assert (tmp_path / "second" / "selections.json").read_bytes() == uninterrupted["pixels"]["selections.json"]


def test_replay_buys_a_published_list_again(tmp_path: Path, uninterrupted: dict) -> None:
    for kind, dense in (("images", False), ("pixels", True)):
        run_dir = finished(kind)
        config = stub_config(
            {"_target_": "al_lab.strategies.general.replay.Replay", "path": str(run_dir / "selections.json")},
            dense=dense,
        )
        run_campaign(config, tmp_path / f"replayed_{kind}")
        theirs, ours = (
            json.loads((p / "selections.json").read_text()) for p in (run_dir, tmp_path / f"replayed_{kind}")
        )
        assert [[(q["id"], q.get("sha256")) for q in p["queries"]] for p in ours["purchases"]] == [
            [(q["id"], q.get("sha256")) for q in p["queries"]] for p in theirs["purchases"]
        ]
        metrics = [
            json.loads((p / "cycle_02/metrics.json").read_text()) for p in (run_dir, tmp_path / f"replayed_{kind}")
        ]
        assert metrics[0] == metrics[1]


def test_a_segmentation_campaign_is_one_training_interrupted_by_queries() -> None:
    lines = (finished("segmenter") / "ledger.jsonl").read_text().splitlines()
    entries = {e["key"]: e["scalars"] for e in map(json.loads, lines)}
    trained = [entries[f"{cycle:02d}/train"] for cycle in range(3)]
    assert [t["steps"] for t in trained] == [2, 3, 5]
    assert [t["bought_pixels"] for t in trained] == [0, 4 * 8, 8 * 8]  # ceil(0.01 * 24 * 32) = 8 of each of four images
    assert all(t["effective_labels"] <= t["bought_pixels"] for t in trained)  # of native size, so only void is lost
    assert [entries[f"{cycle:02d}/evaluate"].keys() for cycle in range(3)] == [{"miou"}] * 3


def test_source_free_goes_on_from_a_model_of_the_source_and_needs_no_source_file(tmp_path: Path) -> None:
    base = segmenter_config()
    data = base["dataset"] | {"data_dir": str(tmp_path / "data")}
    source_only = {
        "budget": base["budget"] | {"cycles": 0},
        "trainer": base["trainer"] | {"start": "scratch", "stop_at": 2},
        "objective": base["objective"] | {"source_ratio": 1.0},
        "dataset": data,
    }
    run_campaign(base | source_only, tmp_path / "before")
    for source in (tmp_path / "data").glob("*/source"):
        shutil.rmtree(source)
    begun = tmp_path / "before" / "cycle_00" / "model.ckpt"
    free = {"trainer": base["trainer"] | {"init": str(begun), "stop_at": [0, 1, 3]}, "dataset": data | {"source": None}}
    run_campaign(base | free, tmp_path / "free")
    lines = (tmp_path / "free" / "ledger.jsonl").read_text().splitlines()
    trained = [e["scalars"] for e in map(json.loads, lines) if e["stage"] == "train"]
    assert [(t["steps"], t["bought_pixels"]) for t in trained] == [(0, 0), (1, 32), (3, 64)]
    weights = [load_checkpoint(path)["state_dict"] for path in (begun, tmp_path / "free" / "cycle_00" / "model.ckpt")]
    assert all((weights[0][k] == v).all() for k, v in weights[1].items())


def test_whole_images_are_bought_for_a_segmenter(tmp_path: Path) -> None:
    budget = {"_target_": "al_lab.core.budget.Budget", "unit": "image", "initial": 1, "per_cycle": 1, "cycles": 1}
    trainer = {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 2, "max_iters": 2}
    run_campaign(segmenter_config() | {"budget": budget, "trainer": trainer}, tmp_path / "run")
    (train,) = (
        json.loads(line)["scalars"]
        for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
        if '"01/train"' in line
    )
    assert (train["num_labeled"], train["bought_pixels"]) == (2, 2 * 24 * 32)


def test_cache_shares_a_segmenters_first_training_and_tells_pixels_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = stub_config(PIXELS, dense=True)["runtime"] | {"cache_dir": str(tmp_path / "cache")}
    run_campaign(stub_config(PIXELS, dense=True, cycles=1, runtime=runtime), tmp_path / "first")
    fits = []
    real = FakeSegmenter.fit
    monkeypatch.setattr(FakeSegmenter, "fit", lambda self, task: fits.append(task.cycle) or real(self, task))
    run_campaign(
        stub_config({"_target_": "al_lab.strategies.general.random.Random"}, dense=True, cycles=1, runtime=runtime),
        tmp_path / "second",
    )
    assert fits == [1]
    assert (tmp_path / "first/cycle_01/model.ckpt").read_bytes() != (
        tmp_path / "second/cycle_01/model.ckpt"
    ).read_bytes()


def test_cache_shares_a_training_between_strategies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = stub_config(DETECTION)["runtime"] | {"cache_dir": str(tmp_path / "cache")}
    run_campaign(stub_config(DETECTION, cycles=1, runtime=runtime), tmp_path / "first")
    fits = []
    real = __import__("tests.stubs", fromlist=["StubLearner"]).StubLearner.fit
    monkeypatch.setattr("tests.stubs.StubLearner.fit", lambda self, task: fits.append(task.cycle) or real(self, task))
    run_campaign(
        stub_config({"_target_": "al_lab.strategies.general.random.Random"}, cycles=1, runtime=runtime),
        tmp_path / "second",
    )
    assert fits == [1]
    assert (tmp_path / "first/cycle_00/model.ckpt").read_bytes() == (
        tmp_path / "second/cycle_00/model.ckpt"
    ).read_bytes()


def test_oracle_that_lacks_truth_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from al_lab.core.errors import DataError

    monkeypatch.setattr("tests.stubs.StubDetection.has_truth", lambda self, i: i != "img/003")
    with pytest.raises(DataError, match=r"img/003.*oracle=folder"):
        SimulatedOracle().reveal(__import__("tests.stubs", fromlist=["x"]).StubDetection(), _purchase(tmp_path))


def _purchase(run_dir: Path):  # noqa: ANN202
    from al_lab.core.budget import Allowance
    from al_lab.core.record.purchase import Purchase
    from al_lab.core.types import Query

    return Purchase(run_dir, 0, (Query("img/003"),), Allowance("image", 1))
