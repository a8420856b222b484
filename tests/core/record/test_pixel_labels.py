"""Answers about pixels: what is laid over what, what comes back from a file, and what a damaged file is called."""

import json
from pathlib import Path

import numpy as np
import pytest

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED, VOID, PixelLabels
from al_lab.core.types import Region

ONE = PixelLabels(np.array([[0, 1, UNANSWERED], [NO_CLASS, UNANSWERED, 2]], np.uint8))


def entry(value: dict) -> Entry:
    return Entry(value, Source(Path("a.json"), "a label map"), "pixels")


def test_the_newer_answer_lies_on_top_and_silence_changes_nothing():
    newer = PixelLabels(np.array([[2, UNANSWERED, 1], [UNANSWERED, UNANSWERED, UNANSWERED]], np.uint8))
    both = newer.over(ONE)
    assert both.map_HW.tolist() == [[2, 1, 1], [NO_CLASS, UNANSWERED, 2]]
    assert newer.contradicts(ONE) and not both.contradicts(newer)
    assert (both.num_answered, ONE.num_answered) == (5, 4)


def test_none_of_the_classes_is_an_answer_and_void_for_training():
    assert ONE.label_map().tolist() == [[0, 1, VOID], [VOID, VOID, 2]]
    region = Region(np.array([2, 3, 5]), (2, 3))
    assert ONE.within(region).map_HW.tolist() == [[UNANSWERED] * 3, [NO_CLASS, UNANSWERED, 2]]
    assert not ONE.covers(region) and ONE.covers(Region(np.array([0, 3]), (2, 3)))


def test_a_class_that_is_not_asked_for_is_none_of_them():
    seen = ONE.for_classes(("cat", "dog", "cow"), ("cow", "cat"))
    assert seen.map_HW.tolist() == [[1, NO_CLASS, UNANSWERED], [NO_CLASS, UNANSWERED, 0]]


def test_it_comes_back_from_a_file():
    value = json.loads(json.dumps(ONE.to_json()))
    assert PixelLabels.from_json(entry(value), 3).same_as(ONE)
    with pytest.raises(DataError, match=r"pixels.map: expected labels below 2, got 2"):
        PixelLabels.from_json(entry(value), 2)


def test_the_largest_map_there_may_be_is_read(monkeypatch):
    monkeypatch.setattr("al_lab.core.record.pixel_labels._LARGEST", 6)
    assert PixelLabels.from_json(entry(ONE.to_json())).same_as(ONE)
    monkeypatch.setattr("al_lab.core.record.pixel_labels._LARGEST", 5)
    with pytest.raises(DataError, match="at most 5 pixels, got 2 x 3"):
        PixelLabels.from_json(entry(ONE.to_json()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size_hw": [2, 4]}, "a label for each of 8 pixels"),
        ({"size_hw": [1, 3]}, "a label for each of 3 pixels"),
        ({"size_hw": [10**6, 10**6]}, "at most"),
        ({"map": "AAAA"}, "a damaged one"),
        ({"map": "not base 64!"}, "a damaged one"),
        ({"map": "!" + ONE.to_json()["map"]}, "a damaged one"),  # what base 64 is not isn't skipped
        ({"map": 3}, "a packed label map, got 3"),
    ],
)
def test_what_is_damaged_is_named(change, said):
    with pytest.raises(DataError, match=f"a.json: pixels.*{said}"):
        PixelLabels.from_json(entry(ONE.to_json() | change))
