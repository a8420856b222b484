"""Embeddings of images that somebody computed, from an ``.npz`` file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.data.predictions import arrays
from al_lab.data.predictions.names import ImageNames


class FileVectors:
    """The vectors of an .npz file, see `al_lab.data.predictions.arrays`.

    Raises:
        DataError: if the file is damaged or holds no embeddings.
    """

    def __init__(self, path: str, dataset: Any) -> None:
        self.path = Path(path).expanduser()
        read = arrays.read(self.path, len(dataset.classes))
        if read.embedding is None:
            do = "write it: np.savez(path, images=names, embedding=vectors)"
            raise DataError(explain(expected="an array 'embedding'", got="none", where=str(self.path), do=do))
        names = ImageNames({i: dataset.image_path(i) for i in dataset.pool_ids})
        found = {names.find(name): row for row, name in enumerate(read.images)}
        self.rows = {i: row for i, row in found.items() if i is not None}
        self.embedding = read.embedding

    def check(self, ids: Sequence[str]) -> None:
        """Refuse a file that lacks images.

        Raises:
            DataError: with how many, and the first.
        """
        lacking = [i for i in ids if i not in self.rows]
        if lacking:
            got = f"none for {len(lacking)}, first {lacking[0]!r}"
            do = "embed them, too"
            raise DataError(
                explain(expected=f"a vector for each of {len(ids)} images", got=got, where=str(self.path), do=do)
            )

    def of(self, ids: Sequence[str], images: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Return (N, E) float32."""
        self.check(ids)
        return self.embedding[[self.rows[i] for i in ids]]
