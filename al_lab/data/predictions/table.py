"""What a detector says of a dataset's images, in columns: no object a box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from al_lab.core.errors import DataError
from al_lab.core.fields import shown
from al_lab.core.types import Detections
from al_lab.data.predictions.names import Finds, labels_of
from al_lab.data.predictions.rows import Rows


@dataclass(frozen=True)
class Predictions:
    """A boxes of N images: those of image n are rows ``start[n]:start[n + 1]``, the most confident first.

    Attributes:
        ids: (N,) the images that the files speak of.
        start: (N + 1,) int64.
        boxes: (A, 4) float32 xyxy.
        is_fraction: (A,) bool, boxes that are fractions of the image instead of pixels.
        confidence: (A,) float32.
        labels: (A,) int64.
        num_classes: C.
        probs: (A, K) float32 whole class distributions; None: a box's confidence is all that is known of it.
        activation: see `Detections`.
        suppressed: (A,) int64 or None, see `Rows`.
        embedding: (M, E) float32, or None.
        embedded: sample -> its row of ``embedding``.
        notes: a sentence for each thing that people should hear of.
        box_embedding: (A, E) float32, or None.
    """

    ids: tuple[str, ...]
    start: np.ndarray
    boxes: np.ndarray
    is_fraction: np.ndarray
    confidence: np.ndarray
    labels: np.ndarray
    num_classes: int
    probs: np.ndarray | None = None
    activation: Literal["softmax", "sigmoid"] = "sigmoid"
    suppressed: np.ndarray | None = None
    embedding: np.ndarray | None = None
    embedded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    box_embedding: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "row_of", {i: n for n, i in enumerate(self.ids)})

    def spoken_of(self, sample_id: str) -> bool:
        """Say whether a file speaks of an image, if only to say that it shows nothing."""
        return sample_id in getattr(self, "row_of")  # noqa: B009 - set above, in a frozen object

    def rows(self, sample_id: str) -> slice:
        """Return the rows of an image's boxes; none for an image that no file speaks of."""
        n = getattr(self, "row_of").get(sample_id)  # noqa: B009 - set above, in a frozen object
        return slice(0, 0) if n is None else slice(int(self.start[n]), int(self.start[n + 1]))

    def needs_size(self, sample_id: str) -> bool:
        """Say whether an image's boxes can't be told in pixels without its size."""
        return bool(self.is_fraction[self.rows(sample_id)].any())

    def detections(self, sample_id: str, size_hw: tuple[int, int] | None = None) -> Detections:
        """Return what the detector finds in an image.

        Of a box that has nothing but a confidence s, the other classes count as ruled out: a sigmoid's s in the column
        of its class, whose entropy is Hb(s) = -s ln s - (1 - s) ln(1 - s).

        Args:
            sample_id: the image; nothing is found in one that no file speaks of.
            size_hw: of the upright image, where boxes are fractions of it.
        """
        rows = self.rows(sample_id)
        boxes, confidence, labels = self.boxes[rows], self.confidence[rows], self.labels[rows]
        is_fraction = self.is_fraction[rows]
        if is_fraction.any():
            assert size_hw is not None
            scale = np.array([size_hw[1], size_hw[0]] * 2, np.float32)
            boxes = np.where(is_fraction[:, None], boxes * scale, boxes)
        if self.probs is not None:
            return Detections(boxes, confidence, labels, self.probs[rows], self.activation)
        probs = np.zeros((len(labels), self.num_classes), np.float32)
        probs[np.arange(len(labels)), labels] = confidence
        return Detections(boxes, confidence, labels, probs, "sigmoid")

    def counts(self, ids: Sequence[str], min_confidence: float = 0.0) -> np.ndarray:
        """Return how many boxes of at least this confidence each image has, (len(ids),) int64."""
        return self._sums(ids, (self.confidence >= min_confidence).astype(np.int64)).astype(np.int64)

    def expected(self, ids: Sequence[str], label: int | None = None) -> np.ndarray:
        """Return how many objects (of a class) each image is expected to show: the sum of its confidences, float64."""
        weight = self.confidence if label is None else np.where(self.labels == label, self.confidence, 0)
        return self._sums(ids, weight.astype(np.float64))

    def strongest(self, ids: Sequence[str], label: int) -> np.ndarray:
        """Return the largest confidence of a class in each image, (len(ids),) float64; 0 where it finds none."""
        best = np.zeros(len(self.ids))
        mine = np.flatnonzero(self.labels == label)
        np.maximum.at(best, np.searchsorted(self.start, mine, "right") - 1, self.confidence[mine])
        return self._of(ids, best)

    def _sums(self, ids: Sequence[str], weight: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0], np.cumsum(weight)])
        return self._of(ids, (total[self.start[1:]] - total[self.start[:-1]]).astype(np.float64))

    def _of(self, ids: Sequence[str], values: np.ndarray) -> np.ndarray:
        at = self._places(ids)
        return np.where(at >= 0, values[at] if len(values) else 0.0, 0.0)

    def _places(self, ids: Sequence[str]) -> np.ndarray:
        """Return the position of each image, -1 for one that no file speaks of; those asked for last are remembered."""
        last_ids, last = getattr(self, "_last", (None, None))
        if last_ids is not ids or last is None or len(last) != len(ids):
            row_of = getattr(self, "row_of")  # noqa: B009 - set above, in a frozen object
            last = np.fromiter((row_of.get(i, -1) for i in ids), np.int64, len(ids))
            object.__setattr__(self, "_last", (ids, last))
        return last

    @property
    def provides(self) -> tuple[str, ...]:
        """What a strategy may need and files hold, in the words of `Strategy.needs`."""
        return (
            *(("detections", "class_probs") if len(self.ids) else ()),
            *(("image_embedding",) if self.embedding is not None else ()),
            *(("box_embedding",) if self.box_embedding is not None else ()),
        )


