"""Greedy k-center against the textbook loop: same picks, also where float32 can't tell points apart."""

from collections.abc import Callable

import numpy as np
import pytest

from al_lab.acquisition.k_center import k_center
from al_lab.core.pool import ApartRows

# Fact sheet vector TV2.
TV2 = np.array([(0, 0), (1, 0), (0, 2), (5, 5), (6, 5), (5, 7), (-4, 1), (9, 0)], np.float32)


def textbook(
    x: np.ndarray,
    budget: int,
    labeled: list[int],
    key: np.ndarray,
    near: Callable[[int], np.ndarray] = lambda row: np.array([row]),
) -> tuple[list[int], list[float], float]:
    """The loop everyone writes, with ties to the smallest key."""
    radius, order, distance = np.full(len(x), np.inf, x.dtype), [], []
    for row in labeled:
        radius = np.minimum(radius, ((x - x[row]) ** 2).sum(1))
    open_rows = np.ones(len(x), bool)
    open_rows[labeled] = False
    while len(order) < budget and open_rows.any():
        best = np.flatnonzero(open_rows & (radius == radius[open_rows].max()))
        pick = int(best[key[best].argmin()])
        order.append(pick)
        distance.append(float(np.sqrt(radius[pick])))
        open_rows[near(pick)] = False
        radius = np.minimum(radius, ((x - x[pick]) ** 2).sum(1))
    return order, distance, float(np.sqrt(radius[open_rows].max())) if open_rows.any() else 0.0


def test_tv2() -> None:
    result = k_center(TV2, 4, [0])
    assert result.order.tolist() == [7, 5, 6, 4]
    np.testing.assert_allclose(result.distance, [9, 8.062258, 4.123106, 2.236068], atol=1e-6)
    assert result.cover_radius == 2.0


def points(kind: str, rng: np.random.Generator) -> np.ndarray:
    n, d = 600, 24
    gaussian = rng.normal(size=(n, d))
    return {
        "gaussian": gaussian.astype(np.float32),
        "float64": gaussian,
        "half": gaussian.astype(np.float16),
        "integers": rng.integers(0, 3, size=(n, 4)),
        "duplicates": gaussian[rng.integers(0, 40, size=n)].astype(np.float32),
        "one point": np.ones((n, d), np.float32),
        "far from the origin": (gaussian * 1e-2 + 1000).astype(np.float32),
        "outlier": np.concatenate([gaussian, gaussian[:1] * 1e4]).astype(np.float32),
        # Pairs 1e-6 apart: the product form alone orders them by its rounding.
        "near ties": np.repeat(gaussian[: n // 2], 2, 0).astype(np.float32)
        + rng.normal(size=(n, d)).astype(np.float32) * 1e-6,
        "one dimension": rng.normal(size=(n, 1)).astype(np.float32),
        "sparse": np.maximum(rng.normal(size=(n, d)) - 1.5, 0).astype(np.float32),
    }[kind]


KINDS = (
    "gaussian",
    "float64",
    "half",
    "integers",
    "duplicates",
    "one point",
    "far from the origin",
    "outlier",
    "near ties",
    "one dimension",
    "sparse",
)


@pytest.mark.parametrize("front", [1, 7, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_same_picks_as_the_textbook_loop(kind: str, front: int) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    x = points(kind, rng)
    labeled = rng.choice(len(x), 9, replace=False).tolist()
    key = rng.permutation(len(x)).astype(np.uint64)
    result = k_center(x, 150, labeled, tie_key=key, front=front)
    exact = x.astype(np.float32) if kind == "half" else x.astype(np.float64) if kind == "integers" else x
    order, distance, cover_radius = textbook(exact, 150, labeled, key)
    assert result.order.tolist() == order
    np.testing.assert_allclose(result.distance, distance, rtol=1e-6)
    assert result.cover_radius == pytest.approx(cover_radius, rel=1e-6)


@pytest.mark.parametrize("front", [1, 7, 512])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_near_a_pick_are_closed_and_are_no_centers(kind: str, front: int) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    x = points(kind, rng)
    x = x.astype(np.float32) if kind == "half" else x.astype(np.float64) if kind == "integers" else x
    labeled = rng.choice(len(x), 9, replace=False).tolist()
    key = rng.permutation(len(x)).astype(np.uint64)
    rule = ApartRows(rng.integers(0, 12, len(x)), rng.integers(0, 40, len(x)), 4)
    for budget in (50, 600):  # 600: until no row is open
        result = k_center(x, budget, labeled, tie_key=key, near=rule.near, front=front)
        order, distance, cover_radius = textbook(x, budget, labeled, key, rule.near)
        assert result.order.tolist() == order
        np.testing.assert_allclose(result.distance, distance, rtol=1e-6)
        assert result.cover_radius == pytest.approx(cover_radius, rel=1e-6)


def test_many_blocks_of_points_and_of_centers() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1400, 600)).astype(np.float32)  # 437 rows a block
    labeled = list(range(0, 1400, 3))  # two blocks of centers
    assert k_center(x, 40, labeled, front=16).order.tolist() == textbook(x, 40, labeled, np.arange(1400))[0]


def test_nothing_labeled_starts_at_the_smallest_key_or_where_told() -> None:
    key = np.array([5, 4, 3, 9, 0, 8, 7, 6])
    by_key, told = k_center(TV2, 3, tie_key=key), k_center(TV2, 3, first=6)
    assert by_key.order[0] == 4
    assert np.isinf(by_key.distance[0])
    assert told.order.tolist()[:2] == [6, 7]


def test_budget_beyond_the_pool_takes_everything_once() -> None:
    result = k_center(TV2, 99, [3, 3])
    assert sorted(result.order.tolist()) == [0, 1, 2, 4, 5, 6, 7]
    assert result.cover_radius == 0.0


def test_one_candidate_none_and_zero_budget() -> None:
    assert k_center(TV2[:2], 1, [0]).order.tolist() == [1]
    assert k_center(TV2[:0], 5).order.tolist() == []
    nothing = k_center(TV2, 0, [0])
    assert nothing.order.tolist() == []
    assert nothing.cover_radius == 9.0


def test_reads_a_memory_map(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert k_center(mapped, 20, [0]).order.tolist() == k_center(x, 20, [0]).order.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros(4)}, "expected features of shape"),
        ({"features": np.array([[0.0], [np.nan]])}, "first in row 1"),
        ({"labeled": [8]}, r"rows in 0\.\.7, got 8"),
        ({"tie_key": np.arange(3)}, "one tie_key a row"),
        ({"budget": -1}, "expected budget >= 0"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        k_center(**({"features": TV2, "budget": 2, "labeled": [0]} | change))
