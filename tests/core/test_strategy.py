import logging
from dataclasses import replace

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import take_best
from al_lab.core.types import Candidates, Query

RNG = rng_for(0, 0, "select")


def ids(queries):
    return [q.sample_id for q in queries]


def test_highest_utility_first_and_labeled_images_never():
    pool = Pool(tuple("abcd")).acquire([Query("b")], 0)
    assert ids(take_best(Candidates.images("abcd", [1, 9, 3, 2]), pool, Allowance("image", 2), RNG)) == ["c", "d"]


def test_ties_are_arbitrary_but_the_order_of_the_pool_does_not_decide(caplog):
    names = [f"{k:02d}" for k in range(30)]
    with caplog.at_level(logging.WARNING):
        forward = ids(take_best(Candidates.images(names, np.zeros(30)), Pool(tuple(names)), Allowance("image", 8), RNG))
    backward = ids(
        take_best(Candidates.images(names[::-1], np.zeros(30)), Pool(tuple(names)), Allowance("image", 8), RNG)
    )
    assert forward == backward != names[:8]
    assert forward != ids(
        take_best(
            Candidates.images(names, np.zeros(30)), Pool(tuple(names)), Allowance("image", 8), rng_for(1, 0, "select")
        )
    )
    assert "30 of 30 utilities are equal" in caplog.text
    assert (
        ids(
            take_best(Candidates.images(names, np.zeros(30)), Pool(tuple(names)), Allowance("image", 3), RNG, ties="id")
        )
        == names[:3]
    )


def pixels():
    return Candidates.concat(
        [Candidates.pixels("a", (4, 4), [3, 0, 9], [1.0, 5.0, 4.0]), Candidates.pixels("b", (4, 4), [7, 2], [9.0, 2.0])]
    )


def test_pixels_of_the_whole_pool_become_one_query_an_image():
    chosen = take_best(pixels(), Pool(("a", "b")), Allowance("pixel", 3), RNG)
    assert [(q.sample_id, q.region.pixels.tolist()) for q in chosen] == [("b", [7]), ("a", [0, 9])]


def test_pixels_of_each_image():
    chosen = take_best(pixels(), Pool(("a", "b")), Allowance("pixel", 1, per_image=True), RNG)
    assert [(q.sample_id, q.region.pixels.tolist()) for q in chosen] == [("b", [7]), ("a", [0])]


def test_windows_pay_for_their_pixels():
    """3x3 windows around (2,2), (0,0), (4,4): 9, 4 and 4 pixels, each corner window sharing one with the first."""
    windows = Candidates.pixels("a", (5, 5), [12, 0, 24], [3.0, 2.0, 1.0], radius_px=1)
    assert [len(q.region) for q in take_best(windows, Pool(("a",)), Allowance("pixel", 12), RNG)] == [9]
    assert [len(q.region) for q in take_best(windows, Pool(("a",)), Allowance("pixel", 13), RNG)] == [12]
    assert [len(q.region) for q in take_best(windows, Pool(("a",)), Allowance("region", 3), RNG)] == [15]


def test_windows_pay_in_each_image_by_itself():
    """9 + 4 pixels in image a, 4 in image b; the whole windows of an image are a prefix of its order."""
    windows = Candidates.concat(
        [
            Candidates.pixels("a", (5, 5), [12, 0, 24], [3.0, 2.0, 1.0], radius_px=1),
            Candidates.pixels("b", (5, 5), [24, 12], [9.0, 8.0], radius_px=1),
        ]
    )
    chosen = take_best(windows, Pool(("a", "b")), Allowance("pixel", 12, per_image=True), RNG)
    assert [(q.sample_id, len(q.region)) for q in chosen] == [("b", 4), ("a", 9)]
    assert chosen[0].region.pixels.tolist() == [18, 19, 23, 24]
    counted = take_best(windows, Pool(("a", "b")), Allowance("region", 2, per_image=True), RNG)
    assert [(q.sample_id, len(q.region)) for q in counted] == [("b", 12), ("a", 12)]


def test_a_share_is_of_each_image():
    both = Candidates.concat(
        [Candidates.pixels("a", (4, 5), [1, 2, 3], [3.0, 2.0, 1.0]), Candidates.pixels("b", (2, 5), [7, 2], [9.0, 8.0])]
    )
    chosen = take_best(both, Pool(("a", "b")), Allowance("pixel", 0, per_image=True, share=0.1), RNG)
    assert [(q.sample_id, q.region.pixels.tolist()) for q in chosen] == [("b", [7]), ("a", [1, 2])]


def test_equal_pixels_of_an_image_keep_their_order():
    center = np.random.default_rng(0).permutation(100)
    both = Candidates.concat([Candidates.pixels(i, (10, 10), center, np.repeat([5.0, 1.0], 50)) for i in "ab"])
    for budget, num in ((Allowance("pixel", 60, per_image=True), 60), (Allowance("pixel", 100), 50)):
        chosen = take_best(both, Pool(("a", "b")), budget, RNG)
        assert [q.region.pixels.tolist() for q in chosen] == [sorted(center[:num])] * 2
    some = {q.sample_id: q.region.pixels for q in take_best(both, Pool(("a", "b")), Allowance("pixel", 40), RNG)}
    # between images it is arbitrary
    assert all(0 < len(p) < 40 and p.tolist() == sorted(center[: len(p)]) for p in some.values())


@pytest.mark.parametrize("ties", ["hash", "id"])
def test_images_come_in_the_pools_order_though_each_is_chosen_from_by_itself(ties):
    """Where everything is affordable, both ways buy the same in the same order, ties and near images included."""
    rng = np.random.default_rng(0)
    ids = tuple(f"{k:02d}" for k in range(12))
    pool = Pool(ids, apart=Apart(dict.fromkeys(ids, "video"), {i: k for k, i in enumerate(ids)}, 2))
    both = Candidates.concat([Candidates.pixels(i, (4, 4), rng.permutation(16), rng.integers(13, 16, 16)) for i in ids])
    mixed = rng.permutation(len(both))
    both = replace(both, sample=both.sample[mixed], utility=both.utility[mixed], center=both.center[mixed])
    of_pool = take_best(both, pool, Allowance("pixel", 1000), RNG, ties)
    of_each = take_best(both, pool, Allowance("pixel", 16, per_image=True), RNG, ties)
    assert ids_and_pixels(of_each) == ids_and_pixels(of_pool) and 1 < len(of_each) < 12


def ids_and_pixels(queries):
    return [(q.sample_id, q.utility, q.region.pixels.tolist()) for q in queries]


def test_a_few_equal_utilities_are_warned_of(caplog):
    names = [f"{k:02d}" for k in range(10)]

    def said(equal):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            utility = np.r_[np.zeros(equal), np.arange(10 - equal) + 1.0]
            take_best(Candidates.images(names, utility), Pool(tuple(names)), Allowance("image", 8), RNG)
        return caplog.text

    assert "3 of 10 utilities are equal" in said(3)
    assert said(2) == ""
