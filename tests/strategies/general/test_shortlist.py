import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import Strategy, context_for
from al_lab.core.types import Candidates, Detections, ImageView, Query
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.entropy import Entropy
from al_lab.strategies.general.random import Random
from al_lab.strategies.general.replay import Replay
from al_lab.strategies.general.shortlist import Shortlist

# confidence and embedding of each image; entropies fall from a to f
SEEN = {"a": (0.50, 0.0), "b": (0.55, 0.1), "c": (0.60, 5.0), "d": (0.65, 9.0), "e": (0.9, 50.0), "z": (0.95, 0.0)}


def view(i):
    confidence, place = SEEN[i]
    s = np.array([confidence], np.float32)
    box = Detections(np.zeros((1, 4), np.float32), s, np.zeros(1, np.int64), s[:, None], "sigmoid")
    return ImageView(i, (9, 9), box, np.array([place], np.float32))


def choose(strategy, amount, pool=None, labeled=("z",)):
    pool = pool or Pool(tuple(SEEN)).acquire([Query(i) for i in labeled], -1)
    ids = pool.in_use() if strategy.scores_labeled else pool.unlabeled()
    parts = [strategy.propose(view(i), context_for(0, 0, i, "image", is_labeled=i in labeled)) for i in ids]
    queries = strategy.select(Candidates.concat(parts), pool, Allowance("image", amount), rng_for(0, 0, "select"))
    return [q.sample_id for q in queries]


def test_the_list_is_of_the_most_uncertain_and_variety_chooses_from_it():
    strategy = Shortlist(Entropy(), CoreSet(), factor=2)
    assert choose(strategy, 2) == ["d", "c"]  # of a, b, c, d those far from z and each other; e is farthest, and sure
    assert choose(Shortlist(Entropy(), CoreSet(), factor=1), 2) == ["b", "a"]
    assert choose(Shortlist(Entropy(), CoreSet(), factor=9), 1) == ["e"]


def test_the_list_is_long_enough_for_groups_that_stay_apart():
    pool = Pool(tuple(SEEN), apart=Apart({i: "abcd" if i in "abcd" else i for i in SEEN}))
    assert len(choose(Shortlist(Entropy(), CoreSet(), factor=1), 3, pool, labeled=())) == 3


def test_needs_and_reasons_of_both():
    strategy = Shortlist(Entropy(), CoreSet())
    assert set(strategy.needs_for("image")) == {"class_probs", "image_embedding"} and strategy.scores_labeled
    assert not Shortlist(Entropy(), Random()).scores_labeled
    reason = strategy.explain(view("a"), context_for(0, 0, "a", "image"), ("cat",), 2.0)
    assert reason.words == "on the list for its only box: cat 0.50; 2 away from everything labeled or chosen before it"
    assert reason.parts["of"] == pytest.approx(np.log(2)) and reason.parts["of_boxes"] == 1


def test_draws_of_two_random_steps_are_not_the_same():
    first = [choose(Shortlist(Random(), Random(), factor=f), 2) for f in (1, 2)]
    assert sorted(first[0]) != sorted(first[1])


def test_what_has_stages_of_its_own_is_refused(tmp_path):
    (tmp_path / "s.json").write_text('{"purchases": []}')
    with pytest.raises(ConfigError, match="strategy.then: expected a strategy without stages, got Replay"):
        Shortlist(Entropy(), Replay(str(tmp_path / "s.json")))


def test_two_strategies_that_keep_different_things_under_one_name_are_refused():
    class Keeps(Strategy):
        def __init__(self, value):
            self.value = value

        def propose(self, view, ctx):
            return Candidates.images([view.sample_id], [0.0], kept=[self.value])

    with pytest.raises(ConfigError, match="two different ones called 'kept'"):
        Shortlist(Keeps(1), Keeps(2)).propose(view("a"), context_for(0, 0, "a", "image"))
    Shortlist(Keeps(1), Keeps(1)).propose(view("a"), context_for(0, 0, "a", "image"))
