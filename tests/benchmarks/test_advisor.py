"""Forecasts beside what came: every point of a file but the first two of a seed, from earlier points only."""

from pathlib import Path

import numpy as np
import pytest

from al_lab.benchmarks.advisor import forecasts, published_table
from al_lab.reporting.judge.curves import Curve

RESULTS = Path(__file__).parents[2] / "results"


def test_a_point_is_foretold_from_those_before_it_alone():
    curves = {
        0: Curve.make([100, 200, 300, 400], [0.3, 0.4, 0.45, 0.2]),
        1: Curve.make([100, 200, 300], [0.3, 0.41, 0.9]),
    }
    made = list(forecasts(curves))
    assert [(f.levels, f.real, f.before) for f in made] == [(2, 0.45, 0.4), (3, 0.2, 0.45), (2, 0.9, 0.41)]
    changed = {0: curves[0], 1: Curve.make([100, 200, 300], [0.3, 0.41, 0.1])}
    assert next(iter(forecasts(changed))).median == made[0].median
    assert made[0].holds(0.8) and not made[2].holds(0.95)
    assert [f.seeds for f in forecasts(curves, alone=True)] == [1, 1, 1]


def test_the_table_of_a_published_file():
    rows = published_table([RESULTS / "voc5_al_ssl.csv", RESULTS / "camvid_320.csv"])  # the second is one training
    assert [r.split(" | ")[0] for r in rows[2:]] == ["| voc5_al_ssl", "| voc5_al_ssl", "| all", "| all"]
    cells = rows[2].strip("| ").split(" | ")
    assert cells[1:5] == ["2", "all", "3", "3 (100 %)"]
    seen = np.asarray([0.3917 - 0.3661, 0.3954 - 0.3717, 0.3804 - 0.3792])  # of labels alone
    assert float(cells[-1]) == pytest.approx(100 * np.abs(seen).mean(), abs=0.005)
