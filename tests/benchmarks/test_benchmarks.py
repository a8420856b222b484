"""The benchmarks run and compare like with like; how fast anything is, no test says."""

import pytest

from al_lab.benchmarks import (
    al_ssl,
    average_precision,
    badge,
    density_greedy,
    diversity,
    k_center,
    mgral,
    overheads,
    ripu,
    scoring,
)
from al_lab.benchmarks.feeding import loading, steps
from al_lab.benchmarks.measure import Row, header, line


def test_targets_are_read_both_ways() -> None:
    assert Row("t", "p", 1, 20, 20.0, ">= 15", True).is_met
    assert not Row("t", "p", 1, 20, 20.0, ">= 15", False).is_met  # fast and wrong
    assert not Row("t", "p", 1, 2, 1.2, "<= 1.15").is_met
    assert Row("t", "p", 1, None, 0.3).is_met


@pytest.mark.slow
def test_k_center_picks_what_the_loops_pick() -> None:
    rows = list(k_center.run(sizes=((400, 16, 30),)))
    assert {r.same for r in rows if r.target == ">= 15"} == {True}
    assert len(rows) >= 6
    assert len(line(rows[0])) >= len(header()) - len("  note")


@pytest.mark.slow
def test_ap_equals_its_peers() -> None:
    pytest.importorskip("mmdet")
    rows = list(average_precision.run(voc_images=12, coco_images=12, memory_images=12))
    assert [r.same for r in rows] == [True, True, True, None]
    assert 0.05 < rows[-1].ratio < 2


@pytest.mark.slow
def test_scoring_equals_mmdet() -> None:
    pytest.importorskip("mmdet")
    rows = list(scoring.run(batch=1))
    assert [r.same for r in rows] == [None, True, True]


@pytest.mark.slow
def test_rivals_score_what_the_plain_detector_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mmdet")
    monkeypatch.setattr(overheads, "_CASES", overheads._CASES[2:3])
    rows = list(overheads.run(images=1))
    assert [r.task.split()[3].rstrip(",") for r in rows] == ["pm"]
    assert all(0.5 < r.ratio < 5 and float(r.note.rpartition(" ")[2]) > 10 for r in rows)  # the plain one finds boxes


@pytest.mark.slow
def test_al_ssl_equals_the_loops() -> None:
    pytest.importorskip("mmdet")
    rows = list(al_ssl.run(batch=2))
    assert [r.same for r in rows] == [True, True, True]


@pytest.mark.slow
def test_mgral_equals_the_loops() -> None:
    small = (300, 16, 20, 12)
    assert [r.same for r in mgral.run(True, small, small, (60, 8, 4, 6))] == [True, True, True, None, True, None]


@pytest.mark.slow
def test_density_greedy_equals_the_loop() -> None:
    rows = list(density_greedy.run(sizes=(((40, 64), (40, 64), 30, 10),)))
    assert [(r.same, r.target) for r in rows] == [(True, ""), (True, ">= 5")] * 2
    assert all("same 30 picks as in float64" in r.note for r in rows)


@pytest.mark.slow
def test_badge_draws_what_whole_passes_draw() -> None:
    rows = list(badge.run(size=((40, 64), (40, 64), 90, 10)))
    assert [(r.same, r.target) for r in rows] == [(True, ">= 10"), (True, "")]
    assert ["ours extrapolated" in r.note for r in rows] == [False, True]


@pytest.mark.slow
def test_ripu_equals_the_loop() -> None:
    assert [r.same for r in ripu.run(size_hw=(60, 90), regions={1: 50, 4: 9})] == [True, True]


@pytest.mark.slow
def test_what_is_kept_is_what_is_read_anew_and_steps_end_in_equal_weights() -> None:
    rows = [*loading.ssd_recipe(num=2, repeats=1), *loading.dense_step(repeats=1), *steps.run(steps=1, repeats=1)]
    assert [r.same for r in rows[:5]] == [None, None, None, True, True]
    assert {r.same for r in rows[5:]} == {True}


@pytest.mark.slow
def test_diversity_equals_the_loops() -> None:
    rows = list(diversity.run(True, (200, 5, 30), (30, 5, 4), 8))
    assert [r.same for r in rows] == [True] * 3
