"""The ledger drops a half-written line, keeps every whole one, and names what no stage wrote."""

import json
from pathlib import Path

import pytest

from al_lab.core.errors import ResumeError
from al_lab.core.files import sha256
from al_lab.core.record.ledger import Ledger, is_finished, last_key


def commit(path: Path) -> bytes:
    ledger = Ledger(path)
    ledger.commit(0, "train", seconds=1.23456, scalars={"loss": 0.5}, files={})
    ledger.commit(0, "evaluate", seconds=2, scalars={}, files={})
    return path.read_bytes()


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    commit(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert list(ledger.entries) == ["00/train", "00/evaluate"]
    assert "00/train" in ledger and "01/train" not in ledger
    assert ledger.entries["00/train"]["scalars"] == {"loss": 0.5}
    assert ledger.entries["00/train"]["seconds"] == 1.235


@pytest.mark.parametrize("cut", [1, 7])
def test_a_half_written_line_goes_and_the_next_one_begins_a_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = commit(path)
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + cut])
    ledger = Ledger(path)
    assert list(ledger.entries) == ["00/train"]
    ledger.commit(0, "evaluate", seconds=2, scalars={}, files={})
    assert path.read_bytes() == whole
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["00/train", "00/evaluate"]


def test_a_line_that_is_no_entry_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(commit(path) + b"nonsense\n")
    with pytest.raises(ResumeError, match="line 3"):
        Ledger(path)


def test_entries_are_taken_back_and_amended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    commit(path)
    ledger = Ledger(path)
    ledger.amend("00/train", files={"a": "0"})
    ledger.undo(["00/evaluate"])
    assert list(Ledger(path).entries) == ["00/train"]
    assert Ledger(path).entries["00/train"]["files"] == {"a": "0"}


def test_harmed_files_are_named_once_and_lost_checkpoints_are_not(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("whole.json", "lost.json", "changed.json", "lost.ckpt", "changed.ckpt")}
    for name, file in files.items():
        file.write_text(name)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.commit(0, "train", seconds=1, scalars={}, files={name: sha256(f) for name, f in files.items()})
    ledger.commit(0, "evaluate", seconds=1, scalars={}, files={"lost.json": sha256(files["lost.json"])})
    assert ledger.harmed(tmp_path) == []
    for name, file in files.items():
        file.unlink() if "lost" in name else file.write_text("x") if "changed" in name else None
    assert ledger.harmed(tmp_path) == [("00/train", n) for n in ("lost.json", "changed.json", "changed.ckpt")]
    assert ledger.harmed(tmp_path, ["00/evaluate"]) == [("00/evaluate", "lost.json")]
    assert ledger.harmed(tmp_path, []) == []


def test_a_campaign_ends_with_an_evaluation_or_with_an_analysis(tmp_path: Path) -> None:
    detector = {"budget": {"cycles": 0}, "runtime": {"analyze_images": 8}}
    segmenter = detector | {"segmenter": {"_target_": "S"}}
    assert last_key(detector) == "00/evaluate"
    assert last_key(segmenter) == "00/analyze"
    assert last_key(segmenter | {"runtime": {"analyze_images": 0}}) == "00/evaluate"
    assert last_key(segmenter | {"runtime": {}}, cycle=3) == "03/evaluate"
    assert not is_finished(tmp_path, detector)
    whole = commit(tmp_path / "ledger.jsonl")
    assert is_finished(tmp_path, detector)
    assert not is_finished(tmp_path, segmenter)
    (tmp_path / "ledger.jsonl").write_bytes(whole[:-1])  # not yet written to its end
    assert not is_finished(tmp_path, detector)
