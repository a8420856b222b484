"""The oracle's account: what is delivered, and what it costs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.oracle import Oracle, SimulatedOracle
from al_lab.core.record.labels import read_pixel_labels
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Annotation, Candidates, Query, Region

BOXES = {"a": 2, "b": 3, "c": 1}
DATASET = SimpleNamespace(classes=("x", "y"), pool_ids=(), task="detection")


def annotation(count: int) -> Annotation:
    flags = np.zeros(count, bool)
    return Annotation(np.zeros((count, 4), np.float32), np.arange(count) % 2, flags, flags)


@pytest.mark.parametrize(
    ("unit", "amount", "bought"),
    [
        ("image", 3, "abc"),
        ("image", 1, "abc"),  # who asked for three images gets them: an image budget was kept when they were chosen
        ("box", 6, "abc"),
        ("box", 5, "ab"),
        ("box", 4, "a"),  # "b" can't be paid, and what comes after it is not preferred to it
        ("box", 1, ""),
    ],
)
def test_a_box_budget_ends_before_the_first_image_it_cannot_pay(
    tmp_path: Path, unit: str, amount: int, bought: str
) -> None:
    purchase = Purchase(tmp_path, 0, tuple(Query(i) for i in BOXES), Allowance(unit, amount))
    annotations = {i: annotation(n) for i, n in BOXES.items()}
    oracle = SimulatedOracle(seconds_per_image=2.0, seconds_per_box=7.0)
    assert "".join(q.sample_id for q in oracle.deliver(DATASET, purchase, annotations)) == bought
    written = [json.loads(line)["id"] for line in (purchase.folder / "labels.jsonl").read_text().splitlines()]
    assert "".join(written) == bought
    boxes = sum(BOXES[i] for i in bought)
    cost = json.loads((purchase.folder / "cost.json").read_text())
    assert (cost["images"], cost["boxes"]) == (len(bought), boxes)
    assert cost["hours"] == pytest.approx((2 * len(bought) + 7 * boxes) / 3600)


def street(tmp_path: Path, query: Query, unit: str) -> dict[str, float]:
    dataset = SimpleNamespace(
        classes=("x", "y"), pool_ids=("a",), task="segmentation", has_truth=lambda i: True,
        truth=lambda i: np.zeros((8, 9), np.uint8),
    )  # fmt: skip
    purchase = Purchase(tmp_path, 0, (query,), Allowance(unit, 1))
    purchase.folder.mkdir(parents=True, exist_ok=True)
    SimulatedOracle(seconds_per_pixel=3600.0, seconds_per_map=7200.0).reveal(dataset, purchase)
    return json.loads((purchase.folder / "cost.json").read_text())


def test_a_square_is_named_by_one_click_and_a_pixel_by_one(tmp_path: Path) -> None:
    squares = Candidates.pixels("a", (8, 9), [10, 13, 43], [0.9, 0.8, 0.1], radius_px=1)
    squares.save(tmp_path / "cycle_00" / "candidates.npz")
    touching = Region(np.union1d(squares.region_of(0).pixels, squares.region_of(1).pixels), (8, 9))
    cost = street(tmp_path, Query("a", touching), "region")
    assert (cost["pixels"], cost["clicks"], cost["hours"]) == (18, 2, 2.0)
    (tmp_path / "cycle_00" / "candidates.npz").unlink()  # a list that is replayed: pixels that touch are one question
    assert street(tmp_path, Query("a", touching), "region")["clicks"] == 1
    cost = street(tmp_path, Query("a", Region(np.array([3, 4, 40]), (8, 9))), "pixel")
    assert (cost["pixels"], cost["clicks"], cost["hours"]) == (3, 3, 3.0)
    cost = street(tmp_path, Query("a"), "image")
    assert (cost["images"], cost["pixels"], cost["clicks"]) == (1, 72, 0)


def test_a_whole_map_is_delivered_as_pixels_with_its_mask(tmp_path: Path) -> None:
    truth = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    dataset = SimpleNamespace(classes=("x", "y"), pool_ids=(), task="segmentation", has_truth=lambda i: True)
    dataset.truth = lambda i: truth
    purchase = Purchase(tmp_path, 0, (Query("a/b"),), Allowance("image", 1))
    assert [q.sample_id for q in SimulatedOracle().reveal(dataset, purchase)] == ["a/b"]
    assert read_pixel_labels(tmp_path, "a/b", 1).tolist() == truth.tolist()
    cost = json.loads((purchase.folder / "cost.json").read_text())
    assert (cost["images"], cost["boxes"], cost["pixels"]) == (1, 0, 6)


def test_who_asks_people_knows_the_truth_of_test_images_alone() -> None:
    dataset = SimpleNamespace(test_ids=frozenset("t"), truth=lambda i: f"truth of {i}")
    people = SimpleNamespace()
    assert Oracle.peek(people, dataset, "t") == "truth of t"
    assert Oracle.peek(people, dataset, "a") is None
