"""From maps and boxes to one number an image, and the best pixels of a map."""

import numpy as np
import torch

from al_lab.acquisition.aggregate import best_pixels
from al_lab.core.rng import Rng

MAP = torch.tensor([[0.1, 0.9, 0.5], [0.5, 0.5, 0.2]])


def test_the_best_come_first_and_ties_take_the_lower_index():
    index, utility = best_pixels(MAP, 3, None, None)
    assert (index.tolist(), utility.tolist()) == ([1, 2, 3], [np.float32(0.9), 0.5, 0.5])
    assert best_pixels(MAP, 99, None, None)[0].tolist() == [1, 2, 3, 4, 5, 0]


def test_a_tie_rng_orders_equals_alone():
    orders = {tuple(best_pixels(MAP, 4, None, Rng(seed))[0]) for seed in range(20)}
    assert {order[0] for order in orders} == {1}
    assert {frozenset(order[1:]) for order in orders} == {frozenset({2, 3, 4})}
    assert len(orders) > 1


def test_bought_pixels_are_never_returned():
    bought = np.array([[False, True, False], [True, True, False]])
    assert best_pixels(MAP, 9, bought, None)[0].tolist() == [2, 5, 0]
    index, utility = best_pixels(MAP, 9, np.ones((2, 3), bool), None)
    assert (index.shape, utility.shape) == ((0,), (0,))
    assert index.dtype == np.int64
    assert not len(best_pixels(MAP, 0, None, None)[0])


def test_a_single_nan_comes_first():
    utility = MAP.clone()
    utility[1, 2] = torch.nan
    index, found = best_pixels(utility, 2, None, None)
    assert index[0] == 5
    assert np.isnan(found[0])
