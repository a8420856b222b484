"""ReDAL on images."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import Candidates, DenseView
from al_lab.strategies.general.entropy import Entropy
from al_lab.strategies.segmentation.badge_segments import BadgeSegments
from al_lab.strategies.segmentation.redal import Redal
from tests.stubs import FakeSegmenter, StubDense

IDS = tuple(f"frame/{k}" for k in range(12))


def shown() -> list[DenseView]:
    world, learner = StubDense(), FakeSegmenter(3)
    return [
        dataclasses.replace(v, segments=world.segment_map(v.sample_id), image=world.load_image(v.sample_id))
        for v in learner.views(IDS, learner.provides)
    ]


def candidates(strategy: Redal | Entropy | BadgeSegments, unit: str = "segment") -> Candidates:
    context = [ProposeContext(100, unit, rng_for(0, 0, "score").child(v.sample_id)) for v in shown()]
    found = [strategy.propose(v, c) for v, c in zip(shown(), context, strict=True)]
    return Candidates.concat(found).with_maps(StubDense().segment_map)


def test_entropy_of_pixels_and_edges() -> None:
    """V1."""
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.05, 0.9, 0.05]]).T.reshape(3, 1, 3)
    view = DenseView("a", (1, 3), probs, torch.zeros(2, 1, 1), segments=np.array([[0, 1, 2]], np.int16))
    context = ProposeContext(1, "segment", rng_for(0, 0, "score"))
    plain = Redal(edge_weight=0.0).propose(view, context).utility
    assert plain.tolist() == pytest.approx([0.385593, 0.507309, 0.189665], abs=1e-6)
    one = dataclasses.replace(view, segments=np.zeros((1, 3), np.int16))
    mean = Redal(edge_weight=0.0).propose(one, context).utility
    edge = np.array([0, 1, 0])
    assert mean + 0.05 * edge.mean() == pytest.approx([0.377523], abs=1e-6)
    assert mean + 0.05 * (255 * edge).mean() == pytest.approx([4.610856], abs=1e-6)


def test_edges_of_the_image_count(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = np.zeros((24, 32), bool)
    edges[:6, :5] = True
    monkeypatch.setattr("al_lab.strategies.segmentation.redal.edge_map", lambda image: edges)
    view, context = shown()[0], ProposeContext(1, "segment", rng_for(0, 0, "score"))
    more = Redal(edge_weight=0.5).propose(view, context).utility - Redal(edge_weight=0.0).propose(view, context).utility
    share = np.bincount(view.segments.reshape(-1), edges.reshape(-1)) / np.bincount(view.segments.reshape(-1))
    assert more == pytest.approx(0.5 * share)


def test_without_decay_and_edges_it_is_the_entropy_of_segments() -> None:
    """Test (c)."""
    allowance = Allowance("segment", 30)
    found = []
    for strategy in (Redal(edge_weight=0.0, decay=1.0), Entropy()):
        queries = strategy.select(candidates(strategy), Pool(IDS), allowance, rng_for(0, 0, "select"))
        found.append({q.sample_id: q.region.pixels.tolist() for q in queries})
    assert found[0] == found[1]


def test_decay_spreads_the_choice_over_clusters() -> None:
    def share_of_the_largest(decay: float) -> float:
        strategy = Redal(edge_weight=0.0, decay=decay, clusters=4)
        some = candidates(strategy)
        # one cluster is a little less sure than all the others
        first = some.sample < 4
        features = np.where(first[:, None], 5.0, np.random.default_rng(0).normal(size=(len(some), 3)) * 0.01)
        features[~first] += np.eye(3)[some.sample[~first] % 3] * 9
        some = dataclasses.replace(some, utility=some.utility + 0.1 * first, columns={"features": features})
        queries = strategy.select(some, Pool(IDS), Allowance("segment", 40), rng_for(0, 0, "select"))
        counts = [
            len(np.unique(q.region.segments)) * (int(q.sample_id[-1]) < 4 and len(q.sample_id) == 7) for q in queries
        ]
        return sum(counts) / 40

    assert share_of_the_largest(1.0) == 1.0 and share_of_the_largest(0.9) < 0.7


@pytest.mark.parametrize("strategy", [Redal(), BadgeSegments()])
def test_pixels_are_paid_and_never_exceeded(strategy: Redal | BadgeSegments) -> None:
    """Test (g): segments have 30 or 36 pixels, some twice that."""
    for amount in (31, 32, 500, 10**6):
        queries = strategy.select(
            candidates(strategy, "pixel"), Pool(IDS), Allowance("pixel", amount), rng_for(0, 0, "select")
        )
        spent = sum(len(q.region) for q in queries)
        assert spent <= amount and (spent > min(amount, 12 * 24 * 32) - 64)


def test_exact_money_stops_before_the_segment_it_cannot_pay() -> None:
    """V6 of D2ADA: 5 % of 1024 x 2048 pixels are 104,857; of two segments of 52,000 and 60,000 one is bought."""
    segments = np.zeros((40, 2800), np.int16).reshape(-1)
    segments[52_000:] = 1
    found = Candidates.segments("a", segments.reshape(40, 2800), [0, 1], [0.9, 0.8])
    assert found.cost.tolist() == [52_000, 60_000]
    queries = Entropy().select(
        found.with_maps(lambda _: segments.reshape(40, 2800)),
        Pool(("a",)),
        Allowance("pixel", 104_857),
        rng_for(0, 0, "select"),
    )
    assert [len(q.region) for q in queries] == [52_000]


def test_badge_picks_the_longest_gradient_then_what_is_far() -> None:
    """The older sheet's vector: lengths .374166, 1.476482, 1.143154; the next pick is 0 with probability .676227."""
    strategy = BadgeSegments()
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.34, 0.33, 0.33]]).T.reshape(3, 1, 3)
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]).T.reshape(2, 1, 3)
    segments = np.array([[0, 1, 2]], np.int16)
    view = DenseView("a", (1, 3), probs, features, segments=segments)
    found = strategy.propose(view, ProposeContext(3, "segment", rng_for(0, 0, "score")))
    assert found.utility.tolist() == pytest.approx([0.374166, 1.476482, 1.143154], abs=1e-6)
    seconds = []
    for seed in range(60):
        queries = strategy.select(
            found.with_maps(lambda _: segments), Pool(("a",)), Allowance("segment", 2), rng_for(seed, 0, "select")
        )
        picked = set(queries[0].region.segments.tolist())
        assert 1 in picked
        seconds.append((picked - {1}).pop())
    assert 0.5 < seconds.count(0) / 60 < 0.85


def test_more_picks_begin_with_the_same_ones() -> None:
    strategy = BadgeSegments()
    some = candidates(strategy)
    bought = [
        {(q.sample_id, s) for q in strategy.select(some, Pool(IDS), Allowance("segment", n), rng_for(0, 0, "select"))
         for s in q.region.segments.tolist()}
        for n in (5, 20, 80)
    ]  # fmt: skip
    assert all(a < b for a, b in pairwise(bought))
