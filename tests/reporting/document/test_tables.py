import csv
import math

from al_lab.reporting.document.tables import Table

TABLE = Table(
    "t", "5 % of A_B", ["name", "n", "x"], [["a&b, $c", 1234, 1 / 3], ["d", None, math.nan], ["e", 2, -0.5]], digits=2
)


def test_csv_keeps_every_digit_and_leaves_gaps_empty():
    assert list(csv.reader(TABLE.to_csv().splitlines())) == [
        ["name", "n", "x"],
        ["a&b, $c", "1234", str(1 / 3)],
        ["d", "", ""],
        ["e", "2", "-0.5"],
    ]


def test_latex_is_escaped():
    text = TABLE.to_latex()
    assert r"\caption{5 \% of A\_B}" in text
    assert r"a\&b, \$c & 1,234 & 0.33 \\" in text
    assert r"d & -- & -- \\" in text
    assert r"e & 2 & $-$0.50 \\" in text
    assert r"\begin{tabular}{lrr}" in text


def test_there_is_no_minus_zero():
    assert Table("t", "", ["x"], [[-0.001], [-0.01]], digits=2).texts() == [["0.00"], ["−0.01"]]
