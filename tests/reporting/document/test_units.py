import pytest

from al_lab.reporting.document.tables import duration, unit_of


@pytest.mark.parametrize(
    ("seconds", "unit"), [([5.0, 100], "seconds"), ([5.0, 150], "minutes"), ([9000.0], "hours"), ([], "seconds")]
)
def test_the_longest_decides_the_unit(seconds, unit):
    assert unit_of(seconds)[0] == unit


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
