"""MGRAL without rows: values of batches whose copies count less."""

import itertools

import numpy as np
import pytest

from al_lab.strategies.detection._mgral.gradient.information import InformationGain


def test_of_two_copies_the_second_adds_less_and_labeled_ones_count() -> None:
    x = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    value = InformationGain(x, np.array([1.0, 1.0, 1.0]), np.zeros((0, 2)))
    one, both = value(np.array([0])), value(np.array([0, 1]))
    assert one < both < 2 * one
    assert value(np.array([0, 2])) == pytest.approx(one + value(np.array([2])))  # nothing in common
    assert one == pytest.approx(np.log1p(4 / 3))  # (1/3)(4 + 4 + 1) = 3: lengths are 1 on average
    known = InformationGain(x, np.ones(3), np.array([[2.0, 0.0]]))
    assert known(np.array([0])) < one
    assert known(np.array([2])) == pytest.approx(value(np.array([2])))


def test_the_greedy_batch_is_near_the_best_one_and_leaves_copies_out() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(3, 6)), 4, 0)
    x[4:] += 0.5 * rng.normal(size=(8, 6))
    worth = rng.random(12)
    value = InformationGain(x, worth, rng.normal(size=(2, 6)))
    batch = value.greedy(4)
    assert len(set(batch.tolist())) == 4
    best = max(value(np.array(s)) for s in itertools.combinations(range(12), 4))
    assert value(batch) > 0.9 * best
    steps = [value(batch[:k]) for k in range(1, 5)]
    first = max(range(12), key=lambda n: value(np.array([n])))
    assert (batch[0], steps[0]) == (first, pytest.approx(value(np.array([first]))))
    for k in range(1, 4):  # each is the best next one
        assert steps[k] == pytest.approx(max(value(np.append(batch[:k], n)) for n in set(range(12)) - set(batch[:k])))
    assert InformationGain(x, np.zeros(12), x[:0]).greedy(20).shape == (12,)
