"""What people labeled, kept with the images and not with a run: nobody is asked for the same image twice."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.disk import lock_error
from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.fields import at_least, class_name, coordinate, flag, list_of, not_negative, optional, text
from al_lab.core.files import append_line, sha256
from al_lab.core.types import Annotation

TASK: Literal["detection"] = "detection"
_BOXES = list_of(list_of(coordinate, length=4))
_DO = "restore the file from a backup, or forget this image's labels: al-lab labels forget"


@dataclass(frozen=True)
class StoredLabel:
    """One answer for one image.

    Attributes:
        digest: sha256 of the image file's bytes: a copy of the image, or the same one in another folder, is the same.
        version: 1 for the first answer, one more for each correction.
        classes: the answer is about these, in no order: what it does not show of them is not there.
        annotation: objects as `Annotation` holds them, labels counted in ``classes``.
        when: UTC, ISO 8601.
        seconds: a person spent, where the tool knew.
        origin: what it was taken over from, for people.
    """

    digest: str
    version: int
    classes: tuple[str, ...]
    annotation: Annotation
    when: str
    seconds: float | None = None
    origin: str = ""

    def seen_by(self, classes: Sequence[str]) -> Annotation | None:
        """Return the objects of ``classes``, labeled by position; None if the answer does not speak of all of them."""
        if not set(classes) <= set(self.classes):
            return None
        names = [self.classes[label] for label in self.annotation.labels]
        rows = np.array([n for n, name in enumerate(names) if name in classes], np.int64)
        a = self.annotation
        labels = [classes.index(names[n]) for n in rows]
        return Annotation.make(a.boxes_xyxy[rows], labels, a.difficult[rows], a.crowd[rows])


class LabelStore:
    """Answers of people under ``<folder>/detection/<aa>/<sha256>.jsonl``, a line a version.

    Nothing is ever overwritten.

    Only people's answers enter: never a simulated oracle's, nor an analysis's. Several processes may use it at once.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made with the first answer."""
        self.folder = folder

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
        """Return the newest answer for an image that speaks of all of ``classes``.

        Raises:
            DataError: if the image's file is damaged.
        """
        return next((s for s in reversed(self.versions(digest)) if s.seen_by(classes) is not None), None)

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

    @staticmethod
    def _read(line: bytes, source: Source, digest: str, number: int) -> StoredLabel:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise source.wrong(source.what, f"no JSON ({error})", f"line {number}") from error
        entry = Entry(value, source, f"line {number}")
        listed: list[str] = entry.read("classes", list_of(class_name, least=1))
        classes = tuple(listed)
        names = entry.read("names", list_of(class_name))
        boxes = entry.read("boxes_xyxy", _BOXES)
        flags = [entry.read(key, list_of(flag)) for key in ("difficult", "crowd")]
        if len({len(names), len(boxes), *map(len, flags)}) != 1 or not set(names) <= set(classes):
            raise entry.wrong("", "as many boxes, names and flags, of its classes", "others")
        return StoredLabel(
            digest,
            entry.read("version", at_least(1)),
            classes,
            Annotation.make(boxes, [classes.index(n) for n in names], *flags),
            entry.read("when", text),
            entry.read("seconds", optional(not_negative), None),
            entry.read("origin", optional(text), None) or "",
        )

    def add(
        self,
        digest: str,
        classes: Sequence[str],
        annotation: Annotation,
        seconds: float | None = None,
        origin: str = "",
    ) -> bool:
        """Keep an answer, unless the newest one says the same.

        Args:
            digest: of the image's bytes.
            classes: names in label order; the answer is about all of them.
            annotation: the objects.
            seconds: a person spent.
            origin: for people, such as the file's name.

        Returns:
            Whether it is new.
        """
        with self._lock():
            before = self.versions(digest)
            known = self.find(digest, classes)
            if known is not None and _same(known.seen_by(classes), annotation):
                return False
            row = {
                "version": len(before) + 1,
                "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "classes": list(classes),
                "names": [classes[label] for label in annotation.labels],
                **{k: getattr(annotation, k).tolist() for k in ("boxes_xyxy", "difficult", "crowd")},
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
        for path in sorted((self.folder / TASK).glob("??/*.jsonl")):
            yield path.stem

    def forget(self, digest: str) -> int:
        """Remove an image's answers; runs that used them keep theirs. Returns how many there were."""
        with self._lock():
            path = self._path(digest)
            count = path.read_bytes().count(b"\n") if path.is_file() else 0
            path.unlink(missing_ok=True)
            return count

    def _path(self, digest: str) -> Path:
        return self.folder / TASK / digest[:2] / f"{digest}.jsonl"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # held for one line only: waiting is short
            yield


def _same(a: Annotation | None, b: Annotation) -> bool:
    return a is not None and a.to_json() == b.to_json()


def stored_labels(store: LabelStore, dataset: Any, ids: Sequence[str]) -> Mapping[str, StoredLabel]:
    """Return what the store has for images of a dataset; images it knows nothing of are left out.

    Raises:
        DataError: if a file of the store is damaged.
    """
    if dataset.task != TASK or not (store.folder / TASK).is_dir():
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
    for ids in dataset.splits().values():
        for sample_id in ids:
            if not dataset.has_truth(sample_id):
                continue
            try:
                truth = dataset.truth(sample_id)
            except DataError as error:
                problems.append(str(error))
                continue
            is_new = store.add(sha256(dataset.image_path(sample_id)), dataset.classes, truth, origin=origin)
            new, known = new + is_new, known + (not is_new)
    return new, known, problems


class StoredDataset:
    """A dataset's images with the labels that the store has of them, for whoever writes them in another format."""

    task: Literal["detection", "segmentation"] = TASK

    def __init__(self, dataset: Any, store: LabelStore) -> None:
        """Look up every image once."""
        self._dataset = dataset
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

    def truth(self, sample_id: str) -> Annotation:
        """Return it."""
        found = self._labels[sample_id].seen_by(self.classes)
        assert found is not None, "stored_labels returns what speaks of all classes"
        return found
