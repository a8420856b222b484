"""Predictions as one file of arrays: what a campaign keeps of a model that is known by its predictions alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import atomic_path
from al_lab.data.predictions.table import Predictions

_COLUMNS = {
    "asked": Column("U", ("M",)),
    "ids": Column("Uf", ("N",)),  # without a text numpy writes floats
    "start": Column("i", (None,)),
    "boxes": Column("f", ("A", 4)),
    "is_fraction": Column("b", ("A",)),
    "confidence": Column("f", ("A",)),
    "labels": Column("i", ("A",)),
    "num_classes": Column("i", ()),
    "activation": Column("U", ()),
    "probs": Column("f", ("A", "K"), required=False),
    "suppressed": Column("i", ("A",), required=False),
    "embedding": Column("f", ("E", "F"), required=False),
    "embedded": Column("U", ("E",), required=False),
}
_ARRAYS = ("start", "boxes", "is_fraction", "confidence", "labels", "num_classes", "activation", "probs", "suppressed")


def save(path: Path, predictions: Predictions, asked: Sequence[str]) -> None:
    """Write predictions.

    Args:
        path: the file.
        predictions: of some of the images asked about; in the others nothing was found.
        asked: the images that the model was asked about.
    """
    arrays: dict[str, Any] = {n: v for n in _ARRAYS if (v := getattr(predictions, n)) is not None}
    if predictions.embedding is not None:
        embedded = list(predictions.embedded)
        rows = [predictions.embedded[i] for i in embedded]
        arrays |= {"embedding": predictions.embedding[rows], "embedded": np.array(embedded, np.str_)}
    arrays |= {"asked": np.array(asked, np.str_), "ids": np.array(predictions.ids, np.str_)}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def load(path: Path) -> tuple[Predictions, frozenset[str]]:
    """Read what `save` wrote; returned with the images that the model was asked about.

    Raises:
        ResumeError: if it is no such file, or its arrays don't fit each other.
    """
    z = load_arrays(path, _COLUMNS)
    ids, start, embedded = z["ids"].tolist(), z["start"], z.get("embedded")
    rises = len(start) == len(ids) + 1 and start[0] == 0 and (np.diff(start) >= 0).all()
    labels, num_classes = z["labels"], int(z["num_classes"])
    if not rises or start[-1] != len(labels) or ((labels < 0) | (labels >= num_classes)).any():
        got = "boxes, or labels, that don't fit each other"
        do = "restore the file, or start anew with restart=again"
        raise ResumeError(explain(expected="the predictions of a model", got=got, where=str(path), do=do))
    found = Predictions(
        tuple(map(str, ids)),
        start,
        z["boxes"],
        z["is_fraction"],
        z["confidence"],
        labels,
        num_classes,
        z.get("probs"),
        "softmax" if str(z["activation"]) == "softmax" else "sigmoid",
        z.get("suppressed"),
        z.get("embedding"),
        {} if embedded is None else {i: n for n, i in enumerate(embedded.tolist())},
    )
    return found, frozenset(z["asked"].tolist())
