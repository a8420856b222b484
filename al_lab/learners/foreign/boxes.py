"""Boxes that a model wrote, in any format of predictions, with distributions and embeddings where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.types import ImageView
from al_lab.data.predictions import kept
from al_lab.data.predictions.read import FORMATS, PredictionFiles
from al_lab.data.predictions.table import Predictions, check_embedded, no_predictions
from al_lab.data.predictions.views import Views
from al_lab.learners.foreign.asked import Asked
from al_lab.learners.foreign.said import Reader, Said, files_in

_DOCUMENTS, _LISTS = (".json", ".csv"), ("classes.txt", "labels.txt", "readme.txt", "images.txt")


class Boxes(Said):
    """Boxes of images, see `Predictions`.

    Args:
        predictions: of the model.
        dataset: for sizes, where boxes are fractions of their image.
    """

    def __init__(self, predictions: Predictions, dataset: Any) -> None:
        self.predictions, self._dataset, self.notes = predictions, dataset, predictions.notes

    def views(self, ids: Sequence[str], needs: Sequence[str]) -> Iterator[ImageView]:
        """See `Said.views`."""
        if "image_embedding" in needs:
            check_embedded(self.predictions, ids, "predictions of the model")
        look = Views(self.predictions, self._dataset, needs, has_sizes=True)
        return (look(i) for i in ids)

    def spoken_of(self, sample_id: str) -> bool:
        """See `Said.spoken_of`."""
        return self.predictions.spoken_of(sample_id)

    def provides(self) -> tuple[str, ...]:
        """See `Said.provides`; a file without boxes says that nothing was found."""
        return tuple(dict.fromkeys(("detections", "class_probs", *self.predictions.provides)))

    def save(self, path: Path, asked: Sequence[str]) -> None:
        """See `Said.save`."""
        kept.save(path, self.predictions, asked)

    def counts(self) -> dict[str, float]:
        """See `Said.counts`."""
        return {"predicted_boxes": float(len(self.predictions.labels))}

    def same_as(self, other: Said) -> bool:
        """See `Said.same_as`."""
        assert isinstance(other, Boxes)
        mine, theirs = self.predictions, other.predictions
        both = [(mine.rows(i), theirs.rows(i)) for i in mine.ids if theirs.spoken_of(i)]
        return any(a.stop > a.start for a, _ in both) and all(
            np.array_equal(getattr(mine, name)[a], getattr(theirs, name)[b])
            for a, b in both
            for name in ("boxes", "confidence", "labels")
        )


class BoxReader(Reader):
    """Reads boxes.

    Args:
        dataset: of the images.
        embeddings: every image must have one.
        distributions: every box must have one, not a confidence alone.
        first_category: what number the first class has, where no file tells.
    """

    def __init__(self, dataset: Any, embeddings: bool, distributions: bool, first_category: int | None) -> None:
        super().__init__(dataset)
        self.embeddings, self.distributions, self.first_category = embeddings, distributions, first_category

    def read(self, folder: Path, asked: Asked, may_be_empty: bool) -> Boxes | None:
        """See `Reader.read`."""
        documents, arrays = _sorted_out(folder)
        if not documents and not arrays:
            return self.nothing() if may_be_empty else None
        files = PredictionFiles(documents, arrays, asked.document_path)
        found = files.join(asked, self.dataset.classes, self.first_category)
        if self.embeddings:
            check_embedded(found, asked.ids, str(folder))
        found = replace(found, notes=(*found.notes, *self._silent(found, asked)))
        if self.distributions and found.probs is None and len(found.labels):
            do = "write them as 'probs' of an .npz, or set distributions: false"
            got, expected = "confidences alone", "a whole class distribution of each box (distributions: true)"
            raise DataError(explain(expected=expected, got=got, where=str(folder), do=do))
        return Boxes(found, self.dataset)

    @staticmethod
    def _silent(found: Predictions, asked: Asked) -> list[str]:
        silent = sum(not found.spoken_of(i) for i in asked.ids)
        return [f"{silent:,} of {len(asked.ids):,} images stand in no file: nothing was found in them"] * bool(silent)

    def nothing(self) -> Boxes:
        """See `Reader.nothing`."""
        return Boxes(no_predictions(len(self.dataset.classes)), self.dataset)

    def open(self, path: Path) -> tuple[Boxes, frozenset[str]]:
        """See `Reader.open`."""
        found, asked = kept.load(path)
        return Boxes(found, self.dataset), asked


def _sorted_out(place: Path) -> tuple[list[Path], list[Path]]:
    """Return what holds boxes (documents, and the folder of YOLO's text), and the files of arrays.

    Raises:
        DataError: if there are files, and none of a format that is known.
    """
    files = files_in(place, FORMATS)
    documents = [p for p in files if p.suffix.lower() in _DOCUMENTS]
    arrays = [p for p in files if p.suffix.lower() == ".npz"]
    if any(p.suffix.lower() == ".txt" and p.name.lower() not in _LISTS for p in files):
        documents.append(place)
    if files and not documents and not arrays and not place.is_dir():
        do = "write the predictions in one of these formats"
        raise DataError(explain(expected=FORMATS, got=f"a {place.suffix or 'nameless'} file", where=str(place), do=do))
    return documents, arrays
