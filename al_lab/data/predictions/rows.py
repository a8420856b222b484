"""The boxes of one predictions file in columns, as the file has them, and what must be true of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, LabError
from al_lab.core.fields import shown

FARTHEST_PX = 1e9  # as `al_lab.core.fields.coordinate`
FARTHEST_FRACTION = 2.0  # of the image: a box may leave it by rounding, not by this
_MOST_SENTENCES = 8
_PERCENT = 100


@dataclass(frozen=True)
class Rows:
    """D boxes of one file, before anybody's images and classes are held against it.

    Attributes:
        source: the file.
        images: what the file calls the M images it speaks of, also those without a box; a number is one that the file
            does not explain.
        image: (D,) int64, a position in ``images``.
        categories: what the file calls its classes; a number is one that the file does not explain.
        category: (D,) int64, a position in ``categories``.
        boxes: (D, 4) float64 xyxy, in pixels or fractions of the image.
        confidence: (D,) float64.
        is_fraction: what ``boxes`` are counted in.
        place: row -> where it stands in the file.
        first_category: what number the first class has; None where the file doesn't say.
        probs: (D, K) float32, whole class distributions, or None.
        activation: of ``probs``: "softmax" (column 0 is background) or "sigmoid".
        suppressed: (D,) int64, boxes that non-maximum suppression merged into each, itself included; None: unknown.
        embedding: (D, E) float32, of each box; None: it has none.
    """

    source: Source
    images: Sequence[str | int]
    image: np.ndarray
    categories: Sequence[str | int]
    category: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    is_fraction: bool
    place: Callable[[int], str]
    first_category: int | None = None
    probs: np.ndarray | None = None
    activation: str = "sigmoid"
    suppressed: np.ndarray | None = None
    embedding: np.ndarray | None = None

    def check(self) -> None:
        """Refuse numbers that are no boxes and no confidences.

        Raises:
            DataError: a sentence for each kind of mistake, with how many there are and where the first stands.
        """
        box, sure = self.boxes, self.confidence
        finite = np.isfinite(box).all(1)
        farthest = FARTHEST_FRACTION if self.is_fraction else FARTHEST_PX
        with np.errstate(invalid="ignore"):
            negative = finite & (box[:, 2:] < box[:, :2]).any(1)
            far = finite & (np.abs(box) > farthest).any(1)
            outside = ~((sure >= 0) & (sure <= 1))
        unit = "fractions of the image, 0 to 1" if self.is_fraction else "pixels"
        is_percent = 1 < np.max(sure, where=np.isfinite(sure), initial=0) <= _PERCENT
        percent = "these look like percent: divide by 100" if is_percent else ""
        found = [
            self._sentence(~finite, "a box of four finite numbers", box),
            self._sentence(negative, "x1 <= x2 and y1 <= y2 (no negative width or height)", box),
            self._sentence(far, f"a box in {unit}", box),
            self._sentence(outside, "a confidence in [0, 1]", sure, percent),
        ]
        raise_all([sentence for sentence in found if sentence])

    def _sentence(self, is_bad: np.ndarray, expected: str, values: np.ndarray, do: str = "") -> str:
        bad = np.flatnonzero(is_bad)
        if not len(bad):
            return ""
        first = int(bad[0])
        more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        got = " ".join(f"{v:g}" for v in np.atleast_1d(values[first]))
        return str(self.source.wrong(expected, got + more, self.place(first), do or None))


def raise_all(sentences: Sequence[str]) -> None:
    """Raise what is wrong with a file, a sentence a line; nothing if there is none.

    Raises:
        DataError: with the first few.
    """
    if sentences:
        rest = len(sentences) - _MOST_SENTENCES
        more = [f"… and {rest} more"] if rest > 0 else []
        raise DataError("\n".join([*sentences[:_MOST_SENTENCES], *more]))


def coded(values: Sequence[str | int]) -> tuple[list[str | int], np.ndarray]:
    """Return the different values in the order of their first occurrence, and the position of each value in them."""
    code: dict[str | int, int] = {}
    at = np.fromiter((code.setdefault(v, len(code)) for v in values), np.int64, len(values))
    return list(code), at


def whole_number(value: object) -> str | int:
    """Return an id as text, or as a whole number (which JSON may write as 7.0).

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"expected a whole number or text, got {shown(value)}")
    return int(value)


def all_wrong(source: Source, errors: Sequence[LabError]) -> LabError:
    """Return one error for several entries of a file."""
    try:
        raise_all([str(error) for error in errors])
    except DataError as error:
        return error
    return source.wrong(source.what, "something else")
