"""A choice from files is the choice of a campaign; random share, quotas, groups and kept labels change it."""

import numpy as np
import pytest
from PIL import Image

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.types import Candidates, Query
from al_lab.data.near_copies import MAX_BITS
from al_lab.data.predictions.views import Views
from al_lab.selection.choose import RANDOM, STRATEGY
from al_lab.stages.jobs import propose
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.entropy import Entropy
from al_lab.strategies.general.power import Power
from al_lab.strategies.general.random import Random
from al_lab.strategies.general.shortlist import Shortlist
from tests.stubs import StubDetection


def ids_of(choice, arm=None):
    return [p.sample_id for p in choice.picks if arm in (None, p.arm)]


class Photographs(StubDetection):
    """Three pictures, each of which is half the pool's or a dozen's."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.opened = folder, []

    def load_image(self, sample_id):
        self.opened.append(sample_id)
        number = int(sample_id[-3:]) % 3 if int(sample_id[-3:]) < 30 else int(sample_id[-3:])
        noise = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(noise).resize((80, 60), Image.Resampling.NEAREST))


STRATEGIES = {
    "random": lambda: Random(),
    "entropy": lambda: Entropy(aggregate="sum", min_confidence=0.1),
    "core_set": lambda: CoreSet(),
    "power": lambda: Power(Entropy()),
    "shortlist": lambda: Shortlist(Entropy(), CoreSet(), factor=2),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("seed_and_cycle", [(0, 0), (3, 2)], ids=str)
def test_it_is_what_a_campaign_would_buy(name, seed_and_cycle, views, chosen):
    seed, cycle = seed_and_cycle
    strategy, dataset = STRATEGIES[name](), StubDetection()
    labeled = dataset.pool_ids[:4]
    pool = Pool(dataset.pool_ids).acquire([Query(i) for i in labeled], -1)
    shown = [v for v in views if strategy.scores_labeled or v.sample_id not in labeled]
    budget = type("Budget", (), {"unit": "image"})()
    config = {"seed": seed}
    candidates = Candidates.concat([propose(strategy, v, pool, config, cycle, budget, dataset) for v in shown])
    queries = strategy.select(candidates, pool, Allowance("image", 5), rng_for(seed, cycle, "select"))
    mine = chosen(STRATEGIES[name](), 5, labeled, seed=seed, cycle=cycle)
    assert [(p.sample_id, p.utility) for p in mine.picks] == [(q.sample_id, q.utility) for q in queries]


def test_a_random_share_is_drawn_from_all_and_spread_among_the_others(chosen):
    plain = chosen(Entropy(), 10)
    mixed = chosen(Entropy(), 10, random_share=0.2)
    drawn = ids_of(mixed, RANDOM)
    assert len(drawn) == 2 and len(ids_of(mixed)) == len(set(ids_of(mixed))) == 10
    assert drawn == ids_of(chosen(CoreSet(), 10, random_share=0.2), RANDOM)  # whoever chooses the rest
    assert drawn != ids_of(chosen(Entropy(), 10, random_share=0.2, cycle=1), RANDOM)
    assert ids_of(mixed, STRATEGY) == [i for i in ids_of(plain) if i not in drawn][:8]
    assert [p.arm for p in mixed.picks].index(RANDOM) in (2, 3) and mixed.picks[0].arm == STRATEGY
    assert all(p.utility is None for p in mixed.picks if p.arm == RANDOM)


def test_quotas_take_images_out_of_turn_and_say_so(chosen, predictions):
    plain = chosen(Entropy(), 10)
    has = {label: lambda i, label=label: predictions.strongest([i], label)[0] >= 0.6 for label in range(3)}
    scarce = min(range(3), key=lambda label: sum(map(has[label], ids_of(plain))))
    before = sum(map(has[scarce], ids_of(plain)))
    there = sum(map(has[scarce], predictions.ids))
    assert before < there
    share = (before + 1) / 10
    mine = chosen(Entropy(), 10, quotas={scarce: share}, shows=0.6)
    assert sum(map(has[scarce], ids_of(mine))) == before + 1 == mine.got[scarce] == mine.wanted[scarce]
    assert [p.quota for p in mine.picks if p.sample_id not in ids_of(plain)] == [scarce]
    assert len(set(ids_of(plain)) & set(ids_of(mine))) == 9
    starved = chosen(Entropy(), 10, quotas={scarce: 1.0}, shows=0.95)
    assert starved.got[scarce] < starved.wanted[scarce] == 10 and len(starved.picks) == 10
    easy = chosen(Entropy(), 10, quotas={scarce: before / 10}, shows=0.6)
    assert ids_of(easy) == ids_of(plain)


def test_a_strategy_that_ranks_a_few_budgets_fills_a_quota_from_beyond(chosen, predictions):
    label = int(predictions.labels[0])
    mine = chosen(CoreSet(), 3, quotas={label: 1.0}, shows=0.6)
    assert mine.got[label] == 3 and len(mine.picks) == 3


def test_boxes_are_counted_as_the_detector_expects_them(chosen, predictions):
    mine = chosen(Entropy(aggregate="sum"), 12, unit="box")
    cost = predictions.expected(ids_of(mine))
    assert cost.sum() <= 12 < cost.sum() + predictions.expected(predictions.ids).max()
    assert ids_of(mine) == ids_of(chosen(Entropy(aggregate="sum"), len(mine.picks)))


def test_groups_and_what_is_labeled(chosen):
    class Video(StubDetection):
        def __init__(self):
            super().__init__()
            self.apart = Apart({i: "one" for i in self.pool_ids}, {i: int(i[-3:]) for i in self.pool_ids}, 5)

    mine = chosen(Entropy(), 4, labeled=StubDetection().pool_ids[:10], dataset=Video(), random_share=0.25)
    numbers = sorted(int(i[-3:]) for i in ids_of(mine))
    assert len(numbers) == 4 and min(np.diff(numbers)) >= 5 and min(numbers) >= 10


def test_near_copies_of_what_is_taken_are_passed_over(chosen, tmp_path):
    dataset = Photographs(tmp_path)
    plain = chosen(Entropy(), 8)
    mine = chosen(Entropy(), 8, dataset=dataset, near_bits=MAX_BITS)
    pictures = [int(i[-3:]) % 3 if int(i[-3:]) < 30 else int(i[-3:]) for i in ids_of(mine)]
    assert len(set(pictures)) == 8 and mine.copies and mine.picks[0] == plain.picks[0]
    assert set(mine.copies.values()) <= set(ids_of(mine))
    assert len(dataset.opened) == len(set(dataset.opened)) <= 40


def test_near_copies_by_embedding_are_passed_over_of_labeled_images_too(chosen, predictions, monkeypatch):
    best = ids_of(chosen(Entropy(), 6))
    vectors = np.eye(len(predictions.ids), dtype=np.float32)
    at = predictions.embedded
    vectors[at[best[1]]] = 3 * vectors[at[best[0]]] + 0.01  # as a copy in other light: longer, and nearly parallel
    vectors[at[best[3]]] = vectors[at[predictions.ids[-1]]]
    monkeypatch.setitem(vars(predictions), "embedding", vectors)
    mine = chosen(Entropy(), 3, labeled=predictions.ids[-1:], near_cosine="auto")
    assert predictions.ids[-1] not in best and ids_of(mine) == [best[0], best[2], best[4]]
    assert mine.copies == {best[1]: best[0], best[3]: predictions.ids[-1]}
    assert mine.near_cosine == pytest.approx(0.84)  # strangers are at right angles: 0.4 of their distance
    assert ids_of(chosen(Entropy(), 4, near_cosine=1.0, labeled=[])) == best[:4]  # rounding is no copy
    assert ids_of(chosen(Entropy(), 4)) == best[:4]


def test_images_without_an_embedding_are_counted_not_refused(chosen, predictions, monkeypatch):
    some = {i: n for i, n in predictions.embedded.items() if n % 2}
    monkeypatch.setitem(vars(predictions), "embedded", some)
    mine = chosen(Entropy(), 4, near_cosine=0.9999)
    assert mine.num_without == len(predictions.ids) - len(some) and len(mine.picks) == 4
    assert chosen(Entropy(), 4).num_without == 0  # nobody looked


def test_kept_labels_are_asked_about_only_as_far_as_needed(chosen):
    class Store:
        is_empty, count = False, 1

        def __init__(self, known):
            self.known, self.asked = known, []

        def has(self, i):
            self.asked.append(i)
            return i in self.known

    best = ids_of(chosen(Entropy(), 6))
    store = Store({best[0]})
    assert ids_of(chosen(Entropy(), 5, known=store)) == best[1:]
    assert set(store.asked) < set(StubDetection().pool_ids)
    store = Store({best[0]})
    assert best[0] not in ids_of(chosen(CoreSet(), 40, known=store))
    assert set(store.asked) >= set(StubDetection().pool_ids)  # they are centers


def test_nothing_left_is_a_sentence(chosen):
    with pytest.raises(ConfigError, match="expected images to choose from, got none: all 40 are labeled"):
        chosen(Entropy(), 5, labeled=StubDetection().pool_ids)


def test_views_have_what_is_asked_for(predictions):
    bare = Views(predictions, StubDetection(), ())("img/001")
    assert bare.detections is None and bare.embedding is None and bare.size_hw is None
    seen = Views(predictions, StubDetection(), ("class_probs", "image_embedding"), has_sizes=True)("img/001")
    assert len(seen.detections) == predictions.counts(["img/001"])[0] and seen.size_hw == (60, 80)
    assert np.array_equal(seen.embedding, predictions.embedding[1])
