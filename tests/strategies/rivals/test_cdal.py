"""CDAL: rewards and losses of the fact sheet, and what both pickers choose."""

import numpy as np
import pytest
import torch

from al_lab.acquisition.diversity.mixture_greedy import MixtureDistances
from al_lab.acquisition.diversity.mixtures import mixture
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError, DataError
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, ImageView, Query
from al_lab.strategies.rivals._contextual_policy import learn_picks, policy_loss, reward
from al_lab.strategies.rivals.cdal import Cdal

A = mixture(torch.tensor([[0.8, 0.1, 0.1], [0.5, 0.3, 0.2]], dtype=torch.float64)).numpy()
B = mixture(torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.6, 0.2]], dtype=torch.float64)).numpy()
C = np.array([0.34, 0.33, 0.33])
IDS = tuple(f"{k:02d}" for k in range(12))


def test_rewards_are_the_sheets():
    m = np.stack([A, B, C])
    got = reward(MixtureDistances(m), m, np.array([0, 1]))
    assert got == pytest.approx((0.280566, 0.999232), abs=1e-6)
    assert got.value == pytest.approx(0.920465, abs=1e-6)


def test_the_loss_is_the_sheets():
    wish = torch.tensor([0.8, 0.3, 0.6], dtype=torch.float64)
    action = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    assert torch.distributions.Bernoulli(wish).log_prob(action).mean() == pytest.approx(-0.498703, abs=1e-6)
    assert policy_loss(wish, action, 0.920465) == pytest.approx(0.459083, abs=1e-6)


def mixtures(num=12, shape=(4,)):
    return np.random.default_rng(0).dirichlet(np.full(shape[-1], 0.4), (num, *shape[:-1])).astype(np.float32)


def choose(strategy, m, amount=3, ids=IDS, labeled=IDS[:2], seed=0):
    pool = Pool(tuple(ids)).acquire([Query(i) for i in labeled], -1)
    of = dict(zip(IDS, m, strict=True))
    parts = [
        strategy.propose(ImageView(i, extras={"prior_mixture": of[i]}), context_for(seed, 0, i, "image")) for i in ids
    ]
    return strategy.select(Candidates.concat(parts), pool, Allowance("image", amount), rng_for(seed, 0, "select"))


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_greedy_buys_what_is_farthest_from_labeled_ones_and_from_its_own_picks(shape):
    m = mixtures(shape=shape)
    chosen = choose(Cdal(by_class=len(shape) == 2), m)
    J = MixtureDistances(m).to(range(12))
    centers = [0, 1]
    for query in chosen:
        far = J[:, centers].min(1)
        far[centers] = -1
        assert query.sample_id == IDS[far.argmax()] and query.utility == pytest.approx(far.max())
        centers.append(int(far.argmax()))
    assert choose(Cdal(), m, ids=IDS[::-1]) == choose(Cdal(), m)


def test_nothing_labeled_is_no_obstacle():
    first, *_ = choose(Cdal(), mixtures(), labeled=())
    assert np.isfinite(first.utility)
    assert "nothing is labeled" in Cdal().explain(None, None, (), first.utility).words


def test_the_policy_buys_its_best_rewarded_picks():
    m = mixtures(30)
    flat, of_epoch = m.astype(np.float64), []
    for epochs in (1, 4):
        picks, wish = learn_picks(m, 5, epochs, rng_for(0, 0, "select"))
        assert len(set(picks.tolist())) == 5 and (np.diff(wish) <= 0).all()
        of_epoch.append(reward(MixtureDistances(flat), flat, picks).value)
    assert of_epoch[1] >= of_epoch[0]
    bought = choose(Cdal("rl", epochs=2), mixtures())
    assert bought == choose(Cdal("rl", epochs=2), mixtures()) != choose(Cdal("rl", epochs=2), mixtures(), seed=1)
    assert len(choose(Cdal("rl", epochs=1), mixtures(), amount=99)) == 10


def test_what_says_nothing_is_refused():
    class OneClass:
        name, classes = "one", ("thing",)

    with pytest.raises(ConfigError, match="two classes"):
        Cdal().check_dataset(OneClass)
    with pytest.raises(ConfigError, match=r"strategy\.picker"):
        Cdal("best")
    broken = mixtures()
    broken[5] = np.nan
    with pytest.raises(DataError, match="first of sample '05'"):
        choose(Cdal(), broken)
    with pytest.raises(TypeError, match="prior_mixture"):
        Cdal().propose(ImageView("a"), context_for(0, 0, "a", "image"))
