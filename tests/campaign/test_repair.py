"""What a run folder has lost is made again as it was, or named; nothing else changes, and nothing silently."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from al_lab.campaign.loop import run_campaign
from al_lab.core.errors import ResumeError
from al_lab.core.record.ledger import Ledger
from tests.campaign.runs import CONFIGS, contents, finished
from tests.stubs import StubDetection, StubLearner, quicken, stub_config

BOX = {"_target_": "al_lab.core.budget.Budget", "unit": "box", "initial": 6, "per_cycle": 12, "cycles": 2}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        yield


def stop_after(run_dir: Path, key: str) -> None:
    """Make a finished run one that was killed after a stage."""
    lines = (run_dir / "ledger.jsonl").read_text().splitlines()
    count = [json.loads(line)["key"] for line in lines].index(key) + 1
    (run_dir / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines[:count]))


def same(run_dir: Path, whole: dict[str, object]) -> bool:
    return {k: v for k, v in contents(run_dir).items() if not k.endswith(".damaged")} == whole


@pytest.mark.parametrize("harm", ["gone", "cut", "other classes"])
@pytest.mark.parametrize("folder", ["pixel_labels", "masks"])
def test_bought_pixels_are_revealed_again(folder: str, harm: str) -> None:
    run_dir = finished("pixels")
    whole = contents(run_dir)
    stop_after(run_dir, "01/annotate")
    path = sorted((run_dir / "cycle_00" / folder).glob("*.npz"))[0]
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:60])
    elif folder == "masks":
        path.write_bytes(sorted((run_dir / "cycle_01" / folder).glob("*.npz"))[0].read_bytes())
    else:
        np.savez_compressed(path, labels=(np.load(path)["labels"] + 1) % 3)
    run_campaign(CONFIGS["pixels"](), run_dir)
    assert same(run_dir, whole)


def test_labels_that_the_oracle_no_longer_knows_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "run"
    run_campaign(stub_config(CONFIGS["images"]()["strategy"], cycles=1), run_dir)
    (run_dir / "initial" / "labels.jsonl").unlink()
    before = contents(run_dir)
    truth = StubDetection.truth
    monkeypatch.setattr(StubDetection, "truth", lambda self, i: truth(self, "img/001"))
    for _ in range(2):
        with pytest.raises(ResumeError, match=r"initial/labels.jsonl: expected the file that 00/initialize committed"):
            run_campaign(CONFIGS["images"](), run_dir)
    now = contents(run_dir)
    assert {k: now.get(k) for k in before if k != "config.yaml"} == {
        k: v for k, v in before.items() if k != "config.yaml"
    }


def test_a_checkpoint_is_trained_again_only_if_somebody_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    real = StubLearner.fit
    monkeypatch.setattr(StubLearner, "fit", lambda self, task: fits.append(task.cycle) or real(self, task))
    for kind, needed in (("images", [1]), ("continue", [0, 1])):
        run_dir = finished(kind)
        whole = contents(run_dir)
        stop_after(run_dir, "01/evaluate")
        fits.clear()
        (run_dir / "cycle_00" / "model.ckpt").unlink()
        damaged = run_dir / "cycle_01" / "model.ckpt"
        damaged.write_bytes(damaged.read_bytes().replace(b"1", b"2", 1))
        run_campaign(CONFIGS[kind](), run_dir)
        assert sorted(fits) == [*needed]
        assert same(
            run_dir, whole if kind == "continue" else {k: v for k, v in whole.items() if k != "cycle_00/model.ckpt"}
        )


def test_a_model_that_comes_out_another_way_takes_along_what_was_built_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = finished("images")
    stop_after(run_dir, "01/score")
    before = Ledger(run_dir / "ledger.jsonl").entries
    (run_dir / "cycle_01" / "model.ckpt").unlink()
    (run_dir / "cycle_01" / "candidates.npz").unlink()
    real = StubLearner.fit

    def fit(self: StubLearner, task: object) -> dict[str, float]:
        scalars = real(self, task)
        task.checkpoint.write_text(json.dumps({"state": "of other hardware", "step": 1}))
        return scalars

    monkeypatch.setattr(StubLearner, "fit", fit)
    run_campaign(CONFIGS["images"](), run_dir)
    after = Ledger(run_dir / "ledger.jsonl").entries
    assert after["01/train"]["remade"]
    assert after["01/evaluate"]["files"] != before["01/evaluate"]["files"]
    assert after["00/evaluate"] == before["00/evaluate"]
    assert not Ledger(run_dir / "ledger.jsonl").harmed(run_dir)


def test_a_damaged_model_in_the_cache_is_trained_again(tmp_path: Path) -> None:
    runtime = stub_config({"_target_": "x.y.Z"})["runtime"] | {"cache_dir": str(tmp_path / "cache")}
    config = CONFIGS["images"]() | {"runtime": runtime}
    run_campaign(config, tmp_path / "1" / "run")
    whole = contents(tmp_path / "1" / "run")
    for n, harm in enumerate((lambda p: p.write_bytes(p.read_bytes()[:-9] + b"11111111\n"), Path.unlink)):
        for name in ("model.ckpt", "scalars.json"):
            for path in (tmp_path / "cache").rglob(name):
                harm(path)
            run_campaign(config, tmp_path / f"{n}{name}" / "run")
            assert contents(tmp_path / f"{n}{name}" / "run") == whole


def test_a_pool_that_is_bought_up_ends_the_campaign(tmp_path: Path) -> None:
    config = CONFIGS["boxes"]() | {"budget": BOX | {"per_cycle": 500, "cycles": 3}}
    outcome = run_campaign(config, tmp_path / "run")
    assert outcome["status"] == "finished"
    assert "all of the pool is labeled at cycle 1" in outcome["message"]
    assert run_campaign(config, tmp_path / "run")["status"] == "already finished"
    assert not (tmp_path / "run" / "cycle_02").exists()


def test_a_run_that_can_buy_nothing_more_is_ended_by_what_the_message_says(tmp_path: Path) -> None:
    def config(cycles: int) -> dict:
        return CONFIGS["boxes"]() | {"budget": BOX | {"per_cycle": [12, 0, 12], "cycles": cycles}}

    with pytest.raises(Exception, match="budget.cycles=1 ends the run here"):
        run_campaign(config(3), tmp_path / "run")
    with pytest.raises(ResumeError, match="budget.cycles: was 3, now 0"):  # what was bought is bought
        run_campaign(config(0), tmp_path / "run")
    assert run_campaign(config(1), tmp_path / "run")["status"] == "already finished"


def test_a_lost_configuration_is_not_taken_from_another_command(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_campaign(stub_config(CONFIGS["images"]()["strategy"], cycles=1), run_dir)
    (run_dir / "config.yaml").unlink()
    with pytest.raises(ResumeError, match="config.yaml"):
        run_campaign(CONFIGS["images"]() | {"seed": 1}, run_dir)
    assert run_campaign(CONFIGS["images"](), run_dir)["status"] == "finished"
    whole = (run_dir / "config.yaml").read_text()
    for damaged in ("", whole.replace("predict_batch", "predict^batch"), whole.replace("per_cycle: 5", "per_cycle: 4")):
        (run_dir / "config.yaml").write_text(damaged)
        assert run_campaign(CONFIGS["images"](), run_dir)["status"] == "already finished"
        assert (run_dir / "config.yaml").read_text() == whole


def test_a_ledger_of_another_run_is_named(tmp_path: Path) -> None:
    run_dir = finished("images")
    run_campaign(CONFIGS["images"]() | {"seed": 1}, tmp_path / "run")
    (run_dir / "ledger.jsonl").write_bytes((tmp_path / "run/ledger.jsonl").read_bytes())
    with pytest.raises(ResumeError, match="expected the ledger of this run"):
        run_campaign(CONFIGS["images"](), run_dir)
    assert (run_dir / "cycle_00/model.ckpt").is_file()


def test_a_digit_changed_in_the_ledger_is_named() -> None:
    run_dir = finished("images")
    text = (run_dir / "ledger.jsonl").read_text()
    (run_dir / "ledger.jsonl").write_text(text.replace('"num_labeled": 16', '"num_labeled": 17'))
    with pytest.raises(ResumeError, match="ledger.jsonl"):
        run_campaign(CONFIGS["images"](), run_dir)


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    left = run_dir / "cycle_00" / f".tmp-{2**22 + 7}-model.ckpt"  # beyond any process number
    left.parent.mkdir(parents=True)
    left.write_text("half")
    run_campaign(CONFIGS["images"](), run_dir)
    assert not left.exists()


def test_a_finished_run_without_permission_to_write_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        run_dir = Path(folder) / "run"
        run_campaign(CONFIGS["images"](), run_dir)
        before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
        for path in (Path(folder), run_dir, *run_dir.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            if os.getuid() == 0:
                os.setuid(65534)  # root may write anywhere
            os.write(writer, json.dumps(run_campaign(CONFIGS["images"](), run_dir)).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            outcome = json.loads(stream.read())
        os.waitpid(pid, 0)
        for path in (Path(folder), run_dir, *(p for p in run_dir.rglob("*") if p.is_dir())):
            path.chmod(0o755)
        assert outcome["status"] == "already finished"
        assert "voc07_ap50" in outcome
        assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


def test_deleted_selections_are_written_again() -> None:
    run_dir = finished("images")
    before = contents(run_dir)
    for name in ("selections.json", "metrics.jsonl", "metrics.csv"):
        (run_dir / name).unlink()
    run_campaign(CONFIGS["images"](), run_dir)
    assert contents(run_dir) == before


def test_a_run_of_an_older_version_goes_on() -> None:
    run_dir = finished("pixels")
    whole = {k: v for k, v in contents(run_dir).items() if k != "ledger.jsonl"}
    stop_after(run_dir, "00/annotate")
    old = []
    for entry in Ledger(run_dir / "ledger.jsonl").entries.values():
        kept = {n: d for n, d in entry["files"].items() if not n.endswith((".npz", "_stats.json")) or "cand" in n}
        old.append({k: v for k, v in entry.items() if k not in ("digest", "fingerprint")} | {"files": kept})
    (run_dir / "ledger.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in old))
    run_campaign(CONFIGS["pixels"](), run_dir)
    assert {k: v for k, v in contents(run_dir).items() if k != "ledger.jsonl"} == whole
    stop_after(run_dir, "00/annotate")
    (run_dir / "cycle_01" / "train.json").unlink()
    sorted((run_dir / "initial" / "pixel_labels").glob("*.npz"))[0].unlink()  # no digest told of it
    with pytest.raises(Exception, match=r"initial/pixel_labels/.*no such file"):
        run_campaign(CONFIGS["pixels"](), run_dir)
