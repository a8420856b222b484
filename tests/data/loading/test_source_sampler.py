from collections import Counter

import numpy as np
import pytest

from al_lab.core.errors import DataError
from al_lab.data.loading.source_sampler import BLOCK, BalancedSource, PlainSource, class_weights

# 90 images of class 0, 10 of class 1, nothing of class 2.
DISJOINT = {f"source/{k:03d}": (int(k >= 90),) for k in range(100)}


def test_weights_of_the_fact_sheet():
    """Density Matters fact sheet, 2.3."""
    weights = class_weights(np.array([5, 3, 0]))
    assert weights == pytest.approx([2.033997, 3.070309, 100.499171], abs=1e-5)
    assert weights / weights.sum() == pytest.approx([0.019261, 0.029074, 0.951665], abs=1e-6)
    assert class_weights(np.zeros(3, np.int64)) == pytest.approx([100.499171] * 3, abs=1e-5)


def test_classes_are_balanced_and_their_files_take_turns():
    sampler = BalancedSource(DISJOINT, 3, seed=0)
    drawn = Counter(sampler.ids(0, BLOCK))
    rare = [drawn[i] for i in DISJOINT if i >= "source/090"]
    frequent = [drawn[i] for i in DISJOINT if i < "source/090"]
    assert sum(rare) == pytest.approx(BLOCK / 2, abs=30)
    assert max(rare) - min(rare) <= 1
    assert max(frequent) - min(frequent) <= 1


def test_an_image_counts_for_every_class_in_it():
    """Class 2 comes with class 0 in every file of its own, so it is drawn by itself less than a third of the time."""
    both = {f"source/a{k}": (0, 2) for k in range(10)} | {f"source/b{k}": (1,) for k in range(10)}
    drawn = BalancedSource(both, 3, seed=1).ids(0, BLOCK)
    share = np.mean([i.startswith("source/b") for i in drawn])
    assert 0.38 < share < 0.5  # by number of classes alone it would be 1/3


def test_steps_are_a_pure_function_of_the_seed():
    forward, later = BalancedSource(DISJOINT, 3, seed=4), BalancedSource(dict(reversed(DISJOINT.items())), 3, seed=4)
    steps = [0, 1, 1499, 1500, 3200]
    ids = [forward.ids(s, 2) for s in steps]
    assert [later.ids(s, 2) for s in reversed(steps)] == ids[::-1]
    assert BalancedSource(DISJOINT, 3, seed=5).ids(0, 20) != forward.ids(0, 20)
    assert forward.ids(0, 4) == forward.ids(0, 2) + forward.ids(1, 2)


def test_without_balance_every_image_comes_once_a_pass():
    sampler = PlainSource(list(DISJOINT), seed=0)
    first, second = sampler.ids(0, 100), sampler.ids(1, 100)
    assert sorted(first) == sorted(second) == sorted(DISJOINT)
    assert first != second


def test_labels_without_classes_are_refused():
    with pytest.raises(DataError, match="void everywhere"):
        BalancedSource({"source/a": ()}, 3, seed=0)
