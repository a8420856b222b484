"""What people handed in: every file is either taken over or named with what is wrong and what to do."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation
from al_lab.data.formats.coco import COCOIndex, load_coco
from al_lab.data.formats.voc import parse_voc, read_size, read_xml
from al_lab.labeling.request import Item

NO_OBJECTS = "no_objects.txt"
# Label Studio puts eight hex digits and a dash before the name of every file that was uploaded.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass
class Answers:
    """Everything found in a folder.

    Attributes:
        annotations: sample id -> what was handed in for it.
        sources: sample id -> the file it came from.
        problems: a sentence for each thing that could not be taken over.
        notes: a sentence for each thing that was worked around.
    """

    annotations: dict[str, Annotation] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_answers(
    folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool
) -> Answers:
    """Read all VOC and COCO files below a folder.

    Args:
        folder: ``labels/``; its files may lie in subfolders, as exports bring them.
        items: what was asked for.
        classes: names in label order.
        one_based: whether VOC files count pixels from 1.
        empty_is_answer: an XML file or a COCO image without objects says "nothing here"; False: it says "not done yet",
            for tools that export unfinished images, too.
    """
    reader = _Reader(folder, items, classes, one_based, empty_is_answer)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder))):
        try:
            for sample_id, annotation, notes in reader.read(path):
                reader.take(sample_id, annotation, path)
                reader.answers.notes += [f"{path}: {note}" for note in notes]
        except DataError as error:
            reader.answers.problems.append(str(error))
    return reader.finish()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


_Found = Iterator[tuple[str, Annotation, tuple[str, ...]]]


class _Reader:
    """Knows what was asked for, and reads one file after the other."""

    def __init__(
        self, folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool
    ) -> None:
        self.folder = folder
        self.items = {item.stem: item for item in items}
        self.classes = tuple(classes)
        self.one_based = one_based
        self.empty_is_answer = empty_is_answer
        self.answers = Answers()
        self.twice: dict[str, list[str]] = {}

    def read(self, path: Path) -> _Found:
        """Yield (sample id, annotation, notes) for each image the file answers.

        Raises:
            DataError: if the file as a whole can't be taken over.
        """
        suffix = path.suffix.lower()
        if path.stat().st_size == 0 and path.name != NO_OBJECTS:
            raise DataError(
                explain(
                    expected="an annotation",
                    got="an empty file",
                    where=str(path),
                    do=f"export it again; if the image shows no object, write its name into {self.folder / NO_OBJECTS}",
                )
            )
        if path.name == NO_OBJECTS:
            yield from self._no_objects(path)
        elif suffix == ".xml":
            yield from self._voc(path)
        elif suffix == ".json":
            yield from self._coco(path)
        elif suffix in (".zip", ".tar", ".gz", ".rar", ".7z"):
            raise DataError(
                explain(expected="VOC XML or COCO JSON files", got="an archive", where=str(path), do="unpack it here")
            )
        elif path.parent == self.folder:  # exports bring lists and images along in subfolders
            raise DataError(
                explain(
                    expected="VOC XML or COCO JSON files",
                    got=f"a {suffix or 'nameless'} file",
                    where=str(path),
                    do=f"export as Pascal VOC or COCO; images without objects go into {NO_OBJECTS}",
                )
            )

    def _item(self, name: str) -> Item | None:
        """Find the image that a file name or path speaks of."""
        base = PurePosixPath(name.replace("\\", "/")).name
        for candidate in (base, _UPLOAD_PREFIX.sub("", base)):
            for stem in (candidate, candidate.rpartition(".")[0]):
                if stem in self.items:
                    return self.items[stem]
        return None

    def _voc(self, path: Path) -> _Found:
        item = self._item(path.name)
        root = read_xml(path)
        said = (root.findtext("filename") or "").strip()
        inside = self._item(said) if said else None
        if item is None:
            raise DataError(
                explain(
                    expected="a file named like one of the images of list.csv",
                    got=f"{path.name!r}",
                    where=str(path),
                    do="rename it"
                    + (f" to {inside.stem}.xml" if inside else ", or remove it: nobody asked for this image"),
                )
            )
        if inside is not None and inside is not item:
            raise DataError(
                explain(
                    expected=f"the annotation of {item.file_name}",
                    got=f"one whose <filename> is {said!r}",
                    where=str(path),
                    do=f"if it belongs to {inside.file_name}, rename it to {inside.stem}.xml; else correct <filename>",
                )
            )
        _check_size(item, *read_size(root, path), str(path))
        annotation, notes = parse_voc(path, self.classes, item.size_hw, one_based=self.one_based)
        if len(annotation.labels) or self.empty_is_answer:
            yield item.sample_id, annotation, notes

    def _coco(self, path: Path) -> _Found:
        index = load_coco(path)
        rows = [(row, self._item(str(name))) for row, name in enumerate(index.file_names)]
        if all(item is None for _, item in rows):
            first = str(index.file_names[0]) if len(rows) else "no image at all"
            raise DataError(
                explain(
                    expected="images of list.csv",
                    got=f"none of them, but {first!r}",
                    where=str(path),
                    do="keep the images' file names when you import them into the tool",
                )
            )
        strangers = sum(item is None for _, item in rows)
        if strangers:  # the export of a whole project also holds the cycles before
            self.answers.notes.append(f"{path}: {strangers} images that were not asked for here are left out")
        for row, item in rows:
            if item is None:
                continue
            try:
                annotation, notes = self._coco_image(index, row, item)
            except DataError as error:
                self.answers.problems.append(str(error))
                continue
            if len(annotation.labels) or self.empty_is_answer:
                yield item.sample_id, annotation, notes

    def _coco_image(self, index: COCOIndex, row: int, item: Item) -> tuple[Annotation, tuple[str, ...]]:
        where = f"{index.source}: image {index.file_names[row]}"
        _check_size(item, int(index.sizes_hw[row, 0]), int(index.sizes_hw[row, 1]), where)
        annotation, notes = index.annotation(row, item.size_hw)
        names = [index.classes[label] for label in annotation.labels]
        for name in names:
            if name not in self.classes:
                raise DataError(
                    explain(
                        expected=f"one of {len(self.classes)} known classes",
                        got=repr(name),
                        where=where,
                        do=f"{did_you_mean(name, self.classes)} Spell the categories as in classes.txt",
                    )
                )
        labels = np.array([self.classes.index(name) for name in names], np.int64)
        return Annotation.make(annotation.boxes_xyxy, labels, annotation.difficult, annotation.crowd), notes

    def _no_objects(self, path: Path) -> _Found:
        for number, name in Source(path, "image names, one a line", "save it as text").read_lines():
            item = self._item(name)
            if item is None:
                self.answers.problems.append(
                    explain(
                        expected="names of list.csv",
                        got=repr(name),
                        where=f"{path}: line {number}",
                        do=did_you_mean(name, [i.file_name for i in self.items.values()]),
                    )
                )
                continue
            yield item.sample_id, Annotation.make([], []), ()

    def take(self, sample_id: str, annotation: Annotation, path: Path) -> None:
        """Keep an answer; two different ones for an image are none."""
        before = self.answers.annotations.get(sample_id)
        if before is not None and not _same(before, annotation):
            self.twice.setdefault(sample_id, [self.answers.sources[sample_id]]).append(str(path))
            return
        self.answers.annotations[sample_id] = annotation
        self.answers.sources[sample_id] = str(path)

    def finish(self) -> Answers:
        """Take back what was answered in two different ways."""
        for sample_id, paths in self.twice.items():
            del self.answers.annotations[sample_id], self.answers.sources[sample_id]
            name = next(item.file_name for item in self.items.values() if item.sample_id == sample_id)
            self.answers.problems.append(
                explain(
                    expected="one answer an image",
                    got=f"different ones in {' and '.join(paths)}",
                    where=name,
                    do="remove the one that is wrong",
                )
            )
        return self.answers


def _same(a: Annotation, b: Annotation) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("boxes_xyxy", "labels", "difficult", "crowd")
    )


def _check_size(item: Item, height: int, width: int, where: str) -> None:
    """Refuse labels that were drawn on an image of another size; tools that say nothing, or 0, are believed."""
    if height <= 0 or width <= 0 or (height, width) == item.size_hw:
        return
    turned = " (turned by a quarter)" if (width, height) == item.size_hw else ""
    raise DataError(
        explain(
            expected=f"labels of {item.file_name}, height x width {item.size_hw[0]} x {item.size_hw[1]}",
            got=f"{height} x {width}{turned}",
            where=where,
            do="label the image of the images/ folder as it is, neither resized nor rotated",
        )
    )
