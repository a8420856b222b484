"""Which images are labeled already: a list says so, their annotations lie beside them, or people's kept labels do."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from al_lab.core.documents import Source
from al_lab.core.errors import DataError
from al_lab.core.fields import shown, text
from al_lab.core.files import sha256
from al_lab.core.record.csv_file import cell_of
from al_lab.core.types import Annotation
from al_lab.data.predictions.names import ImageNames
from al_lab.labeling.store import LabelStore, stored_labels

ANNOTATED = "annotated"
_FILE_COLUMNS = ("file", "sample_id", "image")


def labeled_ids(given: Sequence[str], dataset: Any, names: ImageNames) -> tuple[set[str], list[str]]:
    """Return the images of the pool that the user says are labeled, and sentences about names that are no images.

    Args:
        given: of ``--labeled``: lists (see `listed`), or the word ``annotated``.
        dataset: of the images.
        names: of all of them.

    Raises:
        LabError: for a file that can't be read, or that names no image of the dataset at all.
    """
    pool, found, notes = set(dataset.pool_ids), set(), []
    for word in given:
        if word == ANNOTATED:
            found |= {i for i in pool if dataset.has_truth(i)}
            continue
        path = Path(word)
        said = listed(path)
        ids = [names.find(name) for name in said]
        strangers = [name for name, i in zip(said, ids, strict=True) if i is None]
        if said and len(strangers) == len(said):
            source = Source(path, "a list of images, one a line")
            raise source.wrong("names of the dataset's images", f"none, first {shown(strangers[0])}")
        if strangers:
            notes.append(f"{path}: {len(strangers)} of {len(said)} names are no images of the dataset, such as "
                         f"{shown(strangers[0])}")  # fmt: skip
        found |= {i for i in ids if i is not None} & pool
    return found, notes


def listed(path: Path) -> list[str]:
    """Return the names that a list holds, in its order: a name a line, a table, or a cycle's ``queries.json``.

    Raises:
        LabError: for a file that can't be read, or is none of these.
    """
    source = Source(path, f"a list of images, one a line, a table with a column 'file', or the word {ANNOTATED}")
    if path.suffix.lower() == ".json":  # a cycle's queries.json
        queries = Source(path, "the queries.json of a cycle").read_entry().entries("queries")
        return [query.read("id", text) for query in queries]
    if path.suffix.lower() != ".csv":
        return [line for _, line in source.read_lines()]
    try:
        rows = list(csv.DictReader(io.StringIO(source.read_bytes().decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise source.wrong(source.what, str(error)) from error
    column = next((c for c in _FILE_COLUMNS if rows and c in rows[0]), None)
    if rows and column is None:
        raise source.wrong("a column 'file'", shown(", ".join(filter(None, rows[0]))))
    return [cell_of(row[column] or "") for row in rows if column and row[column]]


class Known:
    """People's kept labels, asked image by image: the store knows images by the digest of their bytes."""

    def __init__(self, store: LabelStore, dataset: Any) -> None:
        self._store, self._dataset = store, dataset
        self.is_empty = next(store.for_task(dataset.task).digests(), None) is None
        self._is_known: dict[str, bool] = {}

    def has(self, sample_id: str) -> bool:
        """Say whether people labeled the image, for all of the dataset's classes."""
        if self.is_empty:
            return False
        if sample_id not in self._is_known:
            digest = sha256(self._dataset.image_path(sample_id))
            found = self._store.for_task(self._dataset.task).find(digest, self._dataset.classes)
            self._is_known[sample_id] = found is not None
        return self._is_known[sample_id]

    @property
    def count(self) -> int:
        """How many of the images that were asked about are labeled."""
        return sum(self._is_known.values())


def labels_of(ids: Sequence[str], dataset: Any, store: LabelStore) -> Mapping[str, Annotation]:
    """Return the labels of images that are labeled: those that people gave, else what lies beside the image.

    Raises:
        DataError: if an annotation can't be read.
    """
    kept = stored_labels(store, dataset, ids)
    found: dict[str, Annotation] = {i: label.seen_by(dataset.classes) for i, label in kept.items()}
    for sample_id in ids:
        if sample_id not in found and dataset.has_truth(sample_id):
            found[sample_id] = dataset.truth(sample_id)
    if not found:
        raise DataError(
            f"--labeled: expected labels of {len(ids)} labeled images, got none; the strategy learns from them: let "
            "their annotations lie beside the images, or bring them in with 'al-lab labels import'"
        )
    return found
