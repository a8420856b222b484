"""PM's choice: the pool's z-score, whatever the order of the pool."""

import numpy as np
import pytest

from al_lab.acquisition.boxes.mixture import NOTHING
from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, ImageView
from al_lab.strategies.rivals.pm import Pm

VALUES = {
    "a": np.array([[0.2, 0.01, 0.3, 0.02], [0.4, 0.03, 0.1, 0]]),
    "b": np.array([[0.9, 0.02, 0.2, 0.05]]),
    "c": np.zeros((0, 4)),
}


def proposed(order: str) -> Candidates:
    strategy = Pm()
    return Candidates.concat(
        [
            strategy.propose(ImageView(i, extras={"box_mixture": VALUES[i]}), context_for(0, 0, i, "image"))
            for i in order
        ]
    )


@pytest.mark.parametrize("order", ["abc", "cba"])
def test_images_are_ranked_by_the_kind_that_stands_out_most(order: str) -> None:
    queries = Pm().select(proposed(order), Pool(("a", "b", "c")), Allowance("image", 3), Rng(0))
    assert [q.sample_id for q in queries] == ["b", "a", "c"]
    assert [q.utility for q in queries] == pytest.approx([1.358732, 1.224745, NOTHING], abs=1e-6)


def test_a_pool_without_detections_is_bought_all_the_same() -> None:
    strategy = Pm()
    found = Candidates.concat(
        [
            strategy.propose(ImageView(i, extras={"box_mixture": np.zeros((0, 4))}), context_for(0, 0, i, "image"))
            for i in "abcd"
        ]
    )
    assert len(strategy.select(found, Pool(tuple("abcd")), Allowance("image", 3), Rng(0))) == 3
