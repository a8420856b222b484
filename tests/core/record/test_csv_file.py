import csv
import io

import pytest

from al_lab.core.record.csv_file import cell_of, csv_text


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\tx", "'=1", "''+x"])
def test_text_that_a_spreadsheet_would_compute_is_marked_and_read_back(text):
    rows = list(csv.reader(io.StringIO(csv_text([text], [[text]]), newline="")))
    assert all(cell.startswith("'") and cell_of(cell) == text for row in rows for cell in row)


def test_numbers_and_other_text_stay_as_they_are():
    row = [-1, -0.5, "-1e-3", "+7", "it's", "'tis", "a=b", None, float("nan"), float("-inf")]
    assert csv_text(["a"], [row]) == "a\n-1,-0.5,-1e-3,+7,it's,'tis,a=b,,,\n"
    assert [cell_of(c) for c in ("it's", "'tis", "a=b", "")] == ["it's", "'tis", "a=b", ""]
