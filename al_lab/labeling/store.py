"""What people labeled, kept with the images and not with a run: nobody is asked for the same image twice."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.disk import lock_error
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.fields import at_least, class_name, coordinate, flag, list_of, not_negative, optional, text
from al_lab.core.files import append_line, sha256
from al_lab.core.record.pixel_labels import PixelLabels
from al_lab.core.types import Annotation

Task = Literal["detection", "segmentation"]
_BOXES = list_of(list_of(coordinate, length=4))
_DO = "restore the file from a backup, or forget this image's labels: al-lab labels forget"


@dataclass(frozen=True)
class StoredLabel:
    """One answer for one image.

    Attributes:
        digest: sha256 of the image file's bytes: a copy of the image, or the same one in another folder, is the same.
        version: 1 for the first answer, one more for each correction.
        classes: the answer is about these, in no order: what it does not show of them is not there.
        label: objects, or what was said of pixels; labels are counted in ``classes``.
        when: UTC, ISO 8601.
        seconds: a person spent, where the tool knew.
        origin: what it was taken over from, for people.
        is_whole: the whole image was asked for, not some of its pixels.
    """

    digest: str
    version: int
    classes: tuple[str, ...]
    label: Annotation | PixelLabels
    when: str
    seconds: float | None = None
    origin: str = ""
    is_whole: bool = True

    def speaks_of(self, classes: Sequence[str]) -> bool:
        """Say whether the answer is about all of these classes."""
        return set(classes) <= set(self.classes)

    def seen_by(self, classes: Sequence[str]) -> Any:
        """Return the label for ``classes``, counted by position; None if the answer does not speak of all of them."""
        return _for_classes(self.label, self.classes, classes) if self.speaks_of(classes) else None

    def class_counts(self) -> dict[str, int]:
        """Return how many objects, or pixels, of each class there are."""
        of = self.label.labels if isinstance(self.label, Annotation) else self.label.map_HW.reshape(-1)
        counts = np.bincount(of, minlength=len(self.classes))[: len(self.classes)]
        return {name: int(n) for name, n in zip(self.classes, counts, strict=True) if n}

    @property
    def size_words(self) -> str:
        """How much the answer says, in words."""
        if isinstance(self.label, Annotation):
            return f"{len(self.label.labels)} objects"
        return f"{self.label.num_answered:,} of {self.label.map_HW.size:,} pixels"


def _for_classes(label: Annotation | PixelLabels, mine: Sequence[str], wanted: Sequence[str]) -> Any:
    if isinstance(label, PixelLabels):
        return label.for_classes(mine, wanted)
    names = [mine[k] for k in label.labels]
    rows = np.array([n for n, name in enumerate(names) if name in wanted], np.int64)
    labels = [wanted.index(names[n]) for n in rows]
    return Annotation.make(label.boxes_xyxy[rows], labels, label.difficult[rows], label.crowd[rows])


class LabelStore:
    """Answers of people under ``<folder>/<task>/<aa>/<sha256>.jsonl``, a line a version.

    Nothing is ever overwritten.

    Only people's answers enter: never a simulated oracle's, nor an analysis's. Several processes may use it at once.
    """

    def __init__(self, folder: Path, task: Task = "detection") -> None:
        """Use a folder; it is made with the first answer."""
        self.folder, self.task = folder, task

    def for_task(self, task: Task) -> LabelStore:
        """Return the same store, of another task's labels."""
        return LabelStore(self.folder, task)

    def check(self) -> None:
        """Refuse a folder that can't be written, or has no locks: before people answer, not after.

        Raises:
            LabError: saying why.
        """
        try:
            with self._lock():
                pass
        except OSError as error:
            raise lock_error(error, self.folder) from error

    def find(self, digest: str, classes: Sequence[str]) -> StoredLabel | None:
        """Return what is known of an image, of answers that speak of all of ``classes``.

        Of objects it is the newest answer; of pixels the newest one of the whole image, with what was said of single
        pixels afterwards laid over it.

        Raises:
            DataError: if the image's file is damaged.
        """
        known = [stored for stored in self.versions(digest) if stored.speaks_of(classes)]
        if not known or self.task == "detection":
            return known[-1] if known else None
        first = max((n for n, stored in enumerate(known) if stored.is_whole), default=0)
        label = known[first].seen_by(classes)
        for stored in known[first + 1 :]:
            later = stored.seen_by(classes)
            label = later.over(label) if later.map_HW.shape == label.map_HW.shape else later
        return replace(known[-1], classes=tuple(classes), label=label, is_whole=known[first].is_whole)

    def versions(self, digest: str) -> list[StoredLabel]:
        """Return all answers for an image, the oldest first; a line that a killed process left unfinished is none.

        Raises:
            DataError: if the file is damaged.
        """
        path = self._path(digest)
        if not path.is_file():
            return []
        source = Source(path, "labels of the store", _DO)
        *lines, rest = source.read_bytes().split(b"\n")
        del rest  # what follows the last line's end was never finished
        return [self._read(line, source, digest, n) for n, line in enumerate(lines, 1)]

    def _read(self, line: bytes, source: Source, digest: str, number: int) -> StoredLabel:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise source.wrong(source.what, f"no JSON ({error})", f"line {number}") from error
        entry = Entry(value, source, f"line {number}")
        listed: list[str] = entry.read("classes", list_of(class_name, least=1))
        classes = tuple(listed)
        return StoredLabel(
            digest,
            entry.read("version", at_least(1)),
            classes,
            _read_objects(entry, classes) if self.task == "detection" else _read_pixels(entry, classes),
            entry.read("when", text),
            entry.read("seconds", optional(not_negative), None),
            entry.read("origin", optional(text), None) or "",
            entry.read("is_whole", flag, True),
        )

    def add(
        self,
        digest: str,
        classes: Sequence[str],
        label: Annotation | PixelLabels,
        seconds: float | None = None,
        origin: str = "",
        is_whole: bool = True,
    ) -> bool:
        """Keep an answer, unless what is known already says the same.

        Args:
            digest: of the image's bytes.
            classes: names in label order; the answer is about all of them.
            label: the objects, or what was said of pixels.
            seconds: a person spent.
            origin: for people, such as the file's name.
            is_whole: the whole image was asked for, not some of its pixels.

        Returns:
            Whether it is new.
        """
        with self._lock():
            before = self.versions(digest)
            known = self.find(digest, classes)
            if known is not None and _adds_nothing(known, label, classes, is_whole):
                return False
            row = {
                "version": len(before) + 1,
                "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "classes": list(classes),
                **_row_of(label, classes, is_whole),
                "seconds": seconds,
                "origin": origin or None,
            }
            self._drop_half_line(digest)
            append_line(self._path(digest), json.dumps(row, allow_nan=False).encode())
            return True

    def _drop_half_line(self, digest: str) -> None:
        path = self._path(digest)
        if path.is_file() and (raw := path.read_bytes()) and not raw.endswith(b"\n"):
            with path.open("r+b") as stream:
                stream.truncate(raw.rfind(b"\n") + 1)

    def digests(self) -> Iterator[str]:
        """Yield the images that have answers, in order."""
        for path in sorted((self.folder / self.task).glob("??/*.jsonl")):
            yield path.stem

    def forget(self, digest: str) -> int:
        """Remove an image's answers; runs that used them keep theirs. Returns how many there were."""
        with self._lock():
            path = self._path(digest)
            count = path.read_bytes().count(b"\n") if path.is_file() else 0
            path.unlink(missing_ok=True)
            return count

    def _path(self, digest: str) -> Path:
        return self.folder / self.task / digest[:2] / f"{digest}.jsonl"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # held for one line only: waiting is short
            yield


