"""Reading the table: fact sheet vectors TV12 and TV13 and test 5 of §8."""

import json

import numpy as np
import pytest

from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.predictor.table import (
    Table,
    TableSettings,
    estimate,
    leave_one_out,
    pairwise_threshold,
)

TV13 = np.array([0.10, 0.20, 0.60, 0.70, 0.80, 0.75]), np.array([62.0, 60, 58, 57, 59, 61])
PAPER = TableSettings()


def pool(num: int = 300, dim: int = 8) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, dim)).astype(np.float32)


def table(settings: TableSettings = PAPER, rows: int = 40, size: int = 20) -> Table:
    """A record is worth the mean of its images' first feature: near batches are worth the same."""
    x, rng = pool(), np.random.default_rng(1)
    batches = np.stack([rng.choice(len(x), size, replace=False) for _ in range(rows)])
    return Table(x, batches, 50 + 10 * x[batches, 0].mean(1), settings, Rng(0))


def test_tv13():
    found = estimate(*TV13, PAPER)
    assert found.threshold == pytest.approx(0.2515193, abs=1e-6)
    assert found.neighbors.tolist() == [0, 1]
    np.testing.assert_allclose(found.weights, [2 / 3, 1 / 3], atol=1e-6)
    assert found.value == pytest.approx(61.3333333, abs=1e-6)
    assert (found.nearest, found.distance_min) == (62, 0.1)
    everyone = estimate(*TV13, PAPER, threshold=np.inf)
    assert everyone.value == pytest.approx(60.6027634, abs=1e-6)
    assert estimate(*TV13, PAPER, threshold=0.2254170).value == pytest.approx(61.3333333, abs=1e-6)


def test_tv13_nothing_near_is_a_fall_back():
    found = estimate(np.array([0.5, 0.5, 0.5, 0.5, 2.0]), np.arange(5.0), PAPER)
    assert found.threshold == pytest.approx(0.2, abs=1e-6)
    assert found.value is None
    assert found.nearest == 0


