from pathlib import Path

import pytest

from al_lab.core.errors import DataError
from al_lab.reporting.judge.points import read_judge

RESULTS = Path(__file__).parents[3] / "results"


def verdicts(judge):
    return {(p.ours, p.theirs): p.contrast.verdict for p in judge.planned}


def test_a_file_of_points_is_judged_as_a_page_is():
    judge = read_judge(RESULTS / "voc5_320.csv")
    assert set(verdicts(judge)) == {("core_set", "random"), ("entropy", "random")}
    assert set(verdicts(judge).values()) == {"no clear difference"}
    assert not judge.by_last
    assert judge.against("core_set", "random").difference == pytest.approx(-0.030, abs=0.0005)
    assert 100 * judge.resolution.visible() == pytest.approx(4.7, abs=0.05)


def test_lines_are_measured_against_random_of_their_own_budget_by_their_last_points():
    judge = read_judge(RESULTS / "camvid_320.csv")
    assert judge.by_last
    assert {ours.split(", ")[1] == theirs.split(", ")[1] for ours, theirs in verdicts(judge)} == {True}
    assert {ours for (ours, _), v in verdicts(judge).items() if v != "no clear difference"} == {"entropy, 2.2 %"}


def test_another_reference_is_named_in_the_file():
    judge = read_judge(RESULTS / "voc5_al_ssl.csv")
    assert {theirs for _, theirs in verdicts(judge)} == {"random, labels alone"}
    assert verdicts(judge)["unified + isd", "random, labels alone"] == "one seed: no verdict"


def test_boxes_in_place_of_images():
    assert read_judge(RESULTS / "voc5_320.csv", "boxes").difference("core_set", "random") != {}
    with pytest.raises(DataError, match="pixels"):
        read_judge(RESULTS / "voc5_320.csv", "pixels")
