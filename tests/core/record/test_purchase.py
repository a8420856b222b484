"""Queries of pixels are written with their masks, and come back only as they were."""

import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.budget import Budget
from al_lab.core.errors import ResumeError
from al_lab.core.pool import INITIAL, purchase_dir
from al_lab.core.record.purchase import publish_selections, read_queries, write_queries
from al_lab.core.types import Query, Region

QUERIES = (Query("a/1", Region(np.array([0, 5, 6]), (3, 4)), 0.75), Query("b", None, 0.5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    allowance = Budget(unit="pixel", initial=0, per_cycle=40, cycles=2).allowance(0, 10)
    write_queries(tmp_path, QUERIES, allowance, {"a/1": "images/a/1.png"})
    return tmp_path


def test_what_was_asked_for_is_published_in_order(tmp_path: Path) -> None:
    allowance = Budget(unit="pixel", initial=0, per_cycle=40, cycles=2).allowance(0, 10)
    for cycle, queries in ((INITIAL, QUERIES[1:]), (1, QUERIES)):
        folder = purchase_dir(tmp_path, cycle)
        write_queries(folder, queries, allowance, {q.sample_id: "/home/me/x.png" for q in queries})
    publish_selections(tmp_path, range(2))
    found = json.loads((tmp_path / "selections.json").read_text())["purchases"]
    assert [(p["cycle"], [q["id"] for q in p["queries"]]) for p in found] == [(INITIAL, ["b"]), (1, ["a/1", "b"])]
    assert found[1]["queries"][0]["mask"].startswith("cycle_01/masks/")
    assert "/home/me" not in (tmp_path / "selections.json").read_text()


def test_queries_survive_their_file(folder: Path) -> None:
    one, two = read_queries(folder)
    assert (one.sample_id, one.utility, one.region.pixels.tolist(), one.region.size_hw) == (
        "a/1",
        0.75,
        [0, 5, 6],
        (3, 4),
    )
    assert two == Query("b", None, 0.5)


@pytest.mark.parametrize("damage", ["lost", "cut", "another"])
def test_a_mask_that_is_not_what_was_written_is_named(folder: Path, damage: str) -> None:
    (mask,) = (folder / "masks").iterdir()
    if damage == "lost":
        mask.unlink()
    else:
        mask.write_bytes(mask.read_bytes()[:-9] if damage == "cut" else b"x")
    with pytest.raises(ResumeError, match=r"masks.*expected the mask of 'a/1' as it was written, got another or none"):
        read_queries(folder)
