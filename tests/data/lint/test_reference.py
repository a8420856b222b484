"""Random selections, and where a selection stands among them."""

import numpy as np
import pytest

from al_lab.data.lint.reference import Measure, one_set, random_sets


def test_each_selection_has_each_image_once_and_all_images_have_the_same_chance():
    sets = random_sets(20, 5, seed=0, draws=2000).toarray()
    assert set(np.unique(sets)) == {0, 1} and (sets.sum(1) == 5).all()
    assert np.abs(sets.mean(0) - 0.25).max() < 0.04
    assert (random_sets(20, 5, seed=0, draws=9) != random_sets(20, 5, seed=1, draws=9)).nnz
    assert (random_sets(20, 20, seed=0, draws=3).toarray() == 1).all()


def test_a_sample_stands_for_the_pool_and_is_drawn_again_and_again():
    sets = random_sets(10, 30, seed=0, sample=np.array([2, 7]), draws=50).toarray()
    assert (sets.sum(1) == 30).all() and sets[:, [2, 7]].sum() == sets.sum()
    assert one_set(4, np.array([1, 3])).toarray().tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize(
    ("value", "better", "percentile"),
    [(0.5, None, 0), (2.0, None, 37.5), (2.0, "high", 37.5), (2.0, "low", 62.5), (9.0, "high", 100), (0.0, "low", 100)],
)
def test_ties_count_half_and_less_may_be_better(value, better, percentile):
    assert Measure("m", "m", value, np.array([1.0, 2, 3, 4]), better).percentile == percentile


def test_unusual_is_outside_of_nine_of_ten():
    random = np.arange(101.0)
    assert Measure("m", "m", 0, random).middle == (5, 95)
    assert [Measure("m", "m", v, random).is_unusual for v in (4.9, 5.0, 95.0, 95.1)] == [True, False, False, True]
