"""Pixel labels as a run bought them: what training reads, what was paid for, and what tells two trainings apart."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import ResumeError
from al_lab.core.pool import INITIAL, file_stem, purchase_dir, save_region
from al_lab.core.record.labels import pixel_labels_hash, read_bought_pixels, read_pixel_labels
from al_lab.core.record.purchase import write_pixel_labels
from al_lab.core.types import Region


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
