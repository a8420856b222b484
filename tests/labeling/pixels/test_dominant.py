"""One class a segment."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.files import read_json
from al_lab.core.oracle import SimulatedOracle
from al_lab.core.pool import load_region
from al_lab.core.record.labels import read_pixel_labels
from al_lab.core.record.purchase import Purchase, read_queries, write_queries
from al_lab.core.types import Query, Region
from al_lab.labeling.pixels.dominant import DominantOracle, dominant
from al_lab.labeling.pixels.points import targets_of
from tests.stubs import StubDense

LABEL = np.array([0, 0, 1, 1, 1, 2, 255, 2, 255, 255], np.uint8)
SEGMENT = np.array([0, 0, 0, 1, 1, 1, 1, 2, 3, 3])


def purchase(tmp_path: Path, queries: list[Query], unit: str = "segment") -> Purchase:
    allowance = Allowance(unit, 10**6)
    folder = tmp_path / "cycle_00"
    write_queries(folder, queries, allowance, {})
    return Purchase(tmp_path, 0, read_queries(folder), allowance)


def segments_of(sample_id: str, chosen: list[int]) -> Query:
    return Query(sample_id, Region.of_segments(StubDense().segment_map(sample_id), chosen))


def test_most_of_a_segment_decides_and_void_does_not_vote() -> None:
    assert dominant(LABEL, SEGMENT, 3).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 255, 255]


def test_of_equally_many_the_lower_class_wins() -> None:
    assert dominant(np.array([2, 1], np.uint8), np.array([0, 0]), 3).tolist() == [1, 1]


def test_a_click_a_segment_and_how_wrong_it_is(tmp_path: Path) -> None:
    bought = purchase(tmp_path, [segments_of("frame/0", [3, 7]), segments_of("frame/1", [0])])
    oracle = DominantOracle()
    assert oracle.reveal(StubDense(), bought) == bought.queries
    cost, stats = (read_json(bought.folder / name) for name in ("cost.json", "oracle_stats.json"))
    assert cost["clicks"] == 3 and cost["pixels"] == sum(len(q.region) for q in bought.queries)
    assert cost["hours"] == pytest.approx(3 * oracle.seconds_per_pixel / 3600)
    wrong = np.zeros(3, int)
    for query in bought.queries:
        given = read_pixel_labels(tmp_path, query.sample_id, None).reshape(-1)[query.region.pixels]
        truth = StubDense().truth(query.sample_id).reshape(-1)[query.region.pixels]
        wrong += np.bincount(truth[given != truth], minlength=3)
        assert all(len(np.unique(given[query.region.segments == s])) == 1 for s in np.unique(query.region.segments))
    assert stats["dominant"]["lost"] == wrong.tolist() and stats["dominant"]["wrong"] == wrong.sum() > 0
    assert sum(stats["dominant"]["invented"]) == wrong.sum() and stats["dominant"]["pixels"] == cost["pixels"]


def test_every_pixel_of_a_segment_is_a_share_of_a_label_map(tmp_path: Path) -> None:
    bought = purchase(tmp_path, [segments_of("frame/0", [3, 7])])
    oracle, num = SimulatedOracle(), len(bought.queries[0].region)
    oracle.reveal(StubDense(), bought)
    cost = read_json(bought.folder / "cost.json")
    assert cost["hours"] == pytest.approx(num / (24 * 32) * oracle.seconds_per_map / 3600) and cost["clicks"] == num


def test_single_pixels_have_no_dominant_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected segments, .* got a purchase by pixel"):
        DominantOracle().reveal(
            StubDense(), purchase(tmp_path, [Query("frame/0", Region(np.array([4]), (24, 32)))], "pixel")
        )


def test_a_mask_keeps_its_segments_and_people_are_asked_once_for_each(tmp_path: Path) -> None:
    query = segments_of("frame/1", [0, 9])  # of rectangle 0 and a far one: its middle is in neither
    bought = purchase(tmp_path, [query])
    kept = load_region(next((bought.folder / "masks").iterdir()))
    assert np.array_equal(kept.segments, query.region.segments)
    asked = targets_of(query, None)
    assert len(asked) == 2 == Allowance("segment", 2).cost(query)
    assert all(t.y * 32 + t.x in t.pixels for t in asked)
    assert np.array_equal(np.sort(np.concatenate([t.pixels for t in asked])), query.region.pixels)
