"""Which batches the rows are."""

import numpy as np

from al_lab.core.rng import Rng
from al_lab.strategies.detection._mgral.batches import by_clusters, uniform

IDS = [f"i{k:03d}" for k in range(120)]


def kinds(batch: tuple[str, ...]) -> np.ndarray:
    return np.bincount([int(i[1:]) // 30 for i in batch], minlength=4)


def features() -> np.ndarray:
    return np.repeat(10 * np.eye(4), 30, 0) + np.random.default_rng(0).normal(size=(120, 4))


def test_rows_by_clusters_have_few_kinds_of_images_and_every_fourth_is_uniform() -> None:
    rows = by_clusters(IDS, features(), 20, 40, 4, Rng(0))
    plain = uniform(IDS, 20, 40, Rng(0))
    assert all(len(set(row)) == 20 and list(row) == sorted(row) for row in rows)
    assert [rows[m] == plain[m] for m in range(40)] == [m % 4 == 0 for m in range(40)]
    most = np.array([kinds(row).max() for row in rows])
    assert most[np.arange(40) % 4 > 0].mean() > 1.5 * most[::4].mean()


def test_a_cluster_with_too_few_images_is_filled_up_with_others() -> None:
    rows = by_clusters(IDS, features(), 110, 8, 4, Rng(1))
    assert all(len(set(row)) == 110 for row in rows)


def test_rows_do_not_depend_on_the_scale_of_a_feature() -> None:
    x = features()
    assert by_clusters(IDS, x * [1, 100, 0.01, 1], 20, 8, 4, Rng(0)) == by_clusters(IDS, x, 20, 8, 4, Rng(0))
