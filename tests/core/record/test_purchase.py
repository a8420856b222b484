"""Queries of pixels are written with their masks, and come back only as they were."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.core.budget import Budget
from al_lab.core.errors import ResumeError
from al_lab.core.record.purchase import read_queries, write_queries
from al_lab.core.types import Query, Region

QUERIES = (Query("a/1", Region(np.array([0, 5, 6]), (3, 4)), 0.75), Query("b", None, 0.5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    allowance = Budget(unit="pixel", initial=0, per_cycle=40, cycles=2).allowance(0, 10)
    write_queries(tmp_path, QUERIES, allowance, {"a/1": "images/a/1.png"})
    return tmp_path


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
