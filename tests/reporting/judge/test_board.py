"""A leaderboard of files of points: places, verdicts of the whole board, labels saved, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.core.statistics.verdict import holm
from al_lab.reporting.judge.board import Board
from al_lab.reporting.judge.curves import area_under_curve
from al_lab.reporting.judge.entries import contests_of_table, metric_of
from al_lab.reporting.judge.judge import Pair
from al_lab.reporting.judge.points import read_table

RESULTS = Path(__file__).parents[3] / "results"
HEAD = "strategy,seed,cycle,images,boxes,voc_area_ap50"


def contests(*paths, metric=None, column=None, level=None, common=False, notes=None):
    tables = [read_table(p) for p in paths]
    wanted = metric_of(tables, metric)
    note = (notes if notes is not None else []).append
    return [
        c for t in tables for c in contests_of_table(t, wanted, column, level, common, lambda s: s == "changed", note)
    ]


def rows(strategy, heights, seeds=(0, 1, 2), spent=(100, 200, 300)):
    rng = np.random.default_rng(len(strategy))
    return [
        f"{strategy},{s},{c},{n},{3 * n + s},{h + 0.002 * rng.normal():.4f}"
        for s in seeds
        for c, (n, h) in enumerate(zip(spent, heights, strict=True))
    ]


def write(path, *lines, head=HEAD):
    path.write_text("\n".join(["# made by hand", head, *(row for line in lines for row in line)]) + "\n")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "a.csv", rows("random", (0.3, 0.4, 0.45)), rows("entropy", (0.3, 0.45, 0.5)))


def test_areas_by_every_count_places_and_what_is_saved(file):
    (contest,) = contests(file)
    assert (contest.name, contest.units, contest.metric) == ("a", ("images", "boxes"), "voc_area_ap50")
    by_hand = [[area_under_curve(c) for c in e.curves["images"].values()] for e in contest.entries]
    assert contest.values("images") == pytest.approx(np.asarray(by_hand))
    assert [r.place for r in contest.ranks("boxes").of_line] == [2, 1]
    random, entropy = contest.entries
    assert contest.reference is random and contest.goal == pytest.approx(0.45, abs=0.003)
    saving = contest.saving(entropy)
    assert saving.needed == pytest.approx(200, abs=6) and saving.saved == pytest.approx(1 / 3, abs=0.03)
    assert saving.low <= saving.saved <= saving.high
    assert contests(file, level=0.99)[0].saving(entropy).needed != contests(file, level=0.99)[0].saving(entropy).needed
    assert contests(file, column="boxes")[0].units == ("boxes", "images")


def test_the_whole_board_is_one_family():
    made = contests(RESULTS / "shapes_mgral.csv", RESULTS / "voc5_320.csv")
    board = Board(tuple(made))
    alone = [d.pair.contrast.p for d in board.planned]
    assert [d.pair.contrast.p_holm for d in board.planned] == pytest.approx(holm(alone))
    assert [d.pair.contrast.p for d in board.planned] == pytest.approx(
        [p.contrast.p for c in made for p in c.judge.planned]
    )
    assert len(board.explored) == 10 + 1 and all(isinstance(d.pair, Pair) for d in board.explored)


def test_wins_are_counted_over_data_sets_from_both_sides():
    board = Board(tuple(contests(RESULTS / "shapes_mgral.csv", RESULTS / "voc5_320.csv")))
    assert board.score("core_set", "random") == (1, 0, 2) and board.score("random", "core_set") == (0, 1, 2)
    overall = {o.label: o for o in board.overall}
    assert (overall["entropy"].contests, overall["mgral"].contests) == (2, 1)
    clear = [d.pair.contrast.difference > 0 for d in board.planned if d.pair.contrast.is_clear]
    assert (overall["random"].losses, overall["random"].wins) == (clear.count(True), clear.count(False))
    assert [o.beaten for o in board.overall] == sorted((o.beaten for o in board.overall), reverse=True)


def test_budgets_in_a_column_are_data_sets_and_levels_are_no_lines():
    notes = []
    made = contests(RESULTS / "camvid_320.csv", notes=notes)
    assert [c.name for c in made] == ["camvid_320, 2.2 %", "camvid_320, 20 px"] and all(c.by_last for c in made)
    assert notes == ["camvid_320, full: one line has no rival; it is left out."]
    assert made[0].goal is None and made[0].saving(made[0].entries[0]) is None
    assert {e.label for e in contests(RESULTS / "voc5_320.csv")[0].entries} == {"core_set", "entropy", "random"}


def test_minutes_of_acquisition_and_marks(tmp_path):
    text = "\n".join(
        ["strategy,seed,cycle,images,ap,minutes"]
        + [
            f"{name},{s},{c},{100 + c},0.{4 + s},{m}"
            for name, m in (("changed", 2.5), ("random", ""))
            for s in (0, 1)
            for c in (0, 1)
        ]
    )
    path = tmp_path / "m.csv"
    path.write_text(text)
    changed, random = contests(path)[0].entries
    assert changed.minutes == 5 and np.isnan(random.minutes)
    assert (changed.is_changed, random.is_changed) == (True, False)


def test_lines_are_cut_to_what_all_have_if_asked(tmp_path):
    path = write(
        tmp_path / "b.csv",
        rows("random", (0.3, 0.4, 0.45), seeds=(0, 1, 2, 3)),
        rows("entropy", (0.3, 0.45, 0.5), seeds=(1, 2, 3, 4)),
        rows("margin", (0.3, 0.45), seeds=(1, 2, 3), spent=(100, 200)),
        rows("pal", (0.3, 0.45, 0.5), seeds=(1,)),
    )
    notes = []
    (contest,) = contests(path, common=True, notes=notes)
    assert [e.label for e in contest.entries] == ["random", "entropy", "margin"]
    assert {e.seeds for e in contest.entries} == {(1, 2, 3)}
    assert {len(c) for e in contest.entries for u in e.curves.values() for c in u.values()} == {2}
    assert [n.split(": ")[1].split(",")[0] for n in notes] == ["pal left out", "seeds 1", "the first 2 points"]


R = rows("random", (0.3, 0.4, 0.45))


A = rows("a", (0.3, 0.4, 0.5))


def of_a(heights=(0.3, 0.4, 0.5), **options):
    return rows("a", heights, **options)


@pytest.mark.parametrize(
    ("lines", "head", "words"),
    [
        ([R, A], HEAD.replace("seed", "run"), "expected columns seed, cycle and one of images"),
        ([R, A], HEAD.replace("images,boxes", "x,y"), "expected columns seed, cycle and one of images"),
        ([["random,0,0,100,300,"]], HEAD, "expected a column of a metric's numbers after cycle"),
        ([R, ["a,0,0,100,many,0.4"]], HEAD, "expected a number as boxes, got 'many'.*correct row 10"),
        ([R, ["a,0,0,100,300,41.5"]], HEAD, "expected voc_area_ap50 as a fraction between 0 and 1, got 41.5; divide"),
        ([R], HEAD, "expected two lines or more, got random"),
        ([R, of_a(seeds=(0,))], HEAD, r"expected two seeds or more of every line, got one seed \(0\) of a"),
        ([R, of_a(seeds=(0, 1))], HEAD, "expected the same seeds of every line, got random with 0, 1, 2, a with 0, 1"),
        ([R, of_a(spent=(100, 250, 400))], HEAD, "same budget .*, got random 100/200/300 and a 100/250/400 images"),
        ([R, of_a((0.3, 0.4), spent=(100, 200))], HEAD, "expected the same budget of every line.*--common compares"),
        ([R, A, ["a,0,0,100,300,0.4"]], HEAD, "one row for each line, seed and cycle, got two of a, seed 0, cycle 0"),
    ],
)
def test_what_cant_be_compared_is_a_sentence(tmp_path, lines, head, words):
    with pytest.raises(DataError, match=words):
        contests(write(tmp_path / "c.csv", *lines, head=head))


def test_too_few_common_seeds_and_budgets_that_stay_different(tmp_path):
    few = write(tmp_path / "f.csv", R, rows("a", (0.3, 0.4, 0.5), seeds=(2, 3)))
    with pytest.raises(DataError, match="two seeds or more that all lines share"):
        contests(few, common=True)
    other = write(tmp_path / "o.csv", R, rows("a", (0.3, 0.4, 0.5), spent=(100, 250, 400)))
    with pytest.raises(DataError, match="one leaderboard for each budget$"):
        contests(other, common=True)


def test_mixed_metrics_are_a_sentence(tmp_path, file):
    other = write(tmp_path / "d.csv", R, rows("a", (0.3, 0.4, 0.5)), head=HEAD.replace("voc_area_ap50", "miou"))
    with pytest.raises(DataError, match=r"expected the metric voc_area_ap50, as in a.csv, got miou"):
        contests(file, other)
    with pytest.raises(DataError, match="expected the metric coco_ap, got voc_area_ap50"):
        contests(file, metric="coco_ap")
    assert contests(RESULTS / "voc5_320.csv", metric="voc07_ap50")[0].metric == "voc07_ap50"
