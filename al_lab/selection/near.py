"""Near copies by embedding, as a choice goes from image to image: of those taken, and of those labeled before."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from al_lab.data.near_vectors import Cosine, near_cosine, nearest_of, unit
from al_lab.data.predictions.table import Predictions


class Taken:
    """The vectors of the images that one gate let through."""

    def __init__(self, width: int) -> None:
        self._names: list[str] = []
        self._unit_ME: np.ndarray = np.empty((16, width), np.float32)

    def add(self, sample_id: str, unit_E: np.ndarray) -> None:
        """Remember an image."""
        count = len(self._names)
        if count == len(self._unit_ME):
            self._unit_ME = np.concatenate([self._unit_ME, np.empty_like(self._unit_ME)])
        self._unit_ME[count] = unit_E
        self._names.append(sample_id)

    def like(self, unit_E: np.ndarray, min_cosine: float) -> str | None:
        """Return the image taken that is nearest to another; None if none is near enough."""
        found = nearest_of(unit_E[None], self._unit_ME[: len(self._names)], min_cosine).row[0]
        return None if found < 0 else self._names[found]


class Near:
    """Knows of each image which labeled one it is a near copy of.

    Args:
        predictions: whose embeddings count; images without one are near nothing.
        labeled: images that are labeled already.
        asked: see `near_cosine`.

    Attributes:
        min_cosine: from which on; None: near copies aren't looked for, or there are no embeddings.
    """

    def __init__(self, predictions: Predictions, labeled: Collection[str], asked: Cosine) -> None:
        self._predictions = predictions
        vectors, self.min_cosine = predictions.embedding, None
        if vectors is None or asked is None:
            return
        self.min_cosine = near_cosine(vectors[sorted(predictions.embedded.values())], asked)
        self._labeled = sorted(i for i in labeled if i in predictions.embedded)
        self._labeled_LE = unit(vectors[[predictions.embedded[i] for i in self._labeled]])

    def vector(self, sample_id: str) -> np.ndarray | None:
        """Return an image's vector at length 1, (E,) float32; None if it has none, or nobody asked."""
        row = self._predictions.embedded.get(sample_id)
        if self.min_cosine is None or row is None or self._predictions.embedding is None:
            return None
        return np.asarray(unit(self._predictions.embedding[row][None])[0])

    def taken(self) -> Taken:
        """Return what remembers nothing yet."""
        vectors = self._predictions.embedding
        return Taken(0 if vectors is None else vectors.shape[1])

    def labeled_like(self, unit_E: np.ndarray) -> str | None:
        """Return the labeled image that one is a near copy of."""
        assert self.min_cosine is not None
        found = nearest_of(unit_E[None], self._labeled_LE, self.min_cosine).row[0]
        return None if found < 0 else self._labeled[found]

    def lacking(self, ids: Sequence[str]) -> int:
        """Return how many images have no vector, where they are looked at."""
        return 0 if self.min_cosine is None else sum(i not in self._predictions.embedded for i in ids)
