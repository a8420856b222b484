"""Inputs for readers: a valid file, changed in a few places; what hypothesis draws is small, so that failures
shrink."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

INF, NAN = float("inf"), float("nan")
ATOMS = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, -(2**70), 0.5, -0.0, 3.0, 1e308, INF, -INF, NAN, "", " ", "x",  # noqa: E501
    "nan", "None", "inf", "1e400", "0", "1", "-1", " 3 ", "３", "1_0", "true", "../../etc/passwd", "/etc/passwd", "C:\\x",  # noqa: E501
    "a\0b", "a\nb", "\ud800", "é", "x" * 300, "y" * 5000, "<b>", "$x_{", "=1+1", "${oc.env:HOME}", [], [[]], {}, {"a": 1},  # noqa: E501
    [None], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5], ["a", "b", "c", "d"], [NAN] * 4, [INF] * 4, [1e308] * 4,
    [10**400, 1, 1, 1], [True, False, True, True], [[1, 2], [3, 4]], ["cat"], {"": ""},
)  # fmt: skip
TEXTS = (
    *(str(a) for a in ATOMS[:32] if a != 10**400),
    "a\x01b",
    "é",
    "1e",
    "--1",
    "0x10",
    "1,5",
    "<",
    "&amp;",
    "&x;",
    "99" * 300,
)
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")
_OPERATIONS = ("replace", "replace", "replace", "remove", "repeat", "wrap", "textify", "swap")


def _places(node: Any, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def _mutate(base: Any, changes: Sequence[tuple[int, str, Any]]) -> Any:
    document = copy.deepcopy(base)
    for where, operation, atom in changes:
        places = _places(document)
        if not places:
            return copy.deepcopy(atom)
        *above, key = places[where % len(places)]
        parent = document
        for step in above:
            parent = parent[step]
        value = parent[key]
        if operation == "remove":
            del parent[key]
        elif operation == "repeat" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(value))
        elif operation == "wrap":
            parent[key] = [value]
        elif operation == "textify":
            parent[key] = str(value) if not isinstance(value, int) or abs(value) < 2**70 else "9" * 400
        elif operation == "swap" and isinstance(parent, dict):
            parent[str(atom)[:20]] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(atom)
    return document


def documents(base: Any) -> st.SearchStrategy[Any]:
    """A JSON-like document with up to three changes, or another document altogether."""
    change = st.tuples(st.integers(0, 500), st.sampled_from(_OPERATIONS), st.sampled_from(ATOMS))
    changed = st.lists(change, min_size=0, max_size=3).map(lambda changes: _mutate(base, changes))
    return st.one_of(changed, changed, changed, changed, changed, st.sampled_from(ATOMS))


def _encode(value: Any, encoding: str, is_ascii: bool) -> bytes:
    return json.dumps(value, ensure_ascii=is_ascii).encode(
        encoding, "surrogatepass" if "utf" in encoding else "replace"
    )


def json_files(base: Any) -> st.SearchStrategy[bytes]:
    """Files of such documents in several encodings, and valid ones with damaged bytes."""
    encoded = st.builds(_encode, documents(base), st.sampled_from(_ENCODINGS), st.booleans())
    return st.one_of(encoded, encoded, encoded, damaged(json.dumps(base).encode()))


def json_rows(base: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """The same, one document a line."""
    rows = documents(list(base)).map(lambda v: v if isinstance(v, list) else [v])
    encoded = rows.map(lambda values: b"".join(_encode(v, "utf-8", True) + b"\n" for v in values))
    return st.one_of(encoded, encoded, encoded, damaged(b"".join(json.dumps(row).encode() + b"\n" for row in base)))


def _damage(seeds: Sequence[bytes], which: int, changes: Sequence[tuple[int, str, int]]) -> bytes:
    data = bytearray(seeds[which % len(seeds)])
    for where, operation, number in changes:
        n = where % max(1, len(data))
        if operation == "flip" and data:
            data[n] ^= 1 << number % 8
        elif operation == "set" and data:
            data[n] = number
        elif operation == "delete":
            del data[n : n + 1 + number % 64]
        elif operation == "repeat":
            data[n:n] = data[n : n + 1 + number]
        elif operation == "cut":
            del data[n:]
        elif operation == "insert":
            data[n:n] = bytes([(0, 255, 10, 60, 38, 34, 45, 46)[number % 8]]) * (1 + number // 64)
    return bytes(data)


def damaged(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """Valid files with bytes flipped, set, deleted, repeated, inserted or cut off, and a few of random bytes."""
    operation = st.sampled_from(("flip", "set", "delete", "repeat", "cut", "insert"))
    change = st.tuples(st.integers(0, max(map(len, seeds))), operation, st.integers(0, 255))
    changed = st.builds(_damage, st.just(seeds), st.integers(0, len(seeds) - 1), st.lists(change, max_size=4))
    return st.one_of(changed, changed, changed, changed, changed, changed, changed, st.binary(max_size=200))


def texts(template: str, values: Sequence[str]) -> st.SearchStrategy[bytes]:
    """A text whose ``{}`` are filled with the given values, some of them replaced by odd ones."""
    change = st.tuples(st.integers(0, len(values) - 1), st.sampled_from(TEXTS))

    def fill(changes: Sequence[tuple[int, str]], encoding: str) -> bytes:
        filled = list(values)
        for n, value in changes:
            filled[n] = value
        return template.format(*filled).encode(encoding, "surrogatepass" if "utf" in encoding else "replace")

    changed = st.builds(fill, st.lists(change, max_size=3), st.sampled_from(_ENCODINGS))
    return st.one_of(changed, changed, changed, damaged(template.format(*values).encode()))
