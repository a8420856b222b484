"""Quotas: the ranking where it fills them, else classes first, the scarcest before the others."""

import numpy as np

from al_lab.acquisition.ranking.quotas import fill


def free():
    return lambda row: True


def run(ranked, budget, shows, wanted, cost=None, gate=free):
    shows = np.array(shows, float)
    cost = np.ones(len(shows)) if cost is None else np.array(cost, float)
    return fill(ranked, cost, budget, shows, np.array(wanted, float), gate)


def test_a_ranking_that_fills_the_quotas_stays_as_it_is():
    done = run([3, 1, 0, 2], 2, [[1], [0], [1], [1]], [1])
    assert (done.rows, done.quota_of, done.got.tolist()) == ([3, 1], [-1, -1], [1])


def test_the_best_of_a_class_are_taken_out_of_turn():
    done = run([0, 1, 2, 3, 4], 3, [[0], [0], [0], [1], [1]], [1])
    assert (done.rows, done.quota_of) == ([0, 1, 3], [-1, -1, 0])


def test_the_scarcest_class_comes_first_and_an_image_counts_for_all_it_shows():
    shows = [[1, 0], [1, 0], [1, 0], [0, 1], [1, 1]]
    done = run([0, 1, 2, 3, 4], 2, shows, [1, 2])
    assert done.rows == [3, 4] and done.quota_of == [1, 1] and done.got.tolist() == [1, 2]


def test_what_starves_is_told_and_the_rest_goes_by_rank():
    done = run([0, 1, 2], 2, [[0], [0], [1]], [5])
    assert done.rows == [0, 2] and done.got.tolist() == [1]


def test_costs_end_the_purchase_before_the_first_row_that_is_too_dear():
    assert run([0, 1, 2], 5, np.zeros((3, 0)), [], cost=[3, 4, 1]).rows == [0]
    assert run([0, 1, 2], 7, np.zeros((3, 0)), [], cost=[3, 4, 0]).rows == [0, 1]


def test_a_gate_is_new_for_each_attempt():
    def gate():
        taken = []

        def once(row):
            taken.append(row)
            return row // 2 not in [r // 2 for r in taken[:-1]]

        return once

    done = run([0, 1, 2, 3], 2, [[0], [1], [0], [0]], [1], gate=gate)
    assert done.rows == [1, 2] and done.quota_of == [0, -1]
