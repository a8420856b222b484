"""Lists of queries, ours or somebody's: each row that makes no sense is named before anything is bought."""

import json

import pytest

from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.types import Query
from al_lab.strategies.general.replay import Replay

POOL = Pool(("a", "b", "c"))


def selections(**change):
    return {"purchases": [{"cycle": -1, "queries": [{"id": "a", "utility": 0.5, **change}, {"id": "b", "utility": 1}]}]}


def replay(tmp_path, content):
    path = tmp_path / "selections.json"
    path.write_text(json.dumps(content))
    return Replay(str(path))


def test_rows_become_queries(tmp_path):
    assert replay(tmp_path, selections())._queries(-1, POOL) == [Query("a", None, 0.5), Query("b", None, 1.0)]
    assert replay(tmp_path, selections(mask=None))._queries(-1, POOL)[0] == Query("a", None, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a selections.json"),
        ({"purchases": None}, "purchases: expected a list"),
        (
            {"purchases": [{"cycle": -2, "queries": []}]},
            r"purchases\[0\]\.cycle: expected a whole number >= -1, got -2",
        ),
        ({"purchases": [{"cycle": 1e999, "queries": []}]}, r"purchases\[0\]\.cycle: expected .* got inf"),
        (
            {"purchases": [{"cycle": 0, "queries": []}] * 2},
            r"purchases\[1\]\.cycle: expected each cycle once, got 0 twice",
        ),
        ({"purchases": [{"cycle": 0, "queries": "ab"}]}, r"purchases\[0\]\.queries: expected a list"),
        ({"purchases": [{"cycle": 0, "queries": [3]}]}, r"queries\[0\]: expected an object"),
        (selections(id=7), r"queries\[0\]\.id: expected text, got 7"),
        (selections(id="b"), r"queries\[1\]\.id: expected each sample once, got 'b' twice"),
        (selections(utility="high"), r"queries\[0\]\.utility: expected a finite number, got 'high'"),
        (selections(utility=float("nan")), "utility: expected a finite number, got nan"),
        (
            {"purchases": [{"cycle": c, "queries": [{"id": "a", "utility": 0}]} for c in (1, 0)]},
            "got 'a' in cycle 1, bought whole in cycle 0",
        ),
        (selections(mask=3), r"\.mask: expected a file name, or null, got 3"),
        (selections(mask="../x.npz", sha256="0"), r"\.mask: expected a file name below its folder"),
        (selections(mask="x.npz"), r"\.sha256: expected text, got no such field"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=rf"selections\.json.*{message}"):
        replay(tmp_path, content)


def test_strangers_and_samples_bought_before_are_named_with_the_file(tmp_path):
    found = replay(tmp_path, selections())
    with pytest.raises(
        ConfigError, match=r"selections\.json: cycle -1: expected .*, got 'a', which is not in it; did you"
    ):
        found.initial(Pool(("aa", "b")), 2, None)
    with pytest.raises(ConfigError, match=r"selections\.json: cycle -1: expected .*, got 'b', bought before"):
        found.initial(POOL.acquire([Query("b")], -1), 2, None)
