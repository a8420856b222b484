"""The agent learns: fact sheet vector TV11, tests 3, 4 and 6 of §8, and a toy problem with a known best batch."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from al_lab.core.errors import ConfigError, DivergedError
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.agent import Agent
from al_lab.strategies.detection._mgral.learning.policy import draw
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.table import Table, TableSettings
from al_lab.strategies.detection._mgral.reinforce import Reinforce, update_reference

REWARDS = (60, 61, 59, 62, 62)
TV11 = {
    ("ema", 0.5): [(2, 59), (2, 60), (-1, 59.5), (2.5, 60.75), (1.25, 61.375)],
    ("ema", 0.9): [(2, 58.2), (2.8, 58.48), (0.52, 58.532), (3.468, 58.8788), (3.1212, 59.19092)],
    ("literal", 0.5): [(2, 30), (31, 30.5), (28.5, 29.5), (32.5, 31), (31, 31)],
    ("literal", 0.9): [(2, 52.4), (8.6, 48.02), (10.98, 44.316), (17.684, 41.6528), (20.3472, 39.52224)],
}


class Logits(nn.Module):
    """A policy without an agent: one free score an image."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scores


def loop(num: int = 20, budget: int = 4, start: float | None = 58.0, **settings) -> Reinforce:
    return Reinforce(Logits(num), torch.zeros(num, 1), budget, ReinforceSettings(**settings), Rng(0), start)


@pytest.mark.parametrize(("kind", "decay"), TV11)
def test_tv11(kind, decay):
    rewards = iter(REWARDS)
    training = loop(iterations=5, reference=kind, decay=decay)
    training.run(lambda batch: float(next(rewards)))
    after = [record.reference for record in training.curves[1:]] + [training.reference]
    found = [(record.advantage, reference) for record, reference in zip(training.curves, after, strict=True)]
    np.testing.assert_allclose(found, TV11[kind, decay], atol=1e-6)


def test_tv11_literal_tends_to_half():
    reference = 58.0
    for _ in range(200):
        reference = update_reference(reference, 60, 0.9, "literal")
    assert reference == pytest.approx(30)


def test_the_overlap_of_two_queries_is_jaccards() -> None:
    training = loop(iterations=2)
    training.agent.scores.data = torch.arange(20.0)
    training.settings = ReinforceSettings(iterations=2, lr=1e-12)
    training.run(lambda batch: 60.0)
    assert [record.overlap for record in training.curves] == [1.0, 1.0]
    training = loop(iterations=3)
    training.agent.scores.data = torch.arange(20.0)
    training._best = np.array([0, 1, 18, 19])
    assert training.step(lambda batch: 60.0).overlap == pytest.approx(2 / 6)


def test_a_draw_of_one_image_is_its_log_probability() -> None:
    scores = torch.tensor([0.3, 1.0, -2.0])
    found = draw("pl", scores, 1, np.random.default_rng(0))
    assert float(found.log_prob) == pytest.approx(float(scores.log_softmax(0)[found.batch[0]]))


@pytest.mark.parametrize(("kind", "is_invariant"), [("ema", True), ("literal", False)])
def test_adding_a_constant_to_every_reward(kind, is_invariant):
    advantages = []
    for constant in (0.0, 7.0):
        reference, found = 58.0 + constant, []
        for reward in REWARDS:
            found.append(reward + constant - reference)
            reference = update_reference(reference, reward + constant, 0.5, kind)
        advantages.append(found)
    assert np.allclose(*advantages) == is_invariant


def test_without_a_reference_the_first_reward_is_it():
    training = loop(iterations=2, start=None)
    training.run(lambda batch: 61.0)
    assert [r.advantage for r in training.curves] == [0, 0]
    assert training.reference == 61


def hits(batch: np.ndarray) -> float:
    return float((batch < 15).sum())


@pytest.mark.slow
def test_bandit_of_the_fact_sheet():
    means = []
    for seed in range(3):
        training = Reinforce(
            Logits(50), torch.zeros(50, 1), 10, ReinforceSettings(iterations=600, lr=0.05), Rng(seed), 3.0
        )
        training.run(hits)
        rewards = [record.reward for record in training.curves]
        means.append((np.mean(rewards[250:300]), np.mean(rewards[550:600])))
        assert hits(training.query()) == 10
    assert np.mean(means, 0)[0] >= 8.0
    assert np.mean(means, 0)[1] >= 9.2


def test_more_draws_learn_faster():
    reached = []
    for samples in (1, 4):
        training = Reinforce(
            Logits(50),
            torch.zeros(50, 1),
            10,
            ReinforceSettings(iterations=120, lr=0.05, num_samples=samples),
            Rng(0),
            3.0,
        )
        training.run(hits)
        reached.append(np.mean([record.reward for record in training.curves[-30:]]))
    assert reached[1] > reached[0] + 0.5


