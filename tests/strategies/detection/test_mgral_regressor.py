"""The learned predictor: closed forms against brute force, and where it must win or must not."""

import numpy as np
import pytest

from al_lab.strategies.detection._mgral.regressor import Ridge


def _records(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((400, 6)).astype(np.float32)
    return features, np.stack([rng.choice(400, 30, replace=False) for _ in range(num)])


def test_leave_one_out_errors_are_those_of_fits_without_the_record_at_the_same_alpha(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, batches = _records(9)
    rewards = np.random.default_rng(1).standard_normal(9)
    whole = Ridge(features, batches, rewards)
    z = np.stack(
        [np.concatenate([features[b].astype(float).mean(0), features[b].astype(float).std(0)]) for b in batches]
    )
    z = (z - z.mean(0)) / (z.std(0) * np.sqrt(z.shape[1]))
    for left in range(9):
        rest = np.delete(np.arange(9), left)
        # Brute force: ridge with a free intercept on the others, in the scale of all.
        a = np.column_stack([z[rest], np.ones(8)])
        penalty = np.diag([whole.alpha] * z.shape[1] + [0.0])
        w = np.linalg.solve(a.T @ a + penalty, a.T @ rewards[rest])
        assert np.append(z[left], 1) @ w - rewards[left] == pytest.approx(whole.residuals_M[left], abs=1e-8)


def test_it_finds_a_linear_reward_beyond_the_best_record_and_shrinks_noise_to_the_mean() -> None:
    features, batches = _records(60)
    rewards = np.array([features[b, 2].mean() * 10 for b in batches])
    ridge = Ridge(features, batches, rewards)
    best = np.argsort(-features[:, 2])[:30]
    assert ridge(best) > 2 * rewards.max()
    assert ridge.rank_correlation > 0.95
    noise = np.random.default_rng(5).standard_normal(60)
    blind = Ridge(features, batches, noise)
    assert abs(blind(best) - noise.mean()) < abs(ridge(best) - rewards.mean())
    assert blind.rmse < 1.2 * noise.std()


def test_a_record_that_is_added_counts() -> None:
    features, batches = _records(8)
    ridge = Ridge(features, batches, np.zeros(8))
    extra = np.arange(30)
    before = ridge(extra)
    ridge.append(extra, 5.0)
    assert before == 0
    assert ridge(extra) > 0


def test_two_records_are_too_few() -> None:
    features, batches = _records(2)
    with pytest.raises(ValueError, match="at least 3 records, got 2"):
        Ridge(features, batches, np.zeros(2))
