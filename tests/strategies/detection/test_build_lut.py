"""The look-up table: which images rows train on and are measured on, resuming row by row, and what refuses to
be mixed."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ConfigError, ResumeError
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.data.grouping import Grouping
from al_lab.execution.inline import InlineExecutor
from al_lab.execution.job import Job
from al_lab.learners.base import FitTask
from al_lab.stages.annotate import load_pool
from al_lab.strategies.detection._mgral.reward_split import reward_folds
from al_lab.strategies.detection._mgral.rows.halving import better_half, expected_at_end
from al_lab.strategies.detection._mgral.rows.settings import LutSettings
from al_lab.strategies.detection._mgral.rows.table import load_table, rewards, signal_and_noise
from tests.stubs import StubDetection, StubLearner, quicken, stub_config

ROWS = {"rows": 4, "objective": {"_target_": "al_lab.objectives.isd.ISD"}, "minimum": 2, "repeats": 2, "seeds": 2}


def config(**lut: object) -> dict:
    node = {"_target_": "tests.strategies.detection.lut_strategy.WithLut", "_recursive_": False, "lut": ROWS | lut}
    return stub_config(
        node,
        cycles=1,
        budget={"_target_": "al_lab.core.budget.Budget", "unit": "image", "initial": 20, "per_cycle": 5, "cycles": 1},
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[FitTask]:
    """Every training that is really done."""
    seen: list[FitTask] = []
    real = StubLearner.fit

    def fit(self: StubLearner, task: FitTask) -> dict[str, float]:
        seen.append(task)
        return real(self, task)

    monkeypatch.setattr(StubLearner, "fit", fit)
    return seen


def run(folder: Path, **lut: object) -> dict:
    run_campaign(config(**lut), folder)
    return load_table(
        folder / "cycle_00" / "lut" / "table.json",
        load_pool(StubDetection(), folder, 0),
        lut.get("split", "holdout"),
    )


def test_rows_train_on_the_labeled_rest_and_a_random_batch_from_the_base(tmp_path: Path, tasks: list[FitTask]) -> None:
    table = run(tmp_path / "run")
    pool = load_pool(StubDetection(), tmp_path / "run", 0)
    base, rows = tasks[1], tasks[2:-1]  # the first and the last are the cycles' own
    assert (base.start, base.unlabeled) == ("scratch", ())
    assert len(base.labeled) == 16  # 20 minus max(0.2 x 20, 2)
    assert len(rows) == 4 + 2  # two rows were repeated with another seed
    for task, row in zip(rows, table["rows"], strict=True):
        assert (task.start, task.init_checkpoint, task.labeled) == ("weights", base.checkpoint, base.labeled)
        assert list(task.unlabeled) == row["ids"]
        assert len(row["ids"]) == 5
        assert set(row["ids"]) <= set(pool.unlabeled())
        assert not task.checkpoint.exists()
    assert len({task.seed for task in rows[:4]}) == 1  # rows differ by their batch alone
    assert {task.seed for task in rows[4:]}.isdisjoint({rows[0].seed})
    assert len({tuple(r["ids"]) for r in table["rows"]}) == 4


def test_rows_that_began_again_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = StubLearner.fit

    def fit(self: StubLearner, task: FitTask) -> dict[str, float]:
        diverged = (
            {"diverged": 1, "diverged_step": 3, "lr_factor": 1.0} if "row_001_seed0" in str(task.checkpoint) else {}
        )
        return real(self, task) | diverged

    monkeypatch.setattr(StubLearner, "fit", fit)
    table = run(tmp_path / "run")
    assert [row.get("diverged") for row in table["rows"]] == [None, 1, None, None, None, None]
    ledger = [json.loads(line) for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()]
    assert next(e for e in ledger if e["stage"] == "build_lut")["scalars"]["diverged_rows"] == 1


def test_scratch_trains_from_scratch_and_early_stop_stops_early(tmp_path: Path, tasks: list[FitTask]) -> None:
    run(tmp_path / "run", mode="scratch", early_stop=0.25)
    assert [(t.start, t.stop_at) for t in tasks[2:-1]] == [("scratch", 25)] * 6
    assert tasks[1].stop_at is None


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"mode": "scratch"}, [["base 0", *["row"] * 6]]),
        ({"mode": "finetune"}, [["base 0"], ["row"] * 6]),
    ],
)
def test_rows_wait_for_their_base_only_if_they_start_from_it(
    options: dict[str, str], batches: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    real = InlineExecutor.run

    def run_jobs(self: InlineExecutor, jobs: list[Job]) -> list[dict]:
        names = [job.name.removeprefix("cycle 00 ") for job in jobs]
        asked.append(["row" if name.startswith("row") else name for name in names])
        return real(self, jobs)

    monkeypatch.setattr(InlineExecutor, "run", run_jobs)
    run(tmp_path / "run", **options)
    assert [names for names in asked if {"row", "base 0"} & set(names)] == batches


def test_a_table_killed_in_the_middle_is_gone_on_with_row_by_row(
    tmp_path: Path, tasks: list[FitTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "a" / "run")
    done = len(tasks)
    tasks.clear()
    counted = StubLearner.fit

    def dies(self: StubLearner, task: FitTask) -> dict[str, float]:
        if task.checkpoint.name == "row_002_seed0.ckpt":
            raise KeyboardInterrupt
        return counted(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(StubLearner, "fit", dies)
        with pytest.raises(KeyboardInterrupt):
            run_campaign(config(), tmp_path / "b" / "run")
    resumed = run(tmp_path / "b" / "run")
    assert len(tasks) == done
    for table in (whole, resumed):
        for row in table["rows"]:
            row.pop("seconds")
        table.pop("seconds")
    assert resumed == whole


def test_rows_of_other_labels_or_another_split_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "run")
    path = tmp_path / "run" / "cycle_00" / "lut" / "table.json"
    with pytest.raises(ResumeError, match="expected rows with split test, got holdout"):
        load_table(path, load_pool(StubDetection(), tmp_path / "run", 0), "test")
    with pytest.raises(ResumeError, match="expected rows with labeled_hash"):
        load_table(path, load_pool(StubDetection(), tmp_path / "run", 1), "holdout")


def test_measured_on_the_test_set_the_base_is_the_cycles_own_model(
    tmp_path: Path, tasks: list[FitTask], caplog: pytest.LogCaptureFixture
) -> None:
    table = run(tmp_path / "run", split="test")
    assert len(tasks) == 2 + 6
    assert all(t.init_checkpoint.name == "model.ckpt" for t in tasks[1:-1])
    metrics = json.loads((tmp_path / "run" / "cycle_00" / "metrics.json").read_text())
    assert table["references"] == [pytest.approx(metrics["voc07_ap50"])]
    assert "depends on test labels" in caplog.text


def labels(counts: dict[int, int], num: int = 40) -> dict[str, set[int]]:
    """Images of which the first few have each class, the rest class 0."""
    out, n = {}, 0
    for label, count in counts.items():
        for _ in range(count):
            out[f"i{n:02d}"] = {label}
            n += 1
    return out | {f"i{k:02d}": {0} for k in range(n, num)}


def test_the_holdout_is_stratified_and_never_more_than_half() -> None:
    known = labels({1: 10, 2: 5})
    (fold,) = reward_folds("holdout", known, StubDetection(), Rng(0), fraction=0.2, minimum=8)
    assert len(fold.measure) == 8
    assert {*fold.train, *fold.measure} == set(known)
    assert not set(fold.train) & set(fold.measure)
    assert [sum(known[i] == {c} for i in fold.measure) for c in (0, 1, 2)] == [5, 2, 1]
    assert len(reward_folds("holdout", known, StubDetection(), Rng(0), minimum=50)[0].measure) == 20
    assert reward_folds("holdout", known, StubDetection(), Rng(1), minimum=8)[0] != fold


def test_k_folds_measure_every_image_once() -> None:
    known = labels({1: 10})
    folds = reward_folds("kfold", known, StubDetection(), Rng(0), folds=4)
    assert sorted(i for f in folds for i in f.measure) == sorted(known)
    assert all(not set(f.train) & set(f.measure) and len(f.measure) == 10 for f in folds)


def test_a_part_of_groups_is_whole_groups_and_stops_when_it_is_large_enough() -> None:
    known = {f"{g}_{k}": {0} for g in "abcde" for k in range(2)}
    dataset = SimpleNamespace(grouping=Grouping("^[a-e]"))
    (fold,) = reward_folds("holdout", known, dataset, Rng(0), minimum=4)
    assert len(fold.measure) == 4  # two groups: a third would be one too many
    assert not {i[0] for i in fold.train} & {i[0] for i in fold.measure}
    (fold,) = reward_folds("holdout", known, SimpleNamespace(grouping=Grouping(".*")), Rng(0), minimum=4)
    assert len(fold.measure) == 4  # of groups of one image, a fifth would fit into the half that may be held out
    two = {i: a for i, a in known.items() if i[0] in "ab"}
    (fold,) = reward_folds("holdout", two, dataset, Rng(0), minimum=2)
    assert len({i[0] for i in fold.measure}) == 1
    with pytest.raises(ConfigError, match="at least two groups"):
        reward_folds("holdout", {i: a for i, a in two.items() if i[0] == "a"}, dataset, Rng(0), minimum=1)


@pytest.mark.parametrize(
    ("kind", "known", "message"),
    [
        ("holdot", labels({}), "did you mean 'holdout'"),
        ("val", labels({}), "expected a labeled val set"),
        ("holdout", labels({}, 1), "at least two labeled images"),
    ],
)
def test_a_split_that_cannot_be_made_is_named(kind: str, known: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reward_folds(kind, known, StubDetection(), Rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 1}, "lut.rows"),
        ({"mode": "fine"}, "scratch | finetune"),
        ({"repeats": 9}, "lut.repeats"),
        ({"early_stop": 2}, "lut.early_stop"),
        ({"calibrate": 4}, "a fraction of the schedule below 1"),
        ({"calibrate": 3, "early_stop": 0.5}, "lut.calibrate"),
    ],
)
def test_wrong_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        LutSettings(**(ROWS | change))


def table(values: dict[tuple[int, int, int], float], references: list[float]) -> dict:
    return {
        "references": references,
        "rows": [{"number": n, "seed": s, "fold": f, "value": v} for (n, s, f), v in values.items()],
    }


def test_the_difference_between_folds_is_taken_out_of_rewards() -> None:
    found = rewards(table({(0, 0, 0): 0.30, (1, 0, 1): 0.40, (2, 0, 0): 0.31, (0, 1, 0): 0.9}, [0.28, 0.38]))
    assert np.allclose(found, [0.35, 0.35, 0.36])


@pytest.mark.parametrize(("second", "verdict"), [(0.301, "matters more than noise"), (0.36, "learns noise")])
def test_the_sentence_about_signal_and_noise(second: float, verdict: str) -> None:
    facts = signal_and_noise(table({(0, 0, 0): 0.30, (1, 0, 0): 0.32, (2, 0, 0): 0.34, (0, 1, 0): second}, [0.3]))
    assert verdict in facts["sentence"]
    assert facts["row_spread"] == pytest.approx(2.0)
    assert facts["seed_noise"] == pytest.approx(100 * abs(second - 0.30) / np.sqrt(2))


def test_without_repetitions_nothing_is_claimed() -> None:
    assert (
        "how much of it is noise is unknown"
        in signal_and_noise(table({(0, 0, 0): 0.3, (1, 0, 0): 0.4}, [0.3]))["sentence"]
    )


def test_the_pool_hash_names_the_labeled_set() -> None:
    assert Pool(("a", "b")).labeled_hash() != Pool(("a", "b"), {"a": -1}).labeled_hash()


HALVES = {"rows": 12, "early_stop": 0.25, "calibrate": 4, "repeats": 0, "mode": "scratch"}


@pytest.mark.parametrize("agreement", [-1, 1])
def test_the_worse_half_stops_where_the_rung_ranks_rows(
    tmp_path: Path, tasks: list[FitTask], agreement: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_lab.stages.jobs._measure", by_state)
    found = run(tmp_path / "run", **HALVES, agreement=agreement)
    rungs, rest = ([t for t in tasks[2:-1] if ("rung" in t.checkpoint.name) == is_rung] for is_rung in (True, False))
    assert [t.stop_at for t in rungs] == [25] * 12
    assert {(t.start, t.stop_at) for t in rest} == {("continue", None)}
    assert [t.init_checkpoint.name for t in rest[:4]] == [f"row_{m:03d}_rung.ckpt" for m in range(4)]
    assert not list((tmp_path / "run" / "cycle_00" / "lut").glob("row_*.ckpt"))
    early = found["early"]
    is_ranked = early["rank_correlation"] >= agreement
    assert (len(rest), early["stopped"]) == ((8, 4) if is_ranked else (12, 0))
    stopped = [row for row in found["rows"] if "stopped" in row]
    others = [row for row in found["rows"][4:] if "stopped" not in row]
    assert len(stopped) == early["stopped"]
    if stopped:
        assert max(row["rung"] for row in stopped) <= min(row["rung"] for row in others)
    assert f"{100 * 0.25:.0f} % of the schedule" in early["sentence"]


def by_state(learner: StubLearner, checkpoint: Path, *_: object) -> dict:
    learner.load(checkpoint)
    return {"metrics": {"voc07_ap50": int(learner.state[:4], 16) / 16**4}, "per_class": {}}


def test_halves_killed_in_the_middle_train_no_row_twice(
    tmp_path: Path, tasks: list[FitTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_lab.stages.jobs._measure", by_state)
    lut = HALVES | {"agreement": -1}
    whole = run(tmp_path / "a" / "run", **lut)
    done = len(tasks)
    tasks.clear()
    counted = StubLearner.fit
    for name in ("row_005_rung.ckpt", "row_002_seed0.ckpt"):

        def dies(self: StubLearner, task: FitTask, name: str = name) -> dict[str, float]:
            if task.checkpoint.name == name:
                raise KeyboardInterrupt
            return counted(self, task)

        with monkeypatch.context() as patch:
            patch.setattr(StubLearner, "fit", dies)
            with pytest.raises(KeyboardInterrupt):
                run_campaign(config(**lut), tmp_path / "b" / "run")
    with monkeypatch.context() as patch:  # between the last row and the table
        patch.setattr("al_lab.strategies.detection._mgral.build_lut.signal_and_noise", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_campaign(config(**lut), tmp_path / "b" / "run")
    resumed = run(tmp_path / "b" / "run", **lut)
    assert len(tasks) == done
    for found in (whole, resumed):
        for row in found["rows"]:
            row.pop("seconds")
        found.pop("seconds")
    assert resumed == whole


def test_rows_that_stopped_get_what_a_line_expects() -> None:
    assert better_half({3: 0.1, 5: 0.3, 6: 0.2}) == [5, 6]
    rung = {0: 0.0, 1: 1.0, 2: 2.0, 3: 4.0}
    assert expected_at_end(rung, {0: 1.0, 1: 3.0, 2: 5.0}) == {3: pytest.approx(9.0)}
    assert expected_at_end(rung, {0: 3.0, 1: 2.0}) == {2: 2.5, 3: 2.5}  # a falling line is none
    assert expected_at_end({0: 1.0, 1: 1.0, 2: 5.0}, {0: 3.0, 1: 2.0}) == {2: 2.5}
