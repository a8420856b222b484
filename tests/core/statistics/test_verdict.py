"""The verdicts against scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats

from al_lab.core.statistics.verdict import ALPHA, Contrast, contrasts, holm


def by_seed(values):
    return dict(enumerate(values))


def test_a_pair_is_a_paired_t_test():
    ours, theirs = np.asarray([0.52, 0.55, 0.49, 0.58]), np.asarray([0.50, 0.51, 0.48, 0.52])
    (found,) = contrasts([by_seed(ours - theirs)])
    reference = stats.ttest_rel(ours, theirs)
    assert found.p == found.p_holm == pytest.approx(reference.pvalue)
    low, high = reference.confidence_interval(1 - ALPHA)
    assert (found.difference - found.half, found.difference + found.half) == (pytest.approx(low), pytest.approx(high))


def test_two_standard_errors_at_three_seeds_are_not_clear():
    (found,) = contrasts([by_seed([0.1, 0.1, 0.39])])
    assert found.difference > 2 * found.standard_error and found.verdict == "no clear difference"


def test_holm_is_holms():
    p = [0.01, 0.04, 0.03, float("nan"), 0.005]
    assert holm(p) == [pytest.approx(v, nan_ok=True) for v in (0.03, 0.06, 0.06, float("nan"), 0.02)]
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = np.random.default_rng(0).uniform(0, 0.1, 12)
    assert holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1])


def test_intervals_leave_out_zero_exactly_where_the_verdict_is_clear():
    rng = np.random.default_rng(2)
    for _ in range(200):
        differences = [by_seed(rng.normal(k / 3, 1, 4)) for k in range(5)]
        for found in contrasts(differences):
            assert (abs(found.difference) > found.half) == found.is_clear


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "no common seed"),
        ([0.3], "one seed: no verdict"),
        ([0.2, 0.2], "seeds don't differ: no verdict"),
        ([1.0, 1.01, 0.99], "clearly better"),
        ([-1.0, -1.01, -0.99], "clearly worse"),
        ([1.0, -1.0, 0.5], "no clear difference"),
    ],
)
def test_words(values, verdict):
    found: Contrast = contrasts([by_seed(values)])[0]
    assert found.verdict == verdict
