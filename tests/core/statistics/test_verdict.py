"""The verdicts against scipy (and statsmodels where it is installed), and against simulated pages on which nothing
differs."""

import numpy as np
import pytest
from scipy import stats

from al_lab.core.statistics.verdict import (
    _DRAWS,
    ALPHA,
    Contrast,
    _unequal,
    believed,
    contrasts,
    holm,
    pooled_spread,
)


def by_seed(values):
    return dict(enumerate(values))


def page(rng, lines, seeds, deviation=None):
    """Differences from the first line of a page on which only chance, and the seed, does anything."""
    values = rng.normal(size=(lines, seeds)) * (np.ones(lines) if deviation is None else deviation)[:, None]
    values += 3 * rng.normal(size=seeds)
    return [by_seed(row - values[0]) for row in values]


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


def test_the_pooled_error_is_that_of_two_way_analysis_of_variance():
    values = np.random.default_rng(3).normal(size=(4, 5)) + np.arange(5)
    spread = pooled_spread([by_seed(row) for row in values])
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    assert spread.freedom == 12
    assert spread.deviation == pytest.approx(np.sqrt(2 * (residual**2).sum() / 12))
    # what all lines of a seed have in common is no error, so differences from one line serve as well
    assert pooled_spread([by_seed(row - values[0]) for row in values]).deviation == pytest.approx(spread.deviation)


def test_the_pooled_error_of_lines_with_missing_seeds_is_that_of_the_linear_model():
    ols = pytest.importorskip("statsmodels.formula.api").ols
    frame = pytest.importorskip("pandas").DataFrame
    rng = np.random.default_rng(5)
    cells = [(k, s, rng.normal()) for k in range(4) for s in range(5) if (k, s) not in ((1, 0), (3, 4), (3, 2))]
    lines = [{s: v for k, s, v in cells if k == line} for line in range(4)]
    fit = ols("v ~ C(k) + C(s)", frame(cells, columns=["k", "s", "v"])).fit()
    spread = pooled_spread(lines)
    assert (spread.freedom, spread.deviation) == (fit.df_resid, pytest.approx(np.sqrt(2 * fit.mse_resid)))


def test_lines_that_vary_unlike_are_judged_by_their_own_seeds():
    rng = np.random.default_rng(4)
    alike, unlike = (pooled_spread(page(rng, 6, 8, np.asarray([1, 1, 1, 1, 1, last]))) for last in (1.0, 20.0))
    assert believed(alike) is alike and believed(unlike) is None
    assert unlike.equal_p < 0.01
    plainly = pooled_spread(page(rng, 6, 8, np.asarray([1, 1, 1, 1, 1, 1e6])))
    assert plainly.equal_p == 1 / (1 + _DRAWS)  # no draw was as unlike


def test_the_test_for_equal_variances_is_right_about_chance():
    rng = np.random.default_rng(1)
    p = [pooled_spread(page(rng, 5, 3)).equal_p for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_unlikeness_is_bartletts_without_its_constant_factor():
    groups = [np.random.default_rng(n).normal(size=n) * n for n in (3, 4, 6)]
    cells = tuple((k, s) for k, group in enumerate(groups) for s in range(len(group)))
    freedom = np.array([len(g) - 1 for g in groups])
    factor = 1 + (np.sum(1 / freedom) - 1 / freedom.sum()) / (3 * (len(groups) - 1))
    residuals = np.concatenate([g - g.mean() for g in groups])
    assert _unequal(cells, residuals[None])[0] == pytest.approx(factor * stats.bartlett(*groups).statistic)


def test_few_lines_have_no_pooled_error():
    assert pooled_spread([by_seed([0.0, 0, 0]), by_seed([1.0, 2, 3])]) is None
    assert pooled_spread([by_seed([0.0]), by_seed([1.0]), by_seed([2.0])]) is None


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


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_page_of_ten_lines_rarely_raises_a_false_alarm(seeds):
    """At most 5.5 % of pages, all nine contrasts together; the full table is made by scripts/verdicts.py --check."""
    rng, alarms, pages = np.random.default_rng(seeds), 0, 600
    for _ in range(pages):
        differences = page(rng, 10, seeds)
        spread = believed(pooled_spread(differences))
        alarms += any(c.is_clear for c in contrasts(differences[1:], [spread] * 9))
    assert alarms / pages <= 0.055