def worth(features: np.ndarray) -> np.ndarray:
    """Each image's share of the reward: along one direction, the rest of the features says nothing."""
    return features @ np.array([1.0, -1.0, 0, 0, 0, 0]) / 2**0.5


@pytest.mark.parametrize(("policy", "iterations", "lr"), [("pl", 200, 0.01), ("cond_bernoulli", 300, 0.003)])
def test_the_agent_finds_the_best_batch(policy, iterations, lr):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    value = worth(x)
    best = np.sort(value)[-8:].mean()
    agent = Agent(6, Rng(0), hidden=24)
    training = Reinforce(
        agent, torch.from_numpy(x), 8, ReinforceSettings(iterations=iterations, lr=lr, policy=policy), Rng(0), 0.0
    )
    before = value[training.query()].mean()
    training.run(lambda batch: float(value[batch].mean()))
    assert before < 0.5 * best
    assert value[training.query()].mean() >= 0.9 * best
    assert training.curves[-1].entropy < training.curves[0].entropy


def test_the_agent_finds_better_batches_than_the_table_holds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    value = worth(x)
    batches = np.stack([rng.choice(80, 10, replace=False) for _ in range(60)])
    table = Table(x, batches, 50 + 10 * value[batches].mean(1), TableSettings(weight_power=4), Rng(0))
    training = Reinforce(
        Agent(6, Rng(0), hidden=24), torch.from_numpy(x), 10, ReinforceSettings(iterations=200, lr=0.01), Rng(0), 50.0
    )
    training.run(table)
    record = training.curves[-1]
    assert record.neighbors > 0
    assert record.distance_min <= record.distance_mean
    assert value[training.query()].mean() > value[batches].mean(1).max()


def agent_loop(iterations: int, **settings) -> Reinforce:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32))
    return Reinforce(
        Agent(6, Rng(0)), x, 5, ReinforceSettings(iterations=iterations, lr=0.01, **settings), Rng(3), 50.0
    )


