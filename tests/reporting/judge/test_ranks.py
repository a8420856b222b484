import itertools

import numpy as np
import pytest
from scipy import stats

from al_lab.reporting.judge.ranks import ranks, share_beaten


def test_lines_far_apart_keep_their_places_and_equal_ones_share_them():
    found = ranks(np.asarray([[0.5, 0.51, 0.49], [0.3, 0.31, 0.29], [0.1, 0.11, 0.09]])).of_line
    assert [(r.place, r.low, r.high, r.best) for r in found] == [(1, 1, 1, 1), (2, 2, 2, 0), (3, 3, 3, 0)]
    same = ranks(np.full((2, 3), 0.5)).of_line
    assert [(r.place, r.low, r.high, r.best) for r in same] == [(1.5, 1.5, 1.5, 1)] * 2


def test_what_a_seed_does_to_all_lines_moves_no_place():
    values = np.random.default_rng(0).normal(size=(3, 4))
    moved = values + 100 * np.arange(4)
    assert np.array_equal(ranks(values).drawn_LD, ranks(moved).drawn_LD)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_two_lines_change_places_about_as_often_as_students_t_lets_them(seeds):
    """The share of draws in which the better of two equal lines stays the better one, over pages: no surer than t."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        first, second = ranks(rng.normal(size=(2, seeds)), draws=400).of_line
        wrong += first.high < second.low or second.high < first.low
    assert wrong / 200 <= 0.1


def test_the_spread_of_draws_is_that_of_the_bootstrap_widened():
    """Three seeds: all 27 draws by hand."""
    values = np.asarray([[0.40, 0.44, 0.42], [0.415, 0.41, 0.425]])
    difference, factor = values[0] - values[1], np.sqrt(3 / 2) * stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    picks = itertools.product(range(3), repeat=3)
    above = [difference.mean() + factor * (difference[list(p)].mean() - difference.mean()) > 0 for p in picks]
    assert ranks(values, draws=20_000).of_line[0].best == pytest.approx(np.mean(above), abs=0.02)


def test_test_images_drawn_again_make_places_less_sure():
    values = np.asarray([[0.5, 0.501], [0.49, 0.491]])
    sure = ranks(values).of_line[0]
    images = np.random.default_rng(0).normal(0, 0.02, (2, 1, 50))
    drawn = values[:, :, None] + images
    assert sure.best == 1 and 0.5 < ranks(values, drawn).of_line[0].best < 0.9
    together = values[:, :, None] + images[:1]
    assert ranks(values, together).of_line[0].best == 1  # images that are hard for all say nothing of places


def test_the_share_of_rivals_beaten():
    always = np.full(100, 1.0)
    assert share_beaten([always, always * 3], [4, 3]) == (0.5, 0.5, 0.5)
    mean, low, high = share_beaten([np.repeat([1.0, 2.0], 50)], [2])
    assert (mean, low, high) == (0.5, 0.0, 1.0)
