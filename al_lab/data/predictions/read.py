"""Predictions files in any format, told by what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, explain
from al_lab.data.predictions import arrays, coco, csv_table, label_studio, yolo
from al_lab.data.predictions.names import Finds
from al_lab.data.predictions.rows import Rows
from al_lab.data.predictions.table import Predictions, assemble, no_predictions

FORMATS = "COCO results (.json), YOLO text (a folder), a table (.csv), Label Studio's JSON, or arrays (.npz)"
_DO = f"give predictions as {FORMATS}"


class PredictionFiles:
    """The files a user gave, read once; their images and classes are looked up when the dataset is open.

    Args:
        paths: files, or folders of YOLO text.
        arrays_paths: ``.npz`` files, see `al_lab.data.predictions.arrays`.
        images_json: a COCO document that explains ids, or None.

    Raises:
        DataError: naming file, entry and field.
    """

    def __init__(
        self, paths: Sequence[Path], arrays_paths: Sequence[Path] = (), images_json: Path | None = None
    ) -> None:
        explained = _document(images_json) if images_json is not None else None
        self._arrays = [*(p for p in paths if p.suffix.lower() == ".npz"), *arrays_paths]
        self._rows = [_read(p, explained) for p in paths if p.suffix.lower() != ".npz"]
        for rows in self._rows:
            rows.check()

    def class_names(self) -> tuple[str, ...]:
        """Return the names of classes that the files themselves tell, in their order of occurrence sorted by name."""
        return tuple(sorted({c for rows in self._rows for c in rows.categories if isinstance(c, str)}))

    def join(self, names: Finds, classes: Sequence[str], first_category: int | None = None) -> Predictions:
        """Return what the files say of a dataset.

        Args:
            names: of the dataset's images.
            classes: names in label order.
            first_category: what number the first class has, where no file tells.

        Raises:
            DataError: for what fits neither its images nor its classes.
        """
        read = [arrays.read(path, len(classes)) for path in self._arrays]
        rows = [*self._rows, *(a.rows for a in read if a.rows is not None)]
        for more in rows[len(self._rows) :]:
            more.check()
        found = assemble(rows, names, classes, first_category) if rows else no_predictions(len(classes))
        return _embedded(found, read, names)


def _read(path: Path, explained: Mapping[str, Any] | None) -> Rows:
    if path.is_dir():
        return yolo.read(path)
    if path.suffix.lower() == ".csv":
        return csv_table.read(path)
    source = Source(path, "predictions", _DO)
    content = source.read_json()
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, Mapping) and isinstance(first.get("data"), Mapping):
        return label_studio.read(path, content)
    if isinstance(content, list) or (isinstance(content, Mapping) and "annotations" in content):
        return coco.read(path, content, explained)
    raise source.wrong("predictions", "JSON of another kind")


def _document(path: Path) -> Mapping[str, Any]:
    source = Source(path, "a COCO document with images and categories", "give --images-json such a file")
    content = source.read_json()
    if not isinstance(content, Mapping) or not {"images", "categories"} & set(content):
        raise source.wrong(source.what, "JSON of another kind")
    return content


def _embedded(found: Predictions, read: Sequence[arrays.Arrays], names: Finds) -> Predictions:
    """Return the predictions with the embeddings of the dataset's images."""
    held = [(a.images, a.embedding) for a in read if a.embedding is not None]
    widths = {e.shape[1] for _, e in held}
    if len(widths) > 1:
        raise DataError(
            explain(expected="embeddings of one length", got=f"lengths {sorted(widths)}", where="--arrays",
                    do="embed all images with the same network")
        )  # fmt: skip
    if not held:
        return found
    row_of: dict[str, int] = {}
    for n, name in enumerate(name for images, _ in held for name in images):
        sample_id = names.find(name)
        if sample_id is not None:
            row_of[sample_id] = n
    return replace(found, embedding=np.concatenate([e for _, e in held]), embedded=row_of)
