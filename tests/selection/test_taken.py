"""What came back: whose folder it is, and what a comparison of the arms may say."""

import pytest

from al_lab.core.errors import DataError
from al_lab.labeling.store import LabelStore
from al_lab.selection.taken import Taken, sentences, take
from tests.stubs import StubDetection


def said(mine, drawn, tmp_path):
    corrections = {"strategy": mine, "random": drawn}
    return sentences(Taken(9, 9, 9, ["x: wrong"], [], corrections), tmp_path)


def test_arms_are_compared_with_what_chance_does(tmp_path):
    assert "the strategy finds images on which the detector errs" in said([5, 6, 5, 6], [1, 2, 1, 2], tmp_path)[-1]
    assert "random would have been the better choice" in said([1, 2, 1, 2], [5, 6, 5, 6], tmp_path)[-1]
    last = said([1, 9, 2], [2, 3, 8], tmp_path)[-1]
    assert "4.00 of the strategy (3 images), 4.33 at random (3); difference -0.33" in last
    assert last.endswith("which chance alone could explain")
    assert said([2, 2], [2, 2], tmp_path)[-1].endswith("+0.00 to +0.00), which chance alone could explain")
    assert said([1, 2], [3], tmp_path)[-1] == "too few labels to compare: 2 images of the strategy, 1 drawn at random"
    assert said([1, 2], [], tmp_path)[-1] == "not taken over: x: wrong"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "selected.csv: expected the table of a folder that al-lab select wrote, got no such file"),
        ("a,b\n1,2\n", "got another one"),
        ("sample_id,arm,utility\n", "expected at least one image, got none"),
        ("sample_id,arm,utility\nwho,random,\n", "line 2: expected images of the dataset, got 'who'"),
        ("sample_id,arm,utility\nimg/001,other,\n", "line 2, arm: expected strategy or random, got 'other'"),
        ("sample_id,arm,utility\nimg/001,random,high\n", "got another one"),
    ],
)
def test_another_folder_is_refused(table, sentence, tmp_path):
    if table is not None:
        (tmp_path / "selected.csv").write_text(table)
    with pytest.raises(DataError, match=sentence):
        take(tmp_path, StubDetection(), LabelStore(tmp_path / "store"))
