import dataclasses

import numpy as np

from al_lab.core.types import ImageView
from al_lab.strategies.general.random import Random


def test_every_image_is_as_likely(context) -> None:
    u = [Random().propose(ImageView(f"{k}"), context(sample_id=f"{k}")).utility[0] for k in range(400)]
    assert abs(np.mean(u) - 0.5) < 0.05
    assert len(set(u)) == 400


def test_pixels_are_open_ones_each_once(dense_view, context) -> None:
    some = dataclasses.replace(dense_view, probs=None, bought=np.array([[True, False], [False, False]]))
    assert sorted(Random().propose(some, context(9)).center.tolist()) == [1, 2, 3]
    firsts = {int(Random().propose(some, context(1, seed=s)).center[0]) for s in range(40)}
    assert firsts == {1, 2, 3}
    assert len(Random().propose(dataclasses.replace(some, bought=np.ones((2, 2), bool)), context(9))) == 0
