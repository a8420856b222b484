"""Labels as a run bought them: what training reads, what was paid for, and what tells two trainings apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import ResumeError
from al_lab.core.pool import INITIAL, file_stem, purchase_dir, save_region
from al_lab.core.record.labels import (
    pixel_labels_hash,
    read_annotations,
    read_bought_pixels,
    read_labels,
    read_pixel_labels,
)
from al_lab.core.record.purchase import write_labels, write_pixel_labels
from al_lab.core.record.seal import seal
from al_lab.core.types import Annotation, Region


def buy(run_dir: Path, cycle: int, sample_id: str, pixels: list[int], labels: list[int]) -> None:
    folder = purchase_dir(run_dir, cycle)
    save_region(folder / "masks" / f"{file_stem(sample_id)}.npz", Region(np.array(pixels), (2, 3)))
    write_pixel_labels(folder, sample_id, np.array(labels, np.uint8))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    buy(tmp_path, INITIAL, "a/b", [0, 4], [2, 255])
    buy(tmp_path, 0, "a/b", [1], [1])
    buy(tmp_path, 1, "a/b", [5], [0])
    return tmp_path


def test_purchases_before_a_cycle_are_one_map(run_dir: Path) -> None:
    assert read_pixel_labels(run_dir, "a/b", 0).tolist() == [[2, 255, 255], [255, 255, 255]]
    assert read_pixel_labels(run_dir, "a/b", 2).tolist() == [[2, 1, 255], [255, 255, 0]]


def test_a_bought_pixel_without_a_class_was_paid_for(run_dir: Path) -> None:
    labels, bought = read_bought_pixels(run_dir, "a/b", 1)
    assert bought.tolist() == [[True, True, False], [False, True, False]]
    assert (labels != 255).sum() == 2


def test_the_hash_is_of_what_was_bought_by_then(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = [pixel_labels_hash(run_dir, ["a/b"], cycle) for cycle in (0, 1, 2)]
    assert len(set(before)) == 3
    buy(run_dir, 1, "a/b", [5], [1])
    after = [pixel_labels_hash(run_dir, ["a/b"], cycle) for cycle in (0, 1, 2)]
    assert after[:2] == before[:2] and after[2] != before[2]
    other = tmp_path_factory.mktemp("other")
    buy(other, INITIAL, "a/b", [0, 4], [2, 255])
    assert pixel_labels_hash(other, ["a/b"], 0) == before[0]


def test_an_image_without_bought_pixels_is_named(run_dir: Path) -> None:
    with pytest.raises(ResumeError, match="bought pixels of 'c'"):
        read_pixel_labels(run_dir, "c", 2)


def boxes(*labels: int) -> Annotation:
    flags = np.zeros(len(labels), bool)
    return Annotation(np.zeros((len(labels), 4), np.float32), np.array(labels, np.int64), flags, flags)


def test_objects_are_read_from_all_purchases_in_the_order_asked_for(tmp_path: Path) -> None:
    write_labels(purchase_dir(tmp_path, INITIAL), {"a": boxes(1, 2)})
    write_labels(purchase_dir(tmp_path, 0), {"b": boxes(), "c": boxes(3)})
    found = read_labels(tmp_path, ["c", "a"])
    assert [(i, a.labels.tolist()) for i, a in found.items()] == [("c", [3]), ("a", [1, 2])]
    with pytest.raises(ResumeError, match=r"none of 'd' \(and 1 more\)"):
        read_labels(tmp_path, ["a", "d", "e"])


@pytest.mark.parametrize("digest", ["of it", "of another", "none"])
def test_an_annotation_that_was_changed_is_named(tmp_path: Path, digest: str) -> None:
    record = {"id": "a", "annotation": boxes(1).to_json()}
    sealed = seal(record if digest == "of it" else {"id": "a", "annotation": boxes(2).to_json()})
    line = record if digest == "none" else record | {"digest": sealed["digest"]}
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{json.dumps(line)}\n")
    if digest == "of another":
        with pytest.raises(ResumeError, match="a letter or a digit was changed"):
            read_annotations(path)
    else:
        assert read_annotations(path)["a"].labels.tolist() == [1]