def assemble(
    files: Sequence[Rows], names: Finds, classes: Sequence[str], first_category: int | None = None
) -> Predictions:
    """Join the boxes of some files under the dataset's images and classes.

    Args:
        files: checked by `Rows.check`.
        names: of the dataset's images.
        classes: the dataset's.
        first_category: see `labels_of`.

    Raises:
        DataError: for unknown classes, files without any image of the dataset, and distributions of different kinds.
    """
    kinds = {(r.probs is not None, r.activation if r.probs is not None else "") for r in files}
    if len(kinds) > 1:
        do = "give distributions for all, or for none"
        raise files[-1].source.wrong("files of one kind", "class distributions in some and not in others", do=do)
    notes: list[str] = []
    samples: dict[str, int] = {}
    parts = [_placed(rows, names, classes, first_category, samples, notes) for rows in files]
    image, label = (np.concatenate([p[k] for p in parts]) for k in range(2))
    kept = np.concatenate([p[2] for p in parts])
    boxes, sure = (np.concatenate([np.asarray(getattr(r, n)) for r in files]) for n in ("boxes", "confidence"))
    fraction = np.concatenate([np.full(len(r.image), r.is_fraction) for r in files])
    kept &= _first_of_copies(image, label, boxes, sure, kept, notes)
    order = np.flatnonzero(kept)
    order = order[np.lexsort((-sure[order], image[order]))]
    start = np.searchsorted(image[order], np.arange(len(samples) + 1))
    found = [p[3] for p in parts if p[3] is not None]
    probs = np.concatenate(found)[order] if found else None
    counted = all(r.suppressed is not None for r in files)
    suppressed = np.concatenate([r.suppressed for r in files if r.suppressed is not None])[order] if counted else None
    return Predictions(
        tuple(samples),
        start.astype(np.int64),
        boxes[order].astype(np.float32),
        fraction[order],
        sure[order].astype(np.float32),
        label[order],
        len(classes),
        probs,
        "softmax" if probs is not None and files[0].activation == "softmax" else "sigmoid",
        suppressed,
        notes=tuple(notes),
        box_embedding=_box_embeddings(files, order),
    )


def _box_embeddings(files: Sequence[Rows], order: np.ndarray) -> np.ndarray | None:
    """Return the embeddings of the boxes that are kept; None where some files have none.

    Raises:
        DataError: for embeddings of different lengths.
    """
    held = [r.embedding for r in files if r.embedding is not None]
    if len(held) < len(files):
        return None
    widths = sorted({part.shape[1] for part in held})
    if len(widths) > 1:
        raise files[-1].source.wrong("embeddings of one length", f"lengths {widths}", "box_embedding")
    return np.asarray(np.concatenate(held)[order])


