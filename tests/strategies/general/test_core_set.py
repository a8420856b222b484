"""Vector TV2 of the MGRAL fact sheet, through the strategy."""

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import DataError
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.types import Candidates, ImageView, Query
from al_lab.strategies.general.core_set import CoreSet

TV2 = np.array([(0, 0), (1, 0), (0, 2), (5, 5), (6, 5), (5, 7), (-4, 1), (9, 0)], np.float32)
IDS = tuple("abcdefgh")
RNG = rng_for(0, 0, "select")


def proposed(strategy: CoreSet, features: np.ndarray, context) -> Candidates:
    return Candidates.concat(
        [strategy.propose(ImageView(i, embedding=x), context(sample_id=i)) for i, x in zip(IDS, features, strict=True)]
    )


def test_labeled_images_are_the_first_centers(context) -> None:
    pool = Pool(IDS).acquire([Query("a")], -1)
    queries = CoreSet(ties="id").select(proposed(CoreSet(), TV2, context), pool, Allowance("image", 4), RNG)
    assert [q.sample_id for q in queries] == ["h", "f", "g", "e"]
    assert [q.utility for q in queries] == pytest.approx([9, 8.062258, 4.123106, 2.236068])


def test_normalized_embeddings_differ_by_direction_only(context) -> None:
    features = TV2 + 10
    features[3] *= 100
    pool = Pool(IDS).acquire([Query("e")], -1)
    raw, unit = (
        CoreSet(normalize=n).select(proposed(CoreSet(), features, context), pool, Allowance("image", 1), RNG)[0]
        for n in (False, True)
    )
    assert raw.sample_id == "d"
    assert unit.sample_id == "g"


def test_an_empty_labeled_set_starts_at_random_by_seed(context) -> None:
    candidates = proposed(CoreSet(), TV2, context)
    firsts = {
        CoreSet().select(candidates, Pool(IDS), Allowance("image", 1), rng_for(s, 0, "select"))[0].sample_id
        for s in range(12)
    }
    assert len(firsts) > 1


def test_an_embedding_that_is_not_finite_is_named(context) -> None:
    broken = TV2.copy()
    broken[5, 1] = np.nan
    with pytest.raises(DataError, match="first of sample 'f'"):
        CoreSet().select(proposed(CoreSet(), broken, context), Pool(IDS), Allowance("image", 1), RNG)
