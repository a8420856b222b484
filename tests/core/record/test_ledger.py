"""The ledger drops a half-written line, keeps every whole one, and names what no stage wrote."""

import json
from pathlib import Path

import pytest

from al_lab.core.errors import ResumeError
from al_lab.core.record.ledger import Ledger


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
