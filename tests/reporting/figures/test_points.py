from pathlib import Path

from al_lab.reporting.figures.points import curves_of_points
from al_lab.reporting.judge.points import read_points

RESULTS = Path(__file__).parents[3] / "results"


def test_lines_of_each_budget_are_drawn_beside_their_own_random_line():
    drawn = curves_of_points(read_points(RESULTS / "camvid_320.csv"), "camvid")
    assert set(drawn) == {"camvid_2_2", "camvid_20_px"}
    named = [text.get_text() for text in drawn["camvid_20_px"].axes[0].get_legend().get_texts()]
    lines = {"density", "full data", "no target label", "random", "ripu"}
    assert {n.rpartition(" (")[0] for n in named} == lines and len(named) == len(lines)
    assert len(drawn["camvid_2_2"].axes) >= 5  # a panel each


def test_a_file_with_one_reference_is_one_figure():
    drawn = curves_of_points(read_points(RESULTS / "voc5_320.csv", "boxes"), "voc5_320")
    assert list(drawn) == ["voc5_320"] and drawn["voc5_320"].axes[0].get_xlabel() == "labeled boxes"
