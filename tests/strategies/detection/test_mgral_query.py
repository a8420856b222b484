"""What is bought: the search over sets against a plain loop, what is refused, and the policy that gets sharper."""

import numpy as np
import pytest

from al_lab.benchmarks.mgral import searched_by_loop
from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.decide import on_top
from al_lab.strategies.detection._mgral.learning.policy import SHARPEST, temperature
from al_lab.strategies.detection._mgral.predictor.choice import Images, Records, choose
from al_lab.strategies.detection._mgral.predictor.ridge import Regressor
from al_lab.strategies.detection._mgral.predictor.table import TableSettings
from al_lab.strategies.detection._mgral.query import Judge, search

NUM, LABELED, BUDGET = 60, 10, 5


def problem(predictor: str, seed: int = 0, rows: int = 12) -> tuple[Judge, Images, Records]:
    """Batches are worth the mean of a feature, less what of them is near to each other."""
    rng = np.random.default_rng(seed)
    images = Images(rng.standard_normal((NUM + LABELED, 4)).astype(np.float32), NUM, {"entropy": rng.random(70)})
    batches = [rng.choice(NUM, BUDGET, replace=False) for _ in range(rows)]
    rewards = np.array([50 + 5 * images.features_ND[b, 1].mean() for b in batches])
    records = Records(batches, [images.labeled] * rows, rewards, np.ones(rows))
    chosen = choose(images, records, TableSettings(predictor=predictor, num_clusters=5), Rng(0))
    return Judge(chosen, records, NUM, BUDGET, rng), images, records


@pytest.mark.parametrize("kind", ["ridge", "ensemble"])
@pytest.mark.parametrize("seed", range(3))
def test_the_search_picks_what_a_plain_loop_picks(kind: str, seed: int) -> None:
    judge, images, _ = problem(kind, seed)
    assert isinstance(judge.predictor, Regressor)
    found = search(judge.predictor.value(), images.labeled, NUM, BUDGET)
    assert found.tolist() == searched_by_loop(judge.predictor, NUM, BUDGET)
    assert len(set(found.tolist())) == BUDGET


def test_what_the_search_maximizes_is_what_the_predictor_says() -> None:
    judge, images, records = problem("ridge")
    found = search(judge.predictor.value(), images.labeled, NUM, BUDGET)
    everyone = np.random.default_rng(9)
    assert judge.estimate(found) > max(judge.estimate(b) for b in records.batches)
    assert judge.estimate(found) >= max(judge.estimate(everyone.choice(NUM, BUDGET, replace=False)) for _ in range(300))


def test_a_table_is_maximal_at_its_best_record() -> None:
    judge, _, records = problem("table")
    query = judge.search()
    assert sorted(query.batch) == sorted(records.batches[int(records.rewards_M.argmax())])
    assert query.estimate == pytest.approx(records.rewards_M.max(), abs=1e-4)


@pytest.mark.parametrize("way", ["search", "accept"])
def test_a_batch_beyond_every_record_by_more_than_the_error_is_held_back(way: str) -> None:
    judge, images, records = problem("ridge")
    free = search(judge.predictor.value(), images.labeled, NUM, BUDGET)
    judge.ceiling = records.rewards_M.max() + 0.1
    assert judge.estimate(free) > judge.ceiling
    query = judge.search() if way == "search" else judge.accept(free)
    assert query.is_refused
    assert query.estimate <= judge.ceiling
    assert query.estimate == pytest.approx(judge.estimate(query.batch))
    assert len(set(query.batch.tolist())) == BUDGET
    judge.ceiling = np.inf
    assert not judge.accept(free).is_refused
    assert judge.search().batch.tolist() == free.tolist()


def test_the_ceiling_is_the_best_record_and_the_error() -> None:
    judge, images, records = problem("ridge")
    chosen = choose(images, records, TableSettings(predictor="ridge", num_clusters=5), Rng(0))
    assert judge.ceiling == pytest.approx(records.rewards_M.max() + chosen.judgments["ridge"].rmse)


def test_a_record_with_an_image_that_cannot_be_bought_is_no_start() -> None:
    _, images, records = problem("table")
    best = int(records.rewards_M.argmax())
    batches = [*records.batches]
    batches[best] = np.array([*batches[best][:-1], NUM])  # the first of the labeled ones
    held = Records(batches, records.bases, records.rewards_M, records.weight_M)
    chosen = choose(images, held, TableSettings(predictor="table"), Rng(0))
    start = Judge(chosen, held, NUM, BUDGET, np.random.default_rng(0)).start
    assert start.max() < NUM
    others = [m for m in range(len(batches)) if m != best]
    assert start.tolist() == batches[max(others, key=lambda m: records.rewards_M[m])].tolist()


def test_simulated_queries_of_fewer_images_lead_by_less() -> None:
    _, images, records = problem("ridge")
    labeled = images.labeled
    parts = [np.random.default_rng(k).permutation(labeled[5:])[:2] for k in range(12)]
    simulated = Records(parts, [labeled[:5]] * 12, records.rewards_M, records.weight_M, are_batches=False)
    chosen = choose(images, simulated, TableSettings(predictor="ridge", num_clusters=5), Rng(0))
    judge = Judge(chosen, simulated, NUM, BUDGET, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    average = np.mean([judge.estimate(rng.choice(NUM, BUDGET, replace=False)) for _ in range(20)])
    lead = np.ptp([records.rewards_M.max(), records.rewards_M.mean()]) + chosen.error
    assert judge.ceiling == pytest.approx(average + BUDGET / 2 * lead)
    assert judge.estimate(judge.search().batch) <= judge.ceiling + 1e-9


def test_a_batch_comes_first_and_in_its_order() -> None:
    utility = on_top(np.array([0.3, 5.0, -1.0, 0.4]), np.array([2, 0]))
    assert np.argsort(-utility).tolist() == [2, 0, 1, 3]


def test_the_temperature_falls_from_one_to_a_sharp_policy() -> None:
    assert temperature(0.0, 0.01) == 1
    assert 0.01 / temperature(1.0, 0.01) == pytest.approx(SHARPEST)
    assert temperature(0.5, 0.01) == pytest.approx(np.sqrt(0.01 / SHARPEST))
    assert temperature(1.0, 50.0) == 1  # sharp by itself
