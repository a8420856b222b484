"""Whole class distributions and embeddings, which no text format holds, as arrays in an ``.npz``.

| array | shape | what |
|---|---|---|
| ``images`` | (M,) text | file names; the order of the others |
| ``embedding`` | (M, E) float | one vector an image; optional |
| ``image`` | (D,) int | of each box, a position in ``images``; optional, with the three below |
| ``boxes_xyxy`` | (D, 4) float | pixels |
| ``probs`` | (D, K) float | class distributions: C + 1 columns with background first, or C |
| ``labels``, ``confidence`` | (D,) | optional; else the most probable class and its probability |
| ``classes`` | (C,) text | optional; else the dataset's |
| ``activation`` | () text | softmax or sigmoid; optional, for C columns that could be either |
| ``box_embedding`` | (D, E) float | one vector a box, for ``embedding=objects``; optional |
| ``suppressed`` | (D,) int | boxes that non-maximum suppression merged into this one, itself included; optional |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_lab.core.arrays import Column, load_arrays
from al_lab.core.documents import Source
from al_lab.core.errors import DataError
from al_lab.data.predictions.rows import Rows

WHAT = "arrays of predictions (.npz): images with embedding, or with image, boxes_xyxy and probs"
_DO = "write the arrays again: np.savez(path, images=…, embedding=…, image=…, boxes_xyxy=…, probs=…)"
_COLUMNS = {
    "images": Column("U", ("M",)),
    "embedding": Column("f", ("M", "E"), required=False),
    "image": Column("iu", ("D",), required=False),
    "boxes_xyxy": Column("f", ("D", 4), required=False),
    "probs": Column("f", ("D", "K"), required=False),
    "labels": Column("iu", ("D",), required=False),
    "confidence": Column("f", ("D",), required=False),
    "classes": Column("U", ("C",), required=False),
    "activation": Column("U", (), required=False),
    "suppressed": Column("iu", ("D",), required=False),
    "box_embedding": Column("f", ("D", "B"), required=False),
}
_BOXES = ("image", "boxes_xyxy", "probs")
_ROUNDING = 1e-2  # by which the sum of a distribution may be off, for half precision


@dataclass(frozen=True)
class Arrays:
    """What one file holds.

    Attributes:
        rows: the boxes; None if it holds none.
        images: (M,) file names of the rows of ``embedding``.
        embedding: (M, E) float32, or None.
    """

    rows: Rows | None
    images: tuple[str, ...]
    embedding: np.ndarray | None


def read(path: Path, num_classes: int) -> Arrays:
    """Read a file of arrays.

    Args:
        path: the file.
        num_classes: of the dataset, where the file does not name its own.

    Raises:
        DataError: naming the array that is missing, damaged or makes no sense.
    """
    source = Source(path, WHAT, _DO)
    z = load_arrays(path, _COLUMNS, compressed=True, do=_DO, error=DataError)
    images = tuple(z["images"].tolist())
    if len(set(images)) < len(images):
        raise source.wrong("each image once", f"{len(images) - len(set(images))} twice", "images")
    vectors = _vectors(z, "embedding", source)
    given = [name for name in _BOXES if name in z]
    if not given and vectors is None:
        raise source.wrong(WHAT, "neither an embedding nor boxes")
    if given and len(given) < len(_BOXES):
        raise source.wrong(f"{', '.join(_BOXES)} together", f"{' and '.join(given)} alone")
    rows = _rows(z, images, num_classes, source) if given else None
    return Arrays(rows, images, vectors)


def _rows(z: dict[str, np.ndarray], images: tuple[str, ...], num_classes: int, source: Source) -> Rows:
    image = z["image"].astype(np.int64)
    if len(image) and not (image.min() >= 0 and image.max() < len(images)):
        raise source.wrong(f"positions in images, 0..{len(images) - 1}", f"{image.min()} to {image.max()}", "image")
    classes = tuple(z["classes"].tolist()) if "classes" in z else tuple(range(num_classes))
    probs, activation = _distributions(z, len(classes), source)
    first = 1 if activation == "softmax" else 0
    best = probs[:, first:].argmax(1) if len(probs) else np.zeros(0, np.int64)
    labels = z["labels"].astype(np.int64) if "labels" in z else best
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise source.wrong(f"labels 0..{len(classes) - 1}", f"{labels.min()} to {labels.max()}", "labels")
    if len(labels) and (labels != best).mean() > 0.5:  # noqa: PLR2004 - one class may beat another, not mostly
        got = f"{(labels != best).mean():.0%} of the boxes whose most probable class is another one"
        do = "put background into column 0 (mmdet has it last: np.roll(probs, 1, axis=1)), the classes in label order"
        raise source.wrong("probs in the order of labels", got, "probs", do)
    own = probs[np.arange(len(labels)), labels + first]
    return Rows(
        source,
        images,
        image,
        classes,
        labels,
        z["boxes_xyxy"].astype(np.float64),
        z.get("confidence", own).astype(np.float64),
        False,
        lambda row: f"box {row} ({images[int(image[row])]})",
        first_category=0,
        probs=probs,
        activation=activation,
        suppressed=_counts(z, source),
        embedding=_vectors(z, "box_embedding", source),
    )


def _vectors(z: dict[str, np.ndarray], name: str, source: Source) -> np.ndarray | None:
    if name not in z:
        return None
    bad = np.flatnonzero(~np.isfinite(z[name]).all(1))
    if len(bad):
        of = z["images"][bad[0] if name == "embedding" else z["image"][bad[0]]]
        raise source.wrong("finite numbers", f"{len(bad)} rows with others, first of {of}", name)
    return z[name].astype(np.float32, copy=False)


def _distributions(z: dict[str, np.ndarray], num_classes: int, source: Source) -> tuple[np.ndarray, str]:
    """Return (D, K) float32 distributions as `Detections` has them, and their activation."""
    probs = z["probs"].astype(np.float32, copy=False)
    if probs.shape[1] not in (num_classes, num_classes + 1):
        expected = f"{num_classes} columns, or {num_classes + 1} with background first"
        raise source.wrong(expected, str(probs.shape[1]), "probs", "name the classes: classes=…, or dataset.classes=…")
    bad = np.flatnonzero(~((probs >= -_ROUNDING) & (probs <= 1 + _ROUNDING)).all(1))
    if len(bad):
        raise source.wrong("probabilities", f"{len(bad)} rows with others (logits?), first row {bad[0]}", "probs")
    probs = probs.clip(0, 1)
    sums_to_one = np.abs(probs.sum(1, dtype=np.float64) - 1) <= _ROUNDING
    has_background = probs.shape[1] == num_classes + 1
    told = str(z["activation"]) if "activation" in z else None
    if told not in (None, "softmax", "sigmoid") or (has_background and told == "sigmoid"):
        raise source.wrong("softmax, or sigmoid with a column a class", told or "", "activation")
    activation = told or ("softmax" if has_background or (len(probs) > 0 and sums_to_one.all()) else "sigmoid")
    if activation == "softmax" and not sums_to_one.all():
        row = int(np.flatnonzero(~sums_to_one)[0])
        got = f"{int((~sums_to_one).sum())} rows that don't, first row {row} with {probs[row].sum():.3f}"
        raise source.wrong("distributions that sum to 1", got, "probs", "apply the softmax first")
    if activation == "softmax" and not has_background:
        probs = np.concatenate([np.zeros((len(probs), 1), np.float32), probs], 1)
    return probs, activation


def _counts(z: dict[str, np.ndarray], source: Source) -> np.ndarray | None:
    if "suppressed" not in z:
        return None
    counts = z["suppressed"].astype(np.int64)
    if len(counts) and counts.min() < 1:
        raise source.wrong("counts from 1 on: a box is among those merged into it", str(counts.min()), "suppressed")
    return counts