def _placed(
    rows: Rows,
    names: Finds,
    classes: Sequence[str],
    first_category: int | None,
    samples: dict[str, int],
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return of each box of a file: sample, label, whether its image is there, and distribution."""
    found = [names.find(image) for image in rows.images]
    strangers = [image for image, i in zip(rows.images, found, strict=True) if i is None]
    if rows.images and len(strangers) == len(rows.images):
        raise rows.source.wrong(
            "names of the dataset's images", f"{len(strangers)} names that are none, such as {shown(strangers[0])}",
            do="is it the right dataset? Numbers as image ids are explained by --images-json FILE, a COCO document",
        )  # fmt: skip
    if strangers:
        notes.append(
            f"{rows.source.path}: {len(strangers)} of {len(rows.images)} images are none of the dataset's, such as "
            f"{shown(strangers[0])}; their boxes are left out"
        )
    if any(isinstance(image, int) and i is not None for image, i in zip(rows.images, found, strict=True)):
        number, name = next((n, i) for n, i in zip(rows.images, found, strict=True) if isinstance(n, int) and i)
        notes.append(f"{rows.source.path}: image ids are read as file names ({number} is {name}); "
                     "if they count images of a COCO document, give it: --images-json FILE")  # fmt: skip
    twice = [i for i, n in Counter(i for i in found if i is not None).items() if n > 1]
    if twice:
        notes.append(f"{rows.source.path}: {len(twice)} images go by several names, such as {twice[0]}")
    before = {i for i in found if i in samples}
    if before:
        notes.append(f"{rows.source.path}: {len(before)} images have predictions in an earlier file, too, such as "
                     f"{min(before, key=str)}; their boxes are joined")  # fmt: skip
    sample = np.array([-1 if i is None else samples.setdefault(i, len(samples)) for i in found], np.int64)
    label = labels_of(rows, classes, first_category)
    probs = _in_order(rows, label, len(classes))
    if not len(rows.image):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool), probs
    return sample[rows.image], label[rows.category], sample[rows.image] >= 0, probs


def _in_order(rows: Rows, label: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Return the distributions with their columns in the dataset's order of classes."""
    if rows.probs is None or np.array_equal(label, np.arange(num_classes)):
        return rows.probs
    first = 1 if rows.activation == "softmax" else 0
    probs = np.zeros((len(rows.probs), num_classes + first), np.float32)
    probs[:, :first] = rows.probs[:, :first]
    probs[:, first + label] = rows.probs[:, first:]
    return probs


def _first_of_copies(
    image: np.ndarray, label: np.ndarray, boxes: np.ndarray, sure: np.ndarray, kept: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Return which boxes are no copy of an earlier one: the same image, class, box and confidence."""
    is_first = np.ones(len(image), bool)
    rows = np.flatnonzero(kept)
    order = rows[np.lexsort((sure[rows], *boxes[rows].T, label[rows], image[rows]))]  # stable: the first stays first
    if len(order) < 2:  # noqa: PLR2004
        return is_first
    same = (image[order[1:]] == image[order[:-1]]) & (label[order[1:]] == label[order[:-1]])
    same &= (sure[order[1:]] == sure[order[:-1]]) & (boxes[order[1:]] == boxes[order[:-1]]).all(1)
    is_first[order[1:][same]] = False
    if same.any():
        notes.append(f"{int(same.sum())} boxes stand twice with the same class, place and confidence; once counts "
                     "(was a file given twice?)")  # fmt: skip
    return is_first


def no_predictions(num_classes: int) -> Predictions:
    """Return what is known where nobody gave a file with boxes."""
    none, zero = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Predictions((), np.zeros(1, np.int64), none.reshape(0, 4), zero.astype(bool), none, zero, num_classes)


def check_embedded(predictions: Predictions, ids: Sequence[str], where: str) -> None:
    """Refuse embeddings that some images lack.

    Raises:
        DataError: with how many, and the first.
    """
    lacking = [i for i in ids if i not in predictions.embedded]
    if lacking:
        raise DataError(
            f"{where}: expected an embedding for each of {len(ids)} images, got none for {len(lacking)}, first "
            f"{lacking[0]!r}; embed them, too, or leave these images out of the dataset"
        )
