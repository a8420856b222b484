"""What an annotation file says of one image, before anybody's class list or image is held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation
from al_lab.data.formats.boxes import Outside, clean_boxes


@dataclass(frozen=True)
class Record:
    """One image and its N objects, as a file has them; every format's reader returns these and its writer takes them.

    Attributes:
        file_name: of the image as the file names it, with forward slashes, relative.
        boxes_xyxy: (N, 4) float64, absolute, continuous, 0-based pixels; neither clipped nor checked against the image.
        names: (N,) class names.
        where: file and entry, for messages.
        size_hw: of the image as the file says; None where it says nothing.
        difficult: (N,) bool, VOC's flag; None: all False.
        crowd: (N,) bool, COCO's flag; None: all False.
        is_done: whether the tool says that somebody finished the image; None where its format can't say.
        is_skipped: somebody looked and did not want to label it.
        key: our own id, where the tool carried it along.
        seconds: a person spent on it, where the tool knows.
        notes: a sentence for each thing that was worked around.
    """

    file_name: str
    boxes_xyxy: np.ndarray
    names: tuple[str, ...]
    where: str
    size_hw: tuple[int, int] | None = None
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    is_done: bool | None = None
    is_skipped: bool = False
    key: str | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = field(default=())

    def annotation(
        self, classes: Sequence[str], size_hw: tuple[int, int], outside: Outside = "error"
    ) -> tuple[Annotation, tuple[str, ...]]:
        """Return the objects with labels, inside the image, and a sentence for each thing that was worked around.

        Args:
            classes: names; a name's position is its label.
            size_hw: of the upright image (the file's own size is not trusted).
            outside: what to do with boxes that leave the image by more than a pixel.

        Raises:
            DataError: for an unknown class, NaN, swapped corners, and boxes outside the image.
        """
        label_of = {name: n for n, name in enumerate(classes)}
        for number, name in enumerate(self.names, 1):
            if name not in label_of:
                raise DataError(
                    explain(
                        expected=f"one of {len(classes)} known classes",
                        got=repr(name),
                        where=f"{self.where}: object {number}",
                        do=f"{did_you_mean(name, classes)} Correct the file, or add the class to classes.txt",
                    )
                )
        boxes, rows, notes = clean_boxes(self.boxes_xyxy, size_hw, self.where, outside)
        labels = np.array([label_of[name] for name in self.names], np.int64)
        flags = [None if f is None else np.asarray(f, bool)[rows] for f in (self.difficult, self.crowd)]
        return Annotation.make(boxes, labels[rows], *flags), (*self.notes, *notes)

    @classmethod
    def of(
        cls,
        file_name: str,
        annotation: Annotation,
        classes: Sequence[str],
        size_hw: tuple[int, int],
        key: str | None = None,
    ) -> Record:
        """Describe an image whose labels are known: what a writer needs."""
        return cls(
            file_name=file_name,
            boxes_xyxy=np.asarray(annotation.boxes_xyxy, np.float64),
            names=tuple(classes[label] for label in annotation.labels),
            where=file_name,
            size_hw=size_hw,
            difficult=annotation.difficult,
            crowd=annotation.crowd,
            is_done=True,
            key=key,
        )

    def renamed(self, names: Mapping[str, str]) -> Record:
        """Return the record with class names replaced where ``names`` says so."""
        return replace(self, names=tuple(names.get(name, name) for name in self.names))


def size_note(said_hw: tuple[int, int] | None, size_hw: tuple[int, int]) -> tuple[str, ...]:
    """Return a sentence if a file says another size than the image has (none if it says nothing)."""
    if said_hw is None or tuple(said_hw) == size_hw:
        return ()
    turned = " (turned by a quarter: was the EXIF orientation ignored?)" if said_hw == size_hw[::-1] else ""
    (height, width), (real_height, real_width) = said_hw, size_hw
    return (
        f"height x width is {height} x {width} in the file, but {real_height} x {real_width} in the image{turned}; "
        "check that the boxes were drawn on this very image",
    )


def losses(records: Sequence[Record], *, difficult: bool, crowd: bool) -> list[str]:
    """Say what a format can't hold of these records.

    Args:
        records: what is to be written.
        difficult: the format has VOC's flag.
        crowd: the format has COCO's flag.
    """
    found = []
    for has, name, word in ((difficult, "difficult", "difficult"), (crowd, "crowd", "crowd")):
        flags = [getattr(r, name) for r in records]
        count = sum(int(np.sum(f)) for f in flags if f is not None)
        if count and not has:
            found.append(f"{count} objects lose their flag {word!r}")
    return found
