"""What MGRAL's stages say of themselves: noise, chance, and what the agent's training came to."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch import nn

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.honesty import (
    against_base,
    against_chance,
    chosen_sentence,
    learning,
    leave_one_out_sentence,
    likeness,
    p_value,
    sentences,
    spread_against_noise,
)
from al_lab.strategies.detection._mgral.learning.settings import ReinforceSettings
from al_lab.strategies.detection._mgral.predictor.table import Estimate
from al_lab.strategies.detection._mgral.reinforce import Reinforce


def test_a_ratio_that_luck_often_makes_is_no_signal() -> None:
    rewards = np.array([30.0, 32, 34])
    noise = spread_against_noise(rewards, {0: [30.0, 31.5]})
    assert noise["signal_to_noise"] == pytest.approx(2 / (1.5 / np.sqrt(2)))
    assert "may learn noise" in noise["sentence"]
    assert f"{100 * noise['p_value']:.0f} % of tables" in noise["sentence"]
    draws = np.random.default_rng(0).normal(size=(20_000, 5))  # rows and seeds that differ by nothing but noise
    ratios = draws[:, :3].std(1, ddof=1) / draws[:, 3:].std(1, ddof=1)
    assert noise["p_value"] == pytest.approx((ratios > noise["signal_to_noise"]).mean(), abs=0.01)


def test_what_a_seed_does_to_all_rows_alike_blurs_no_comparison() -> None:
    facts = spread_against_noise(np.array([30.0, 32, 34]), {0: [30.0, 35.0], 1: [32.0, 37.2]})
    assert facts["seed_noise"] == pytest.approx(np.sqrt((5**2 + 5.2**2) / 4))
    assert facts["own_noise"] == pytest.approx(0.2 / 2)
    assert facts["signal_to_noise"] == pytest.approx(2 / 0.1)
    draws = np.random.default_rng(0).normal(size=(4000, 3, 3)) + 5 * np.random.default_rng(1).normal(size=(4000, 1, 3))
    noise = [spread_against_noise(np.zeros(3), dict(enumerate(d)))["own_noise"] ** 2 for d in draws]
    assert np.mean(noise) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("rewards", "repeated", "ratio"), [([1.0, 1, 1], {0: [1.0, 1]}, 0.0), ([1.0, 2, 3], {0: [1.0, 1]}, 3.4e38)]
)
def test_rows_without_any_luck(rewards: list[float], repeated: dict, ratio: float) -> None:
    facts = spread_against_noise(np.array(rewards), repeated)
    assert facts["signal_to_noise"] == pytest.approx(ratio, rel=1e-2)
    json.dumps(facts, allow_nan=False)


def test_the_agents_batch_is_one_more_draw_by_chance() -> None:
    rng = np.random.default_rng(1)
    clear = sum(
        any(
            facts[name]["verdict"] != "no clear difference"
            for facts in [against_chance(*rng.normal(size=2), rng.normal(size=5).tolist(), rng.normal(size=16), 1.0)]
            for name in ("against_random", "against_shuffled")
        )
        for _ in range(2000)
    )
    assert clear / 2000 == pytest.approx(0.045, abs=0.012)  # of either comparison, the two together
    facts = against_chance(35.0, 31.0, [29.0, 31.0], np.array([29.0, 31.0, 30.0]), 0.5)
    assert facts["spread"] == pytest.approx(np.sqrt(4 / 3))
    p = 2 * student.sf(5 / np.sqrt(2), 3)
    assert facts["against_random"] == {
        "difference": 5.0,
        "standard_error": pytest.approx(np.sqrt(2)),
        "p": pytest.approx(min(1, 2 * p)),
        "verdict": "no clear difference",  # three degrees of freedom; two standard errors would have been enough once
    }
    assert facts["against_shuffled"]["difference"] == 4.0
    assert (
        "+5.00 ± 1.41 against the mean of 2 random batches (no clear difference; it is above 2 of 2)"
        in facts["sentence"]
    )
    assert "another seed alone moves one of these against the others by 0.50" in facts["sentence"]


def test_rows_below_their_base_are_called_harm() -> None:
    found = {"row_spread": 1.0, "sentence": "rows differ by 1.00 points"}
    worse, better = against_base(np.array([19.0, 21.0]), 24.0, found), against_base(np.array([24.0, 26.0]), 24.0, found)
    assert (worse["above_base"], better["above_base"], worse["row_spread"]) == (-4.0, 1.0, 1.0)
    assert worse["sentence"].startswith("rows differ by 1.00 points; rows are 4.00 points below the base")
    assert better["sentence"] == found["sentence"]


def test_a_batch_of_one_kind_is_told_from_a_random_one() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([np.zeros((20, 8)), rng.normal(size=(180, 8))])
    facts = [
        likeness(features, batch, np.random.default_rng(1))
        for batch in (np.arange(20), rng.choice(200, 20, replace=False))
    ]
    assert facts[0]["nearest"] == pytest.approx(0, abs=1e-3)
    assert facts[0]["random_nearest"] == facts[1]["random_nearest"] > 1
    assert "more alike than chance makes them: 0.00 to" in facts[0]["sentence"]
    assert "as much alike as by chance" in facts[1]["sentence"]
    far = np.concatenate([100 * np.eye(8), features])
    assert [f["verdict"] for f in facts] == ["more", "same"]
    assert "less alike" in likeness(far, np.arange(8), np.random.default_rng(1))["sentence"]
    assert likeness(features, np.arange(1), rng) is likeness(features, np.arange(200), rng) is None


def test_without_any_spread_nothing_is_clear() -> None:
    facts = against_chance(35.0, 31.0, [30.0], np.array([30.0]), None)
    assert facts["against_random"]["verdict"] == facts["against_shuffled"]["verdict"] == "no clear difference"
    assert "is unknown" in facts["sentence"]


class Scores(nn.Module):
    def __init__(self, num: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num))

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        return self.scores


def training(iterations: int, **changes: object) -> Reinforce:
    settings = ReinforceSettings(iterations=iterations, lr=0.1, max_fall_backs=1, **changes)
    return Reinforce(Scores(12), torch.zeros(12, 2), 3, settings, Rng(0), 2.0)


def test_the_agents_training_is_summed_up_by_tenths() -> None:
    agent = training(40)
    near = Estimate(None, 1.0, np.zeros(0, np.int64), np.zeros(0), 0.0, 0.1, 0.2, 0.3)

    def estimate(batch: np.ndarray) -> Estimate:
        return (
            near
            if agent.iteration < 2
            else Estimate(float((batch < 4).sum()), 0.0, np.arange(5), np.ones(5) / 5, 0.2, 0.1, 0.2, 0.3)
        )

    agent.run(estimate, lambda batch: 1.5)
    facts = learning(agent)
    rewards = [record.reward for record in agent.curves]
    assert facts["gain"] == pytest.approx(np.mean(rewards[-4:]) - np.mean(rewards[:4]))
    assert (facts["fall_backs"], facts["nearest_instead"], facts["neighbors"]) == (1, 1, pytest.approx(5 * 38 / 40))
    assert facts["entropy_flat"] == pytest.approx(np.log([12, 11, 10]).mean())
    assert facts["entropy_first"] == pytest.approx(facts["entropy_flat"], abs=0.3)
    assert (
        "batches trained as no record was near: 1, batches that took the nearest record's worth: 1" in facts["sentence"]
    )


def test_a_regressor_has_no_neighbors_and_another_policy_no_flat_entropy() -> None:
    agent = training(3, policy="topb_surrogate")
    agent.run(lambda batch: 1.0)
    facts = learning(agent)
    assert facts["neighbors"] is facts["entropy_flat"] is None
    assert "by a regressor's estimates" in facts["sentence"]
    assert learning(training(0)) is None


def test_every_finding_is_a_sentence() -> None:
    found = {"is_better_than_mean": False, "rmse": 1.0, "rmse_of_mean": 0.9, "rank_correlation": -0.1}
    told = leave_one_out_sentence(found, {"rmse": 0.8, "rank_correlation": 0.25}, 17)
    assert (
        "no better than their mean does (error 1.00 against 0.90 points, rank correlation -0.10, where chance "
        "alone gives" in told
    )
    assert "up to about ±0.50)" in told
    assert "ridge regression on batch features: error 0.80, rank correlation 0.25" in told
    told = leave_one_out_sentence(found, {"rmse": 0.9, "rank_correlation": -1.0}, 17)
    assert told.endswith("ridge regression on batch features: error 0.90, no better than the mean")
    assert sentences({"signal": {"sentence": "a"}, "leave_one_out": None, "learning": {"sentence": "b"}}) == ["a", "b"]


@pytest.mark.parametrize(("name", "who"), [("ridge", "ridge answers"), (None, "nobody is believed")])
def test_who_answers_is_said(name: str | None, who: str) -> None:
    told = {"ridge": {"rmse": 0.5, "rank_correlation": 0.25, "rmse_of_mean": 1.0}}
    assert chosen_sentence(told, name, "auto") == (
        f"{who} (strategy.lut.predictor=auto): left-out errors are ridge 0.50 (rank correlation 0.25), the mean's 1.00 "
        "points"
    )


def test_a_table_of_an_older_run_is_read() -> None:
    assert p_value({"luck": 0.3}) == p_value({"p_value": 0.3}) == 0.3