def _read_objects(entry: Entry, classes: Sequence[str]) -> Annotation:
    names = entry.read("names", list_of(class_name))
    boxes = entry.read("boxes_xyxy", _BOXES)
    flags = [entry.read(key, list_of(flag)) for key in ("difficult", "crowd")]
    if len({len(names), len(boxes), *map(len, flags)}) != 1 or not set(names) <= set(classes):
        raise entry.wrong("", "as many boxes, names and flags, of its classes", "others")
    return Annotation.make(boxes, [classes.index(n) for n in names], *flags)


def _read_pixels(entry: Entry, classes: Sequence[str]) -> PixelLabels:
    return PixelLabels.from_json(entry.entry("pixels"), len(classes))


def _row_of(label: Annotation | PixelLabels, classes: Sequence[str], is_whole: bool) -> dict[str, Any]:
    if isinstance(label, PixelLabels):
        return {"pixels": label.to_json(), "is_whole": is_whole}
    flags = {k: getattr(label, k).tolist() for k in ("boxes_xyxy", "difficult", "crowd")}
    return {"names": [classes[k] for k in label.labels], **flags}


def says_the_same(one: Annotation | PixelLabels, other: Annotation | PixelLabels) -> bool:
    """Say whether two labels are equal."""
    if isinstance(one, PixelLabels) and isinstance(other, PixelLabels):
        return one.same_as(other)
    return not isinstance(one, PixelLabels) and not isinstance(other, PixelLabels) and one.to_json() == other.to_json()


