"""D2ADA's selection: the sheet's vectors that need segments, and its budget's split."""

import dataclasses

import numpy as np
import pytest
import torch

from al_lab.acquisition.domains.density_difference import density_difference, round_robin
from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.types import Candidates, DenseView
from al_lab.strategies.segmentation.d2ada import D2ada, _classes
from tests.stubs import FakeSegmenter, StubDense

IDS = StubDense().pool_ids


def views(ids, state="trained"):
    data, learner = StubDense(), FakeSegmenter(3)
    learner.state = state
    return [dataclasses.replace(v, segments=data.segment_map(v.sample_id)) for v in learner.views(ids, ())]


def restored(strategy, folder):
    parts = [strategy.of_source(v, np.zeros((24, 32), np.uint8)) for v in views(StubDense().source_ids)]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(folder / "source.npz", **strategy.summary(rows, Rng(0)))
    strategy.restore(folder)
    return rows


def proposed(strategy, context, cycle=0, bought=None):
    parts = []
    for view in views(IDS):
        seen = dataclasses.replace(view, bought=(bought or {}).get(view.sample_id))
        parts.append(strategy.propose(seen, dataclasses.replace(context(9, unit="segment"), cycle=cycle)))
    return Candidates.concat(parts).with_maps(StubDense().segment_map)


def chosen(queries):
    """(id, segment) in the order of purchase within an image."""
    return {(q.sample_id, int(s)) for q in queries for s in np.unique(q.region.segments)}


def test_v5_the_class_is_of_the_mean_probability():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.45, 0.3, 0.25]]).T[:, None]
    view = DenseView("a", (1, 4), p, segments=np.zeros((1, 4), np.int16))
    assert _classes(view).tolist() == [0] and p[:, 0].argmax(0).tolist() == [0, 1, 0, 0]


def test_first_query_goes_by_densities_alone(context, tmp_path):
    """Mixtures, order and turns again by hand, on all segments, open or not."""
    strategy = D2ada(kept=5)
    rows = restored(strategy, tmp_path)
    map_HW = StubDense().segment_map(IDS[0])
    bought = {IDS[0]: map_HW == 3}
    found = proposed(strategy, context, 0, bought)
    rng = Rng(0)
    queries = strategy.select(found, Pool(IDS), Allowance("segment", 9), rng)
    label, features = found.columns["label"], found.columns["features"]
    names = np.asarray(found.sample_ids)[found.sample]
    is_open = ~((names == IDS[0]) & (found.segment == 3))
    ranked, turns = {}, {}
    for c in range(3):
        mine = np.flatnonzero((label == c) & is_open)
        seed = rng.child("mixture", c).seed() % 2**32
        score = density_difference(rows["features"][rows["label"] == c], features[label == c], features[mine], seed)
        ranked[c] = mine[np.argsort(score, kind="stable")[:5]].tolist()
        turns[c] = max(1, int(np.log10(abs(score.mean()))))
    order = round_robin(ranked, turns)[:9]
    assert chosen(queries) == {(names[n], int(found.segment[n])) for n in order}


def test_later_queries_spend_less_by_density_and_all_of_the_budget(context, tmp_path):
    strategy = D2ada()
    restored(strategy, tmp_path)
    found = {cycle: proposed(strategy, context, cycle) for cycle in (1, 3)}
    pool, allowance = Pool(IDS), Allowance("segment", 16)
    unsure = np.argsort(-found[1].utility, kind="stable")
    names = np.asarray(found[1].sample_ids)[found[1].sample]
    top = {cycle: chosen(strategy.select(f, pool, allowance, Rng(0))) for cycle, f in found.items()}
    assert len(top[1]) == len(top[3]) == 16
    # half, then seven eighths, are the most unsure of those that densities left over
    for cycle, least in ((1, 8), (3, 14)):
        best = {(names[n], int(found[1].segment[n])) for n in unsure[:16]}
        assert len(best & top[cycle]) >= least


def test_v6_a_budget_of_pixels_is_never_exceeded(context, tmp_path):
    strategy = D2ada()
    restored(strategy, tmp_path)
    found = proposed(strategy, context)
    area = int(found.cost.max())
    for amount in (area - 1, 2 * area + 1, 10**6):
        queries = strategy.select(found, Pool(IDS), Allowance("pixel", amount), Rng(0))
        spent = sum(len(q.region) for q in queries)
        assert amount - 2 * area < spent <= amount or amount == 10**6
    assert spent == len(IDS) * 24 * 32


@pytest.mark.parametrize("released", [True, False])
def test_released_turns_leave_classes_out_but_end(context, tmp_path, released):
    strategy = D2ada(released=released)
    restored(strategy, tmp_path)
    queries = strategy.select(proposed(strategy, context), Pool(IDS), Allowance("segment", 10), Rng(0))
    assert len(chosen(queries)) == 10
