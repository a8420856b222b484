"""Typed fields: every kind takes what it says, returns what was meant, and has a whole sentence for the rest."""

import math

import numpy as np
import pytest

from al_lab.core.errors import ConfigError, DataError
from al_lab.core.fields import (
    LONGEST_TEXT,
    at_least,
    below_one,
    between,
    class_name,
    flag,
    fraction,
    identifier,
    integer,
    list_of,
    mapping_of,
    not_negative,
    number,
    number_in,
    one_of,
    optional,
    path_below,
    positive,
    share,
    text,
    written,
)

NO_NUMBERS = [None, True, False, math.nan, math.inf, -math.inf, 10**400, "1", "", [], {}, [1], 1j]
TAKEN = [
    (integer, 0, 0),
    (integer, np.int32(7), 7),
    (integer, -(2**63), -(2**63)),
    (number, 3, 3.0),
    (number, np.float32(0.5), 0.5),
    (positive, 1e-30, 1e-30),
    (not_negative, 0, 0.0),
    (fraction, 1, 1.0),
    (fraction, 0, 0.0),
    (share, 1, 1.0),
    (below_one, 0, 0.0),
    (below_one, 0.5, 0.5),
    (at_least(1), 1, 1),
    (between(0, 255), 255, 255),
    (number_in(-1, 1), -1, -1.0),
    (one_of("sgd", "adamw"), "adamw", "adamw"),
    (text, "a b", "a b"),
    (class_name, "traffic light", "traffic light"),
    (identifier, "img_001", "img_001"),
    (path_below, "a" * 255, "a" * 255),
    (path_below, "b/c.png", "b/c.png"),
    (written(integer), " 7 ", 7),
    (written(number), "-1.5e1", -15.0),
    (identifier, 2**70, 2**70),
    (list_of(number, length=2), (1, 2), [1.0, 2.0]),
    (mapping_of(integer), {"a": 1}, {"a": 1}),
    (optional(positive), None, None),
    (optional(positive), 2, 2.0),
    *((flag, v, True) for v in (1, True, "1", "true", " True ", 1.0)),
    *((flag, v, False) for v in (0, False, "0", "false", "FALSE", 0.0)),
]
REFUSED = [
    *((kind, v) for kind in (integer, number, positive, fraction, at_least(0)) for v in NO_NUMBERS),
    (integer, 1.5),
    (integer, 3.0),
    (integer, 2**63),
    (integer, -(2**63) - 1),
    (below_one, 1),
    (below_one, -1e-9),
    (positive, 0),
    (not_negative, -1e-9),
    (fraction, 1.0001),
    (share, 0),
    (at_least(1), 0),
    (between(0, 255), 256),
    (number_in(-1, 1), 1.5),
    (one_of(1, 2), True),
    (one_of("a"), "b"),
    *((text, v) for v in (None, 3, "", "  ", "a\0b", "\ud800", "x" * (LONGEST_TEXT + 1), ["a"])),
    *((path_below, v) for v in ("a" * 256, "b/" * 1100 + "c", "../a", "/a", "c:/a")),
    *((written(integer), v) for v in (7, None, "", "seven", "1.5", "1" * 401)),
    *((class_name, v) for v in (None, math.nan, True, "", "nan", "None", "a\nb")),
    *((identifier, v) for v in (None, True, math.nan, math.inf, [], {})),
    *((flag, v) for v in (None, 2, -1, 0.5, math.nan, "yes", "", "2", [], {})),
    *((list_of(number), v) for v in (None, "12", {"a": 1}, 3, [1, None])),
    (list_of(number, length=4), [1, 2, 3]),
    (list_of(number, least=1), []),
    *((mapping_of(integer), v) for v in (None, [], {"a": "b"}, {"": 1}, {3: 1})),
    (optional(positive), 0),
]


@pytest.mark.parametrize(("kind", "value", "expected"), TAKEN)
def test_taken(kind, value, expected):
    found = kind(value, "here")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_refused(kind, value):
    with pytest.raises(ConfigError, match=r"^trainer\.lr[^:]*: expected .+, got .+; .+$"):
        kind(value, "trainer.lr")


def test_the_whole_sentence():
    with pytest.raises(ConfigError) as caught:
        positive(0, "trainer.lr")
    assert str(caught.value) == "trainer.lr: expected a finite number > 0, got 0; correct the value"


def test_place_remedy_and_error_are_the_callers():
    with pytest.raises(DataError) as caught:
        list_of(number, length=2)([1, "x"], "a.json: bbox", do="export it again", error=DataError)
    assert str(caught.value) == "a.json: bbox[1]: expected a finite number, got 'x'; export it again"


def test_the_nearest_choice_is_named():
    with pytest.raises(ConfigError, match="sgd | adamw, got 'sdg'; did you mean 'sgd'"):
        one_of("sgd", "adamw")("sdg", "trainer.optimizer")


def test_null_is_named_where_it_is_possible():
    with pytest.raises(ConfigError, match="a finite number > 0, or null, got 0"):
        optional(positive)(0, "trainer.grad_clip")


@pytest.mark.parametrize(
    "value",
    [10**5000, "x" * 10**6, [[[[["x" * 100]]]]] * 1000, {"a": {"b": list(range(99))}}],
    ids=["digits", "text", "lists", "mappings"],
)
def test_messages_stay_short(value):
    with pytest.raises(ConfigError) as caught:
        number(value, "here")
    assert len(str(caught.value)) < 300