@pytest.mark.parametrize("reshuffle", [False, True])
def test_cut_and_resumed_is_as_uninterrupted(reshuffle):
    def estimate(batch):
        return None if batch[0] % 3 == 0 else float(batch.sum())

    def train(batch):
        return float(batch.max())

    def estimator(training):
        return lambda batch: estimate(batch) if len(training.fall_backs) < 50 else float(batch.sum())

    whole, first, second = (agent_loop(12, reshuffle=reshuffle, max_fall_backs=50) for _ in range(3))
    whole.run(estimator(whole), train)
    for _ in range(5):
        first.step(estimator(first), train)
    stream = io.BytesIO()
    torch.save(first.state_dict(), stream)
    stream.seek(0)
    second.load_state_dict(torch.load(stream, weights_only=True))
    second.run(estimator(second), train)
    assert second.curves == whole.curves
    assert second.fall_backs == whole.fall_backs
    assert len(whole.fall_backs) > 0
    assert second.query().tolist() == whole.query().tolist()
    for a, b in zip(whole.agent.parameters(), second.agent.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_iteration_that_fails_leaves_the_state_alone():
    training = agent_loop(3)
    before = [p.clone() for p in training.agent.parameters()]
    with pytest.raises(KeyboardInterrupt):
        training.step(lambda batch: None, lambda batch: (_ for _ in ()).throw(KeyboardInterrupt))
    assert training.iteration == 0 and not training.curves and not training.fall_backs
    assert all(torch.equal(a, b) for a, b in zip(before, training.agent.parameters(), strict=True))


def test_fall_backs_are_counted_and_limited():
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    # one record: nothing is ever below its own mean
    table = Table(x, np.array([[0, 1, 2, 3]]), np.array([40.0]), TableSettings(), Rng(0))
    training = loop(iterations=4, max_fall_backs=2)
    trained = []

    def train(batch):
        trained.append(batch.tolist())
        return 70.0

    training.run(table, train)
    assert [r.fall_backs for r in training.curves] == [1, 2, 2, 2]
    assert [r.reward for r in training.curves] == [70, 70, 40, 40]
    assert [r.nearest_instead for r in training.curves] == [0, 0, 1, 1]
    assert [list(f.batch) for f in training.fall_backs] == trained


def test_fall_backs_may_be_spread_over_the_iterations():
    spread = ReinforceSettings(iterations=100, max_fall_backs=5, fall_backs="spread")
    assert [spread.allowed(i) for i in (0, 19, 20, 39, 40, 79, 80, 99, 250)] == [1, 1, 2, 2, 3, 4, 5, 5, 5]
    assert ReinforceSettings(iterations=100, max_fall_backs=5).allowed(0) == 5
    assert ReinforceSettings(max_fall_backs=0, fall_backs="spread").allowed(99) == 0
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    table = Table(x, np.array([[0, 1, 2, 3]]), np.array([40.0]), TableSettings(), Rng(0))
    training = loop(iterations=6, max_fall_backs=2, fall_backs="spread", num_samples=2)
    training.run(table, lambda batch: 70.0)
    assert [r.fall_backs for r in training.curves] == [1, 1, 1, 2, 2, 2]


def test_the_query_is_the_best_scores_in_the_fixed_order():
    training = agent_loop(0)
    scores = training.agent(training.features_ND).detach().numpy()
    assert training.query().tolist() == np.argsort(-scores)[:5].tolist()
    order = np.random.default_rng(0).permutation(30)
    # a recurrent score depends on the order
    assert sorted(order[loop_over(training, order).query()].tolist()) != training.query().tolist()


def loop_over(training: Reinforce, order: np.ndarray) -> Reinforce:
    return Reinforce(training.agent, training.features_ND[order], 5, training.settings, Rng(3))


@pytest.mark.parametrize("policy", ["pl", "cond_bernoulli", "bernoulli", "topb_surrogate"])
def test_every_policy_draws_the_budget(policy):
    scores = torch.linspace(-6, 3, 40, requires_grad=True)
    found, again, other = (draw(policy, scores, 12, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert len(set(found.batch.tolist())) == 12
    assert found.batch.tolist() == again.batch.tolist()
    assert (found.batch.tolist() == other.batch.tolist()) == (policy == "topb_surrogate")
    found.log_prob.backward()
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() > 0
    assert found.log_prob.item() <= 0


# Fact sheet, TV14: scores, the ordered log-probability of the two largest and its gradient; advantage 2.
def test_tv14_the_reward_of_the_top_reaches_the_scores_through_its_log_probability():
    training = loop(num=4, budget=2, start=58.0, iterations=1, reward_of="top", clip=100.0)
    training.agent.scores.data = torch.tensor([2.0, 1, 0, -1])
    asked = []
    training.step(lambda batch: asked.append(batch.tolist()) or 60.0)
    assert asked == [[0, 1]]
    expected = -2.0 * np.array([0.356086, 0.097876, -0.331873, -0.122089]) / 2
    np.testing.assert_allclose(training.agent.scores.grad, expected, atol=1e-6)
    assert training.curves[0].entropy == pytest.approx(0.8477957 / 2, abs=1e-6)


@pytest.mark.parametrize("policy", ["pl", "cond_bernoulli", "bernoulli", "topb_surrogate"])
def test_the_top_is_the_query_and_is_left_where_it_was_worth_less(policy):
    training = loop(num=6, budget=2, iterations=1, policy=policy, reward_of="top", lr=0.1)
    training.agent.scores.data = torch.tensor([0.0, 0.3, 0.5, 0.1, 0.4, 0.2])
    query, before = training.query(), training.agent.scores.data.clone()
    asked = []
    training.step(lambda batch: asked.append(batch.tolist()) or 50.0)  # against 58
    assert asked == [query.tolist()] == [[2, 4]]
    moved = (training.agent.scores.data - before).numpy()
    others = np.delete(moved, query)
    assert moved[query].max() < others.min()


def test_one_batch_is_no_sample_to_judge_against():
    for change in ({"reward_of": "top"}, {"policy": "topb_surrogate"}):
        with pytest.raises(ConfigError, match="num_samples=1"):
            ReinforceSettings(num_samples=2, **change)


def test_independent_draws_take_what_scores_high():
    scores = torch.tensor([-40.0] * 20 + [40.0] * 3 + [-40.0] * 20)
    found = draw("bernoulli", scores, 3, np.random.default_rng(0))
    assert sorted(found.batch.tolist()) == [20, 21, 22]
    assert found.log_prob.item() == pytest.approx(0, abs=1e-6)
    # too few are taken: the best of the others follow
    few = draw("bernoulli", torch.linspace(-50, -40, 30), 2, np.random.default_rng(0))
    assert few.batch.tolist() == [29, 28]


def test_budget_beyond_the_pool_takes_everything():
    training = loop(num=3, budget=9, iterations=1)
    training.run(lambda batch: float(len(batch)))
    assert training.curves[0].reward == 3
    assert sorted(training.query().tolist()) == [0, 1, 2]


def test_what_is_wrong_is_named():
    with pytest.raises(ConfigError, match="ema"):
        ReinforceSettings(reference="emaa")
    with pytest.raises(ConfigError, match="num_samples"):
        ReinforceSettings(num_samples=0)
    with pytest.raises(ValueError, match="finite reward at iteration 0, got None"):
        loop().step(lambda batch: None)
    broken = loop()
    broken.agent.scores.data[3] = torch.nan
    with pytest.raises(DivergedError, match="iteration 0"):
        broken.step(lambda batch: 1.0)


def test_bernoulli_takes_an_image_as_often_as_its_score_says():
    taken = [
        float(draw("bernoulli", torch.tensor([np.log(3.0)]), 1, np.random.default_rng(n)).log_prob) > np.log(0.5)
        for n in range(400)
    ]
    assert np.mean(taken) == pytest.approx(0.75, abs=0.09)  # four standard errors
