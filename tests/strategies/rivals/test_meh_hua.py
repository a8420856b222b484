"""MEH + HUA's choice: shares of images without objects, and what it may not depend on."""

from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates
from al_lab.strategies.rivals.meh_hua import MehHua

IDS = [f"i{n:03d}" for n in range(60)]


def candidates(num_zeros: int, ids: list[str] = IDS) -> Candidates:
    worth = {i: 0.0 if n < num_zeros else (n + 1) / 10 for n, i in enumerate(IDS)}
    return Candidates.images(ids, [worth[i] for i in ids])


def choose(found: Candidates, amount: int, seed: int = 0, **options: object) -> list[str]:
    pool = Pool(tuple(sorted(found.sample_ids)))
    budget = Allowance("image", amount)
    return [q.sample_id for q in MehHua(**options).select(found, pool, budget, Rng(seed, 0, "select"))]  # type: ignore[arg-type]


def test_15_percent_are_drawn_among_images_without_objects() -> None:
    bought = choose(candidates(30), 20)
    assert bought[:17] == [IDS[n] for n in range(59, 42, -1)]
    assert len(set(bought)) == 20
    assert set(bought[17:]) <= set(IDS[:30])
    assert set(bought[17:]) != set(choose(candidates(30), 20, seed=1)[17:])


def test_vocs_413_are_352_and_61() -> None:
    ids = [f"{n:04d}" for n in range(1200)]
    found = Candidates.images(ids, [float(n) if n >= 600 else 0.0 for n in range(1200)])
    bought = choose(found, 413)
    assert len(bought) == len(set(bought)) == 413
    assert sum(found.utility[ids.index(i)] == 0 for i in bought) == 61


def test_too_few_images_without_objects_are_made_up_for_from_the_top() -> None:
    bought = choose(candidates(1), 20)
    assert bought == [*(IDS[n] for n in range(59, 40, -1)), IDS[0]]


def test_where_few_images_have_objects_the_others_are_drawn() -> None:
    bought = choose(candidates(55), 20)
    assert bought[:5] == [IDS[n] for n in range(59, 54, -1)]
    assert len(set(bought)) == 20


def test_the_order_of_the_pool_changes_nothing() -> None:
    assert choose(candidates(30), 20) == choose(candidates(30, IDS[::-1]), 20)
    assert choose(candidates(60), 20) == choose(candidates(60, IDS[::-1]), 20)


def test_as_released_what_is_drawn_twice_is_not_made_up_for() -> None:
    bought = choose(candidates(1), 20, as_released=True)
    assert bought == [*(IDS[n] for n in range(59, 42, -1)), IDS[0]]
    assert len(choose(candidates(0), 20, as_released=True)) == 17


def test_utilities_are_kept() -> None:
    found = candidates(30)
    queries = MehHua().select(found, Pool(tuple(IDS)), Allowance("image", 4), Rng(0))
    assert [q.utility for q in queries] == [6.0, 5.9, 5.8, 5.7]
