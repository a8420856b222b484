"""The learned predictors: what they see of a set, closed forms against brute force, and who is chosen."""

import numpy as np
import pytest

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.predictor import choice
from al_lab.strategies.detection._mgral.predictor.choice import Images, Records, choose
from al_lab.strategies.detection._mgral.predictor.inputs import SetInputs, described
from al_lab.strategies.detection._mgral.predictor.leave_one_out import LeaveOneOut, best_believed, judged
from al_lab.strategies.detection._mgral.predictor.ridge import Regressor, fit
from al_lab.strategies.detection._mgral.predictor.table import Table, TableSettings

NUM, LABELED = 400, 20


def images(seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((NUM + LABELED, 6)).astype(np.float32)
    return Images(features, NUM, {"entropy": rng.random(NUM + LABELED), "boxes": rng.random(NUM + LABELED)})


def batches(num: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.choice(NUM, 30, replace=False) for _ in range(num)]


def inputs() -> SetInputs:
    of = images()
    return SetInputs(of.features_ND, of.facts, 8, Rng(0))


def regressor(rewards: np.ndarray, kind: str = "ridge", rows: list[np.ndarray] | None = None) -> Regressor:
    rows = batches(len(rewards)) if rows is None else rows
    labeled = images().labeled
    return Regressor(inputs(), [labeled] * len(rows), rows, rewards, labeled, kind)


def test_the_inputs_of_a_set_are_what_their_names_say() -> None:
    seen, of = inputs(), images()
    some = np.array([3, 50, 320, 7])
    before = np.array([410, 411])
    found = seen.describe(seen.content(before), seen.content(some))
    by_name = {name: found[seen.groups_F == name] for name in dict.fromkeys(seen.groups_F.tolist())}
    assert list(by_name) == ["embedding", "entropy", "boxes", "coverage", "clusters"]
    everyone = np.concatenate([before, some])
    np.testing.assert_allclose(by_name["embedding"], of.features_ND[everyone].mean(0), atol=1e-6)
    entropy = of.facts["entropy"]
    assert by_name["entropy"] == pytest.approx((entropy[some].mean() - entropy.mean()) / entropy.std())
    assert np.expm1(by_name["clusters"]).sum() == pytest.approx(6)
    assert by_name["coverage"] == pytest.approx(-seen.distance_NJ[everyone].min(0).mean())
    np.testing.assert_allclose(described(seen, [before], [some])[0], found)
    alone = seen.describe(seen.content(before[:0]), seen.content(everyone))
    same = np.isin(seen.groups_F, ["embedding", "coverage", "clusters"])
    np.testing.assert_allclose(alone[same], found[same])


def test_a_fit_is_weighted_ridge_with_a_free_intercept() -> None:
    rng = np.random.default_rng(3)
    x, y, r = rng.normal(size=(9, 4)), rng.normal(size=9), rng.uniform(0.2, 1, 9)
    groups = np.array(["a", "a", "a", "b"])
    found = fit(x, y, r, groups)
    scale = x.std(0) * np.sqrt([3, 3, 3, 1])
    a = np.column_stack([x / scale, np.ones(9)])
    penalty = np.diag([found.alpha] * 4 + [0.0])
    solution = np.linalg.solve(a.T @ (r[:, None] * a) + penalty, a.T @ (r * y))
    np.testing.assert_allclose(found.weight_F * scale, solution[:4], atol=1e-8)
    assert found.constant == pytest.approx(solution[4], abs=1e-8)


@pytest.mark.parametrize("kind", ["ridge", "ensemble"])
def test_left_out_records_are_predicted_by_a_regressor_that_never_saw_them(kind: str) -> None:
    rewards = np.random.default_rng(1).standard_normal(9)
    whole = regressor(rewards, kind)
    found = whole.leave_one_out().estimates
    for left in range(9):
        rows = batches(9)
        rest = regressor(np.delete(rewards, left), kind, rows[:left] + rows[left + 1 :])
        assert found[left] == pytest.approx(rest(rows[left]), abs=1e-8)


def test_it_finds_a_linear_reward_beyond_the_best_record_and_shrinks_noise_to_the_mean() -> None:
    x = images().features_ND
    rewards = np.array([x[b, 2].mean() * 10 for b in batches(60)])
    ridge, best = regressor(rewards), np.argsort(-x[:NUM, 2])[:30]
    assert ridge(best) > 1.5 * rewards.max()
    assert ridge.leave_one_out().rank_correlation > 0.8
    noise = np.random.default_rng(5).standard_normal(60)
    blind = regressor(noise)
    assert abs(blind(best) - noise.mean()) < abs(ridge(best) - rewards.mean())
    assert blind.leave_one_out().rmse < 1.2 * noise.std()


def test_a_record_that_is_added_counts() -> None:
    ridge = regressor(np.zeros(8))
    extra = np.arange(30)
    before = ridge(extra)
    ridge.append(extra, 5.0)
    assert before == 0
    assert ridge(extra) > 0


def test_two_records_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 3 records, got 2"):
        regressor(np.zeros(2))


def records(rewards: np.ndarray) -> Records:
    rows = batches(len(rewards))
    return Records(rows, [images().labeled] * len(rows), rewards, np.ones(len(rows)))


def test_auto_takes_the_one_of_least_left_out_error_and_nobody_where_the_mean_is_better() -> None:
    x = images().features_ND
    rewards = np.array([x[b, 2].mean() * 10 for b in batches(40)])
    found = choose(images(), records(rewards), TableSettings(predictor="auto"), Rng(0))
    assert found.predictor is not None
    assert found.predictor.name == min(found.judgments, key=lambda name: found.judgments[name].rmse)
    assert found.error == found.judgments[found.predictor.name].rmse
    bad = {name: LeaveOneOut(estimates=np.zeros(2), rmse=1.1, rmse_of_mean=1, rank_correlation=0.5) for name in "ab"}
    assert best_believed(bad) is None
    order = LeaveOneOut(estimates=np.zeros(2), rmse=0.9, rmse_of_mean=1, rank_correlation=-0.1)
    assert best_believed(bad | {"c": order}) is None


def test_auto_closes_on_a_table_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "best_believed", lambda found: None)
    assert choose(images(), records(np.arange(6.0)), TableSettings(predictor="auto"), Rng(0)).predictor is None


def test_the_table_answers_where_it_is_asked_and_where_records_are_too_few_to_judge() -> None:
    assert isinstance(choose(images(), records(np.arange(6.0)), TableSettings(), Rng(0)).predictor, Table)
    few = choose(images(), records(np.arange(2.0)), TableSettings(predictor="auto"), Rng(0))
    assert isinstance(few.predictor, Table)
    assert few.judgments == {} and few.error == 0.0


def test_what_simulated_queries_bought_is_no_batch_for_a_table() -> None:
    labeled = images().labeled
    parts = [np.random.default_rng(k).permutation(labeled[10:])[:5] for k in range(6)]
    simulated = Records(parts, [labeled[:10]] * 6, np.arange(6.0), np.ones(6), are_batches=False)
    found = choose(images(), simulated, TableSettings(predictor="auto"), Rng(0))
    assert set(found.others) == {"ridge", "ensemble"}


def test_records_of_less_weight_count_less_in_the_judgment() -> None:
    estimates, rewards = np.array([0.0, 0, 0, 9]), np.array([0.0, 0, 0, 0])
    even = judged(estimates, rewards, np.arange(4))
    assert judged(estimates, rewards, np.arange(4), np.array([1, 1, 1, 0.01])).rmse < even.rmse
