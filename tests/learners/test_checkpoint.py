"""Checkpoints load whole and without code, or say why not."""

import logging
from pathlib import Path

import pytest
import torch

from al_lab.core.errors import WeightsError
from al_lab.learners.checkpoint import load_checkpoint, load_weights, read_last, save_checkpoint
from al_lab.models.detectors.tiny import TinyDetector

STATE = {
    "state_dict": {"w": torch.arange(3.0)},
    "objective": {},
    "optimizer": {"state": {}, "param_groups": []},
    "schedule": {"total_steps": 5, "milestones": (2, 3)},
    "step": 2,
    "precision": {},
    "meta": {"fingerprint": "f", "loss": 0.5},
}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.ckpt", STATE)
    loaded = load_checkpoint(tmp_path / "m.ckpt")
    assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])
    assert {k: v for k, v in loaded.items() if k != "state_dict"} == {
        k: v for k, v in STATE.items() if k != "state_dict"
    }


def test_equal_trainings_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name / f"{name}.ckpt", STATE)
    assert (tmp_path / "a" / "a.ckpt").read_bytes() == (tmp_path / "b" / "b.ckpt").read_bytes()


def test_an_unfinished_training_of_the_same_task_is_found(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.ckpt", STATE)
    assert read_last(tmp_path / "last.ckpt", "f")["step"] == 2
    assert read_last(tmp_path / "none.ckpt", "f") is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"m.ckpt: expected a checkpoint, got no such file"):
        load_checkpoint(tmp_path / "m.ckpt")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_named_and_training_starts_over(
    tmp_path: Path, keep: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(
        WeightsError, match=r"last.ckpt: expected a whole checkpoint of plain tensors, got \d+ bytes that don't load"
    ):
        load_checkpoint(path)
    with caplog.at_level(logging.WARNING):
        assert read_last(path, "f") is None
    assert "last.ckpt" in caplog.text
    assert "starts over" in caplog.text


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, STATE)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(3.0).numpy().tobytes()) + 5] ^= 8  # torch.load would not mind
    path.write_bytes(data)
    assert read_last(path, "f") is None


def test_a_checkpoint_of_another_task_is_not_continued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(tmp_path / "last.ckpt", STATE)
    with caplog.at_level(logging.WARNING):
        assert read_last(tmp_path / "last.ckpt", "other") is None
    assert "belongs to another training" in caplog.text


def test_a_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({**STATE, "meta": Path("x")}, tmp_path / "m.ckpt")
    with pytest.raises(WeightsError, match="plain tensors"):
        load_checkpoint(tmp_path / "m.ckpt")


def test_somebody_elses_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "m.ckpt")
    with pytest.raises(WeightsError, match="got none of objective, optimizer, schedule, step, precision, meta"):
        load_checkpoint(tmp_path / "m.ckpt")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError,
        match=r"1 missing \(bias\), 1 unknown \(extra\), 1 of another shape \(weight \(3, 3\) for \(3, 2\)\)",
    ):
        load_weights(torch.nn.Linear(2, 3), {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, tmp_path / "m.ckpt")


def test_weights_for_other_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a checkpoint for 3 classes, got one for 20"):
        load_weights(TinyDetector(3), TinyDetector(20).state_dict(), tmp_path / "m.ckpt")
