"""Detections of many images in one file: columns and offsets, no objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.errors import ResumeError, explain
from al_lab.core.files import atomic_path
from al_lab.core.types import Detections

_COLUMNS = {
    "ids": Column("U", ("N",)),
    "offsets": Column("i", (None,)),
    "boxes_xyxy": Column("f", ("D", 4)),
    "confidence": Column("f", ("D",)),
    "labels": Column("i", ("D",)),
}


def save_predictions(path: Path, predictions: Mapping[str, Detections]) -> None:
    """Write boxes, confidences and labels (not the class distributions, which are twenty times their size)."""
    items = list(predictions.values())
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            ids=np.asarray(list(predictions), dtype=np.str_),
            offsets=np.cumsum([0, *(len(d) for d in items)]).astype(np.int64),
            boxes_xyxy=np.concatenate([d.boxes_xyxy for d in items] or [np.zeros((0, 4), np.float32)]),
            confidence=np.concatenate([d.confidence for d in items] or [np.zeros(0, np.float32)]),
            labels=np.concatenate([d.labels for d in items] or [np.zeros(0, np.int64)]),
        )


def load_predictions(paths: Sequence[Path]) -> dict[str, Detections]:
    """Read one or more files that `save_predictions` wrote; ``probs`` is the confidence alone, (D, 1)."""
    out: dict[str, Detections] = {}
    for path in paths:
        z = load_arrays(path, _COLUMNS)
        boxes, confidence, labels, offsets, ids = (
            z[name] for name in ("boxes_xyxy", "confidence", "labels", "offsets", "ids")
        )
        rises = len(offsets) == len(ids) + 1 and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
        if not rises or offsets[-1] != len(labels) or (labels < 0).any() or len(set(ids.tolist())) < len(ids):
            raise ResumeError(
                explain(
                    expected="the detections of each image, one after the other",
                    got=f"{len(ids)} images, {len(labels)} detections and offsets or labels that don't fit",
                    where=str(path),
                    do="restore the file, or start anew with restart=again",
                )
            )
        for n, sample_id in enumerate(ids.tolist()):
            s = slice(offsets[n], offsets[n + 1])
            out[sample_id] = Detections(boxes[s], confidence[s], labels[s], confidence[s, None], "sigmoid")
    return out
