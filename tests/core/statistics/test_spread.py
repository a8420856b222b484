"""What other lines tell of a difference's error: against the linear model, Welch's t, and simulated pages."""

import numpy as np
import pytest
from scipy import stats

from al_lab.benchmarks.verdicts import alarms, judged, pages
from al_lab.core.statistics.spread import _satterthwaite, block_of, usual_freedom


def differences(values_LS):
    return [dict(enumerate(row - values_LS[0])) for row in values_LS[1:]]


def test_a_balanced_page_by_hand():
    values = pages(np.random.default_rng(3), 1, 5, np.ones(5))[0]
    block, others = block_of(differences(values)), values[1:]
    residual = others - others.mean(1, keepdims=True) - others.mean(0) + others.mean()
    assert block.freedom == 12 and block.pooled == pytest.approx((residual**2).sum() / 12)
    assert block.reference_variance == pytest.approx((values[0] - others.mean(0)).var(ddof=1))
    assert (block.reference_freedom, block.shared) == (4, pytest.approx(1 / 4))
    own = (residual**2).sum(1) / (4 * 3 / 4)
    assert block.line_variances == pytest.approx(np.maximum(own, block.pooled))
    assert block.line_freedoms == tuple(12 if v <= block.pooled else 4 for v in own)
    line = int(np.argmin(own))
    assert block.planned(line).deviation ** 2 == pytest.approx(block.reference_variance + 3 / 4 * block.pooled)


def test_what_a_seed_does_to_all_lines_is_no_error():
    values = pages(np.random.default_rng(3), 1, 4, np.ones(6))[0]
    plain, moved = (block_of(differences(v)).planned(2) for v in (values, values + 9 * np.arange(4)))
    assert (moved.deviation, moved.freedom) == (pytest.approx(plain.deviation), pytest.approx(plain.freedom))


def test_lines_with_missing_seeds_are_those_of_the_linear_model():
    ols = pytest.importorskip("statsmodels.formula.api").ols
    frame = pytest.importorskip("pandas").DataFrame
    rng = np.random.default_rng(5)
    cells = [(k, s, rng.normal()) for k in range(4) for s in range(5) if (k, s) not in ((1, 0), (3, 4), (3, 2))]
    block = block_of([{s: v for k, s, v in cells if k == line} for line in range(4)])
    fit = ols("v ~ C(k) + C(s)", frame(cells, columns=["k", "s", "v"])).fit()
    assert (block.freedom, block.pooled) == (fit.df_resid, pytest.approx(fit.mse_resid))
    effects = np.array([0, *fit.params[[f"C(s)[T.{s}]" for s in range(1, 5)]]])
    assert block.reference_variance == pytest.approx(effects.var(ddof=1))
    covariance = np.zeros((5, 5))
    covariance[1:, 1:] = fit.cov_params().loc[
        lambda c: c.index.str.startswith("C(s)"), lambda c: c.columns.str.startswith("C(s)")
    ]
    center = np.eye(5) - 1 / 5
    assert block.shared * block.pooled == pytest.approx(np.trace(center @ covariance @ center) / 4)


def test_the_variance_of_a_difference_is_estimated_without_bias_where_no_line_varies_more():
    """Random three times as much, a seed missing: the parts add up to 9 + 1."""
    made = pages(np.random.default_rng(0), 3000, 4, np.array([3.0, 1, 1, 1, 1]))
    found = []
    for values in made:
        lines = differences(values)
        del lines[0][3]
        block = block_of(lines)
        found.append(block.reference_variance + (1 - block.shared) * block.pooled)
    assert np.mean(found) == pytest.approx(10, rel=0.05)


def test_degrees_of_freedom_are_welchs():
    a, b = np.random.default_rng(1).normal(size=6), 3 * np.random.default_rng(2).normal(size=4)
    reference = stats.ttest_ind(a, b, equal_var=False).df
    assert _satterthwaite(a.var(ddof=1) / 6, 5, b.var(ddof=1) / 4, 3) == pytest.approx(reference)
    assert usual_freedom(9, 2) == pytest.approx(6, abs=0.01)  # a third of what one error for all lines would have


@pytest.mark.parametrize(
    "lines",
    [
        [[0.0, 0, 1], [1.0, 2, 3]],  # two lines differ by one number a seed
        [[0.0], [1.0], [2.0], [3.0]],
        [[1.0, 1, 1]] * 4,
    ],
)
def test_too_little_to_pool(lines):
    assert block_of([dict(enumerate(line)) for line in lines]) is None


def test_three_lines_of_two_seeds_are_enough():
    lines = [[0.0, 1.0], [2.0, 0.5], [1.0, 3.0]]
    assert block_of([dict(enumerate(line)) for line in lines]) is not None


def test_lines_without_a_common_seed_do_not_help_each_other():
    assert block_of([{0: 1.0, 1: 2.0}, {0: 0.0, 1: 4.0}, {2: 1.0, 3: 0.0}]) is None


@pytest.mark.parametrize("random", [1.0, 3.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_page_of_ten_lines_rarely_raises_a_false_alarm(seeds, random):
    """At most 5.5 % of pages, all nine contrasts together, also if random varies three times as much as the others; the
    whole table is made by scripts/verdicts.py --check."""
    assert alarms(250, seeds, np.array([random] + [1.0] * 9)) <= 0.055


def test_other_lines_help_to_see_a_difference():
    made = pages(np.random.default_rng(7), 200, 4, np.ones(10))
    made[:, -1] += 3
    seen = {way: np.mean([judged(values, way)[-1].is_clear for values in made]) for way in ("page", "pairs")}
    assert seen["page"] > 2 * seen["pairs"] > 0