def _adds_nothing(known: StoredLabel, label: Annotation | PixelLabels, classes: Sequence[str], is_whole: bool) -> bool:
    before = known.seen_by(classes)
    if not isinstance(label, PixelLabels) or is_whole:
        return known.is_whole and says_the_same(before, label)
    return before.map_HW.shape == label.map_HW.shape and says_the_same(before, label.over(before))


def stored_labels(store: LabelStore, dataset: Any, ids: Sequence[str]) -> Mapping[str, StoredLabel]:
    """Return what the store has for images of a dataset; images it knows nothing of are left out.

    Raises:
        DataError: if a file of the store is damaged.
    """
    store = store.for_task(dataset.task)
    if not (store.folder / store.task).is_dir():
        return {}
    pairs = ((i, store.find(sha256(dataset.image_path(i)), dataset.classes)) for i in ids)
    return {i: found for i, found in pairs if found is not None}


def take_over(store: LabelStore, dataset: Any, origin: str) -> tuple[int, int, list[str]]:
    """Keep what a dataset's annotation files say of its images, as people's answers.

    Returns:
        How many answers were new, how many were known, and a sentence for each that can't be read.
    """
    new = known = 0
    problems = []
    store = store.for_task(dataset.task)
    for ids in (ids for split, ids in dataset.splits().items() if split != "source"):  # whose labels are drawn
        for sample_id in ids:
            if not dataset.has_truth(sample_id):
                continue
            try:
                truth = dataset.truth(sample_id)
            except DataError as error:
                problems.append(str(error))
                continue
            label = truth if isinstance(truth, Annotation) else PixelLabels(truth)  # void says nothing
            if isinstance(label, PixelLabels) and not label.num_answered:
                continue
            is_new = store.add(sha256(dataset.image_path(sample_id)), dataset.classes, label, origin=origin)
            new, known = new + is_new, known + (not is_new)
    return new, known, problems


class StoredDataset:
    """A dataset's images with the labels that the store has of them, for whoever writes them in another format."""

    def __init__(self, dataset: Any, store: LabelStore) -> None:
        """Look up every image once."""
        self._dataset = dataset
        self.task: Task = dataset.task
        self.classes = dataset.classes
        self._labels = stored_labels(store, dataset, [i for ids in dataset.splits().values() for i in ids])

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Return the dataset's own."""
        return self._dataset.splits()

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file."""
        return self._dataset.image_path(sample_id)

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        """Return the image's size."""
        return self._dataset.size_hw(sample_id)

    def has_truth(self, sample_id: str) -> bool:
        """Say whether the store has an answer."""
        return sample_id in self._labels

    def truth(self, sample_id: str) -> Annotation | np.ndarray:
        """Return it: the objects, or a label map."""
        found: Annotation | PixelLabels = self._labels[sample_id].seen_by(self.classes)
        return found if isinstance(found, Annotation) else found.label_map()
