"""Rows of images in one table: there and back, joined, picked, and refused when damaged."""

import numpy as np
import pytest

from al_lab.core.errors import ResumeError
from al_lab.strategies.rivals._two_pass import Rows


def rows(*counts, first=0):
    draw = np.random.default_rng(first)
    return Rows.of_images(
        {
            f"i{first + n}": (draw.integers(0, 5, count), draw.random(count), draw.normal(size=(count, 3)))
            for n, count in enumerate(counts)
        }
    )


def same(a, b):
    return a.ids == b.ids and all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("start", "label", "confidence", "feature")
    )


def test_there_and_back(tmp_path):
    table = rows(2, 0, 3)
    table.save(tmp_path / "x.npz")
    assert same(Rows.load(tmp_path / "x.npz"), table)
    assert table.feature.dtype == np.float16 and table.start.tolist() == [0, 2, 2, 5]


def test_parts_are_joined_and_images_picked_in_any_order():
    a, b = rows(2, 0, 3), rows(1, 2, first=3)
    both = Rows.concat([a, b])
    assert both.ids == ("i0", "i1", "i2", "i3", "i4") and len(both.label) == 8
    assert same(both.of(a.ids), a)
    turned = both.of(["i4", "nobody", "i0"])
    assert turned.start.tolist() == [0, 2, 2, 4]
    assert np.array_equal(turned.label, np.concatenate([b.label[1:], a.label[:2]]))
    assert Rows.concat([]).of(["i0"]).start.tolist() == [0, 0]


def test_a_table_that_does_not_add_up_is_refused(tmp_path):
    table = rows(2, 1)
    columns = {
        "ids": np.array(table.ids),
        "label": table.label,
        "confidence": table.confidence,
        "feature": table.feature,
    }
    for count, what in (([2, 2], "3 rows for 4"), ([4, -1], "expected the rows")):
        np.savez(tmp_path / "x.npz", count=np.array(count), **columns)
        with pytest.raises(ResumeError, match=what):
            Rows.load(tmp_path / "x.npz")
