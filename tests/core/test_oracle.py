"""The oracle's account: what is delivered, and what it costs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.oracle import SimulatedOracle
from al_lab.core.record.purchase import Purchase
from al_lab.core.types import Annotation, Query

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
