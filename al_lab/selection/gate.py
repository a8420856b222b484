"""What keeps an image from being chosen beside others: its group, a near copy, labels that people gave already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from al_lab.core.errors import DataError
from al_lab.core.pool import Apart
from al_lab.data.near_copies import fingerprint
from al_lab.selection.labeled import Known
from al_lab.selection.near import Near


class Gates:
    """Makes gates: each is asked before an image is taken, and remembers which were.

    Only images that are about to be taken are opened; what was seen of one is kept for the next gate.

    Args:
        ids: sample of each row.
        dataset: of the images.
        apart: which images one purchase may not take together; None: any.
        known: people's labels.
        near_bits: bits in which the fingerprints of near copies differ at most; None: near copies may be taken.
        near: finds near copies by embedding, of labeled images, too.
    """

    def __init__(
        self, ids: Sequence[str], dataset: Any, apart: Apart | None, known: Known, near_bits: int | None, near: Near
    ) -> None:
        self.ids, self._dataset, self._known, self._near_bits, self.near = ids, dataset, known, near_bits, near
        self._apart = apart.rows(ids) if apart is not None else None
        self.prints: dict[str, np.ndarray | None] = {}
        self.copies: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}

    def new(self, taken: Sequence[int] = ()) -> Callable[[int], bool]:
        """Return a gate that knows of some rows as taken."""
        closed = np.zeros(len(self.ids), bool)
        prints: list[np.ndarray] = []
        names: list[str] = []
        vectors = self.near.taken()

        def remember(row: int, seen: np.ndarray | None, unit_E: np.ndarray | None) -> None:
            closed[row] = True
            if self._apart is not None:
                closed[self._apart.near(row)] = True
            if seen is not None:
                prints.append(seen)
                names.append(self.ids[row])
            if unit_E is not None:
                vectors.add(self.ids[row], unit_E)

        def like(unit_E: np.ndarray) -> str | None:
            assert self.near.min_cosine is not None
            return self.near.labeled_like(unit_E) or vectors.like(unit_E, self.near.min_cosine)

        def gate(row: int) -> bool:
            sample_id = self.ids[row]
            if closed[row] or self._known.has(sample_id):
                return False
            unit_E = self.near.vector(sample_id)
            if unit_E is not None and (other := like(unit_E)) is not None:
                self.copies[sample_id] = other
                return False
            seen = self._print(sample_id)
            if sample_id in self.unreadable:
                return False
            if seen is not None and prints:
                bits = np.bitwise_count(np.stack(prints) ^ seen).sum(1)
                if bits.min() <= (self._near_bits or 0):
                    self.copies[sample_id] = names[int(bits.argmin())]
                    return False
            remember(row, seen, unit_E)
            return True

        for row in taken:
            remember(row, self._print(self.ids[row]), self.near.vector(self.ids[row]))
        return gate

    def _print(self, sample_id: str) -> np.ndarray | None:
        if self._near_bits is None:
            return None
        if sample_id not in self.prints:
            try:
                self.prints[sample_id] = fingerprint(self._dataset.load_image(sample_id))
            except DataError as error:  # nobody can label what can't be opened
                self.prints[sample_id] = None
                self.unreadable[sample_id] = str(error)
        return self.prints[sample_id]
