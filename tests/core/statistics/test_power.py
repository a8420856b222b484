import numpy as np
import pytest
from scipy import stats

from al_lab.core.statistics.power import chance_to_see, seeds_to_see, smallest_visible
from al_lab.core.statistics.verdict import ALPHA


def test_power_is_that_of_the_noncentral_t():
    deviation, seeds, freedom, family = 1.3, 5, 16, 4
    bound = stats.t.ppf(1 - ALPHA / (2 * family), freedom)
    away = 2.0 * np.sqrt(seeds) / deviation
    chance = stats.nct.sf(bound, freedom, away) + stats.nct.cdf(-bound, freedom, away)
    assert chance_to_see(2.0, deviation, seeds, freedom, family) == pytest.approx(chance)
    visible = smallest_visible(deviation, seeds, freedom, family)
    assert chance_to_see(visible, deviation, seeds, freedom, family) == pytest.approx(0.8, abs=1e-6)
    power = pytest.importorskip("statsmodels.stats.power")
    assert chance_to_see(2.0, 1.3, 6, 5) == pytest.approx(power.TTestPower().power(2.0 / 1.3, 6, ALPHA), abs=1e-9)


@pytest.mark.parametrize(
    ("deviation", "seeds", "freedom", "is_known"),
    [(1.0, 2, 1, True), (1.0, 1, 1, False), (1.0, 2, 0, False), (0.0, 2, 1, False), (np.nan, 2, 1, False)],
)
def test_no_power_without_an_error(deviation, seeds, freedom, is_known):
    assert np.isfinite(chance_to_see(1.0, deviation, seeds, freedom)) == is_known
    assert np.isfinite(smallest_visible(deviation, seeds, freedom)) == is_known


def test_so_many_seeds_are_needed_that_one_less_sees_it_too_rarely():
    needed = seeds_to_see(1.0, 1.5, 1, family=3)
    chances = [chance_to_see(1.0, 1.5, n, n - 1, 3) for n in (needed - 1, needed)]
    assert chances[0] < 0.8 <= chances[1]
    assert seeds_to_see(0.01, 1.5, 1) is None and seeds_to_see(1.0, 0.0, 1) is None
    assert seeds_to_see(1.0, 1.5, 4) < seeds_to_see(1.0, 1.5, 1)