def test_fewer_neighbors_and_sharper_weights():
    assert estimate(*TV13, TableSettings(k_max=1)).value == 62
    sharp = estimate(*TV13, TableSettings(weight_power=8))
    np.testing.assert_allclose(sharp.weights, np.array([2**8, 1]) / 257, atol=1e-6)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [("perdim_w1", 0.6666667), ("flatten", 0.3333333), ("mean", 0.3333333), ("emd", 1.7077019)],
)
def test_tv12_distances(distance, expected):
    x = np.array([[0, 0], [1, 2], [3, 1], [1, 1], [2, 5], [0, 0]], np.float32)
    rows = Table(x, np.array([[3, 4, 5]]), np.array([60.0]), TableSettings(distance=distance), Rng(0))
    assert rows.distances(np.array([0, 1, 2])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("distance", ["perdim_w1", "sliced", "emd"])
def test_a_batch_that_is_a_record_is_worth_what_it_was(distance):
    rows = table(TableSettings(distance=distance), rows=12)
    shuffled = np.random.default_rng(3).permutation(rows.batches[7])
    assert rows(shuffled).value == pytest.approx(rows.rewards_M[7], abs=1e-5)
    assert rows(shuffled).neighbors[0] == 7


@pytest.mark.parametrize("distance", ["perdim_w1", "emd"])
def test_an_appended_row_counts(distance):
    rows = table(TableSettings(distance=distance), rows=8)
    drifted = np.argsort(-rows.features_ND[:, 0])[:20]
    rows.append(drifted, 99.0)
    assert len(rows) == 9
    assert rows(drifted).value == pytest.approx(99, abs=1e-4)


def test_a_fixed_threshold_falls_back_where_an_adaptive_one_does_not():
    drifted = np.argsort(-pool()[:, 0])[:20]
    assert table(rows=60)(drifted).value is not None
    fixed = table(TableSettings(threshold="pairwise_std"), rows=60)
    assert fixed(drifted).value is None
    before = fixed(drifted).threshold
    fixed.append(drifted, 99.0)
    assert fixed(drifted).threshold == before
    resumed = table(TableSettings(threshold="pairwise_std"), rows=60)
    resumed.append(drifted, 99.0)  # before anybody asked
    assert resumed(drifted).threshold == before


def test_leave_one_out_tells_signal_from_noise():
    x = pool(dim=1)
    rng = np.random.default_rng(1)
    batches = np.stack([rng.choice(len(x), 20, replace=False) for _ in range(60)])
    signal = Table(x, batches, 50 + 10 * x[batches, 0].mean(1), PAPER, Rng(0)).leave_one_out()
    assert signal.is_better_than_mean
    assert signal.rank_correlation > 0.8
    assert signal.distance_correlation > 0.5
    noise = Table(x, batches, rng.normal(size=60), PAPER, Rng(0)).leave_one_out()
    assert not noise.is_better_than_mean
    assert abs(noise.rank_correlation) < 0.4
    assert json.loads(json.dumps(signal.to_json()))["rmse"] == signal.rmse


def test_leave_one_out_by_hand():
    distance = np.array([[0, 1, 5, 6], [1, 0, 5, 6], [5, 5, 0, 1.0], [6, 6, 1, 0]])
    found = leave_one_out(distance, np.array([10.0, 12, 20, 22]), PAPER)
    assert found.estimates.tolist() == pytest.approx([12, 10, 22, 20])
    assert found.rmse == pytest.approx(2)
    assert found.rmse_of_mean == pytest.approx(np.sqrt(np.mean([8**2, (16 / 3) ** 2, (16 / 3) ** 2, 8**2])))


def test_the_fixed_threshold_is_mean_minus_std_of_the_distances_between_different_records():
    distance = np.array([[0, 1, 5, 6], [1, 0, 5, 6], [5, 5, 0, 1.0], [6, 6, 1, 0]])
    pairs = np.array([1, 5, 6, 5, 6, 1.0])
    assert pairwise_threshold(distance) == pytest.approx(pairs.mean() - pairs.std())
    assert pairwise_threshold(np.zeros((1, 1))) == 0


def test_left_out_records_are_read_under_the_settings_threshold():
    # 3.49 over all pairs, which 3.5 does not reach; 4.57 over the first record's own distances, which it does
    distance = np.array([[0, 3.5, 9, 9], [3.5, 0, 9, 9], [9, 9, 0, 1], [9, 9, 1, 0]])
    rewards = np.array([10.0, 12, 20, 22])
    assert leave_one_out(distance, rewards, TableSettings(threshold="pairwise_std")).num_without_neighbors == 2
    assert leave_one_out(distance, rewards, TableSettings()).num_without_neighbors == 0


def test_repeated_trainings_of_a_batch_do_not_predict_each_other():
    rows = table(rows=10)
    once = rows.leave_one_out()
    for batch, reward in zip(list(rows.batches), rows.rewards_M, strict=True):
        rows.append(np.flip(batch), reward)
    assert rows.leave_one_out().rmse >= 0.5 * once.rmse


def test_a_constant_table_has_no_correlation():
    rows = table(rows=5)
    rows.rewards_M[:] = 50
    assert rows.leave_one_out().rank_correlation == 0


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="perdim_w1"):
        TableSettings(distance="perdim")
    with pytest.raises(ConfigError, match="strategy.lut.k_max: expected a whole number >= 1, or null, got 0"):
        TableSettings(k_max=0)
    with pytest.raises(ValueError, match="one finite reward a batch"):
        Table(pool(), np.zeros((2, 3), int), np.array([1.0, np.nan]), PAPER, Rng(0))
    with pytest.raises(ValueError, match="at least 3"):
        leave_one_out(np.zeros((2, 2)), np.zeros(2), PAPER)
