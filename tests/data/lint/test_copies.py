"""What repeats something: the better ranked and the labeled one stay, in either way of looking."""

import numpy as np
import pytest

from al_lab.data.lint.copies import Copies, Copy, copies_by_print, copies_by_vector, joined
from al_lab.data.near_vectors import unit


def prints_of(seeds):
    opened = []

    def of(sample_id):
        opened.append(sample_id)
        seed = seeds[sample_id]
        return None if seed is None else np.random.default_rng(seed).integers(0, 2**16, 16).astype(np.uint16)

    return of, opened


def test_by_fingerprint_ranks_decide_and_labeled_images_come_first():
    seeds = {"a": 1, "b": 2, "c": 1, "d": 3, "e": None, "old": 3, "older": 3}
    found = copies_by_print(["c", "a", "b", "d", "e"], ["old", "older"], prints_of(seeds)[0], 99, 31)
    assert [(c.sample_id, c.is_labeled) for c in found.found] == [("a", False), ("d", True)]
    assert found.found[0] == Copy("a", "c", False, "0 of 256 bits differ") and found.found[1].like in ("old", "older")
    assert (found.num_opened, found.num_labeled_opened, found.num_labeled) == (5, 2, 2)


def test_no_more_images_are_opened_than_asked_for():
    seeds = {str(n): n for n in range(100)}
    of, opened = prints_of(seeds)
    found = copies_by_print([str(n) for n in range(6)], [str(n) for n in range(10, 90)], of, 10, 31)
    assert len(opened) == 10 and (found.num_opened, found.num_labeled_opened, found.num_labeled) == (6, 4, 80)
    of, opened = prints_of(seeds)
    assert copies_by_print([str(n) for n in range(6)], ["10"], of, 4, 31).num_opened == 4 == len(opened)


def test_by_embedding_with_the_share_of_random_selections():
    rng = np.random.default_rng(0)
    x_NE = unit(rng.normal(size=(200, 32)))
    x_NE[1], x_NE[3] = x_NE[0], x_NE[199]
    old = unit(x_NE[2:3] + 0.01)
    found = copies_by_vector(x_NE, [str(n) for n in range(200)], np.array([1, 4, 0, 2, 3]), old, ["old"], 0.95, 0)
    assert [(c.sample_id, c.like, c.is_labeled) for c in found.found] == [("0", "1", False), ("2", "old", True)]
    assert found.measure.value == pytest.approx(40) and found.measure.mean < 10 and found.measure.percentile == 0
    assert found.min_cosine == 0.95


def test_an_image_counts_once():
    one = Copies([Copy("b", "a", False, "bits")], 9, 8, 7)
    other = Copies([Copy("b", "c", True, "cosine"), Copy("a", "c", True, "cosine")], min_cosine=0.9)
    both = joined(one, other, {"a": 0, "b": 1})
    assert [(c.sample_id, c.what) for c in both.found] == [("a", "cosine"), ("b", "bits")]
    assert (both.num_opened, both.num_labeled_opened, both.num_labeled, both.min_cosine) == (9, 8, 7, 0.9)
