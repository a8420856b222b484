"""Randomness is derived from names, never carried: the same (seed, cycle, stage, id) is the same draw anywhere."""

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np


def _digest(*keys: object) -> bytes:
    # repr keeps 1 and "1" apart; the unit separator keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256("\x1f".join(repr(key) for key in keys).encode()).digest()


class Rng:
    """A named source of randomness.

    Args:
        seed: any int; 0 is a seed like the others.
        *keys: what the randomness is for, such as a cycle, a stage name, a sample id.
    """

    def __init__(self, seed: int, *keys: object) -> None:
        self.seed_value = int(seed)
        self.keys = keys

    def __repr__(self) -> str:
        return f"Rng({', '.join(map(repr, (self.seed_value, *self.keys)))})"

    def child(self, *more: object) -> "Rng":
        """Return the source named by these keys and ``more``."""
        return Rng(self.seed_value, *self.keys, *more)

    def seed(self, *more: object) -> int:
        """Return a 63-bit int, for libraries that want a seed."""
        return int.from_bytes(_digest(self.seed_value, *self.keys, *more)[:8], "little") >> 1

    def generator(self, *more: object) -> np.random.Generator:
        """Return a fresh generator; two calls with the same keys draw the same numbers."""
        digest = _digest(self.seed_value, *self.keys, *more)
        return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "little")))

    def tie_keys(self, ids: Iterable[str], ties: Literal["hash", "id"] = "hash") -> np.ndarray:
        """Return one uint64 a sample id, (N,), that orders equal utilities without favoring early ids.

        A key depends on the id alone, so the order of the pool never decides. With ``ties="id"`` it is the place among
        the sorted ids.
        """
        if ties == "id":
            return np.argsort(np.argsort(np.asarray(list(ids), np.str_))).astype(np.uint64)
        prefix = _digest(self.seed_value, *self.keys, "tie")
        hashes = (hashlib.blake2b(i.encode(), digest_size=8, key=prefix).digest() for i in ids)
        return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def rng_for(seed: int, cycle: int, stage: str) -> Rng:
    """Return the randomness of one stage of one cycle."""
    return Rng(seed, cycle, stage)
