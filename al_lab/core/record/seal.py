"""A digest inside a JSON record, so that a flipped bit or a hand's slip in it is noticed when it is read."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

_KEY = "digest"


def seal(record: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Return the record with a digest of its content; keys in ``without`` (times) are no part of it."""
    return {**record, _KEY: _digest(record, without)}


def is_whole(record: Mapping[str, Any], without: Collection[str] = ()) -> bool:
    """Whether a record is what `seal` returned; one without a digest, of an older version, is taken as it is."""
    return _KEY not in record or record[_KEY] == _digest(record, without)


def _digest(record: Mapping[str, Any], without: Collection[str]) -> str:
    content = {k: v for k, v in record.items() if k != _KEY and k not in without}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
