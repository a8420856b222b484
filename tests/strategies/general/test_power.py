import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.strategy import Strategy, context_for
from al_lab.core.types import Candidates, ImageView
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.power import Power


class Known(Strategy):
    """Utilities that are in the id."""

    def propose(self, view, ctx):
        return Candidates.images([view.sample_id], [float(view.sample_id.split(":")[1])])


def utility(strategy, name, cycle=0, seed=0):
    return float(strategy.propose(ImageView(name), context_for(seed, cycle, name, "image")).utility[0])


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_images_are_drawn_in_proportion_to_the_power_of_their_utility(beta):
    names = ["a:1", "b:2", "c:4"]
    draws = 3000
    best = [np.argmax([utility(Power(Known(), beta), n, seed=s) for n in names]) for s in range(draws)]
    weight = np.array([1.0, 2, 4]) ** beta
    share = np.bincount(best, minlength=3) / draws
    assert np.abs(share - weight / weight.sum()).max() < 4 * np.sqrt(0.25 / draws)


def test_the_noise_falls_from_cycle_to_cycle_and_the_best_remain():
    strategy = Power(Known(), beta=1.0, growth=2.0)
    assert [strategy.beta_in(c) for c in (0, 1, 3)] == pytest.approx([1, 2, 8])
    assert Power(Known(), growth=1.0).beta_in(7) == pytest.approx(1)
    assert utility(strategy, "a:3", cycle=2000) == pytest.approx(np.log(3), abs=1e-9)  # no overflow
    first, second = (utility(Power(Known(), beta=b), "a:1") for b in (1.0, 4.0))
    assert first == pytest.approx(4 * second) and first != 0


def test_utility_zero_comes_last_in_random_order():
    strategy = Power(Known())
    zeros = [utility(strategy, f"{k}:0") for k in range(20)]
    assert max(zeros) < utility(strategy, "a:1e-9") and len(set(zeros)) == 20


def test_what_is_no_weight_is_refused():
    with pytest.raises(
        DataError, match="expected utilities >= 0, to draw in proportion to them, got -1 of sample 'a:-1'"
    ):
        utility(Power(Known()), "a:-1")
    with pytest.raises(ConfigError, match="strategy.of: expected a strategy that buys what it values most"):
        Power(CoreSet())
    with pytest.raises(ConfigError, match="strategy.growth: expected a number >= 1"):
        Power(Known(), growth=0.5)


def test_the_plain_utility_is_kept_and_told():
    strategy, ctx = Power(Known()), context_for(0, 1, "a:3", "image")
    assert strategy.propose(ImageView("a:3"), ctx).info["plain_utility"].tolist() == [3]
    reason = strategy.explain(ImageView("a:3"), ctx, (), 0.0)
    assert reason.parts["plain"] == 3 and reason.words.startswith(
        "drawn in proportion to its utility 3 to the power of 2"
    )
