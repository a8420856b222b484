"""What people handed in: every file is either taken over or named with what is wrong and what to do."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.fields import shown
from al_lab.core.types import Annotation
from al_lab.data.formats import coco, cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.layout import LISTS, json_format, uploaded_name, xml_format
from al_lab.data.formats.record import Record
from al_lab.labeling.request import Item

NO_OBJECTS = "no_objects.txt"
_WHAT = "Pascal VOC, COCO, YOLO, CVAT, Label Studio or labelme files"
# Label Studio puts eight hex digits and a dash before the name of every file that was uploaded.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_NAMES_SHOWN = 5
# One file holds many images, and unfinished ones look like empty ones.
_WHOLE = ("coco", "cvat", "yolo")


@dataclass
class Answers:
    """Everything found in a folder.

    Attributes:
        annotations: sample id -> what was handed in for it.
        sources: sample id -> the file it came from.
        seconds: sample id -> what a person spent on it, where the tool knew.
        problems: a sentence for each thing that could not be taken over.
        notes: a sentence for each thing that was worked around.
    """

    annotations: dict[str, Annotation] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_answers(
    folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool | None
) -> Answers:
    """Read all annotation files below a folder, whatever tool wrote them.

    Args:
        folder: ``labels/``; its files may lie in subfolders, as exports bring them.
        items: what was asked for.
        classes: names in label order.
        one_based: whether VOC files count pixels from 1.
        empty_is_answer: an image without objects says "nothing here"; False: it says "not done yet". None: it is an
            answer where the file was made for this image alone (VOC, labelme) or the tool says that the image is done
            (Label Studio's JSON), and none in a file of many images, which holds unfinished ones, too.
    """
    reader = _Reader(folder, items, classes, one_based, empty_is_answer)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder))):
        try:
            reader.read(path)
        except DataError as error:
            reader.answers.problems.append(str(error))
    return reader.finish()


def accept_records(found: Iterable[tuple[Item, Record]], items: Sequence[Item], classes: Sequence[str]) -> Answers:
    """Hold what a server says of images against what was asked, as if it had come in files.

    Args:
        found: images and what is said of them; the tool knows whether they are done.
        items: what was asked for.
        classes: names in label order.
    """
    reader = _Reader(Path(), items, classes, one_based=False, empty_is_answer=None)
    for item, record in found:
        try:
            reader.one(item, record)
        except DataError as error:
            reader.answers.problems.append(str(error))
    return reader.finish()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


class _Reader:
    """Knows what was asked for, and reads one file after the other."""

    def __init__(
        self, folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool | None
    ) -> None:
        self.folder = folder
        self.items = items
        self.by_name = {name: item for item in reversed(items) for name in item.known_as}
        self.by_id = {item.sample_id: item for item in items}
        self.classes = tuple(classes)
        self.one_based = one_based
        self.empty_is_answer = empty_is_answer
        self.answers = Answers()
        self.twice: dict[str, list[str]] = {}
        self.not_done: dict[Path, list[str]] = {}

    def read(self, path: Path) -> None:
        """Take over what a file answers.

        Raises:
            DataError: if the file as a whole can't be taken over.
        """
        suffix = path.suffix.lower()
        if path.name == NO_OBJECTS:
            for item in self._no_objects(path):
                self.take(item, Annotation.make([], []), path)
            return
        if path.stat().st_size == 0 and suffix != ".txt":
            do = f"export it again; if the image shows no object, write its name into {self.folder / NO_OBJECTS}"
            raise DataError(explain(expected="an annotation", got="an empty file", where=str(path), do=do))
        kind = {".xml": xml_format, ".json": json_format}.get(suffix, lambda _: None)(path)
        if suffix == ".xml" and kind in ("voc", None):
            self._one("voc", path, self._item(path.name), self._voc(path))
        elif suffix == ".xml":
            self._many("cvat", path, cvat.read(path))
        elif kind == "labelme":
            record = labelme.read(path)
            self._one("labelme", path, self._item(record.file_name) or self._item(path.name), record)
        elif kind == "label_studio":
            self._many("label_studio", path, label_studio.read(path))
        elif suffix == ".json":
            self._many("coco", path, coco.records(coco.load_coco(path)))
        elif suffix == ".txt" and (asked := self._item(path.name)) is not None:
            names = self._yolo_names(path)
            self._one("yolo", path, asked, yolo.read_labels(path, asked.file_name, names, asked.size_hw))
        elif suffix in (".zip", ".tar", ".gz", ".rar", ".7z"):
            raise DataError(explain(expected=_WHAT, got="an archive", where=str(path), do="unpack it here"))
        elif path.parent == self.folder and path.name.lower() not in LISTS:
            # exports bring lists and images along in subfolders
            do = f"export as Pascal VOC or COCO; images without objects go into {NO_OBJECTS}"
            raise DataError(explain(expected=_WHAT, got=f"a {suffix or 'nameless'} file", where=str(path), do=do))

    def one(self, item: Item, record: Record) -> None:
        """Take over what is said of one image."""
        self._record("label_studio", Path(record.where), item, record)

    def _item(self, name: str) -> Item | None:
        """Find the image that a file name or path speaks of, also under the name that an upload made of it."""
        base = PurePosixPath(name.replace("\\", "/")).name
        for candidate in (base, _UPLOAD_PREFIX.sub("", base)):
            for stem in (candidate, candidate.rpartition(".")[0]):
                for known in (stem, uploaded_name(stem)):
                    if known and known in self.by_name:
                        return self.by_name[known]
        return None

    def _voc(self, path: Path) -> Record:
        item = self._item(path.name)
        said = (voc.read_xml(path).findtext("filename") or "").strip()
        inside = self._item(said) if said else None
        if item is None:
            do = f"rename it to {inside.stem}.xml" if inside else "rename it, or remove it: nobody asked for this image"
            got = repr(path.name)
            raise DataError(
                explain(expected="a file named like one of the images of list.csv", got=got, where=str(path), do=do)
            )
        if inside is not None and inside is not item:
            do = f"if it belongs to {inside.file_name}, rename it to {inside.stem}.xml; else correct <filename>"
            got, expected = f"one whose <filename> is {said!r}", f"the annotation of {item.file_name}"
            raise DataError(explain(expected=expected, got=got, where=str(path), do=do))
        return voc.read_record(path, item.file_name, self.one_based)

    def _yolo_names(self, path: Path) -> tuple[str, ...]:
        """Return the classes that the numbers of a YOLO file count: those of a list beside it, else the run's own."""
        for folder in (path.parent, path.parent.parent):
            for name in ("classes.txt", "obj.names"):
                if folder.is_relative_to(self.folder) and (folder / name).is_file():
                    return tuple(voc.read_class_list(folder / name).values())
            if folder.is_relative_to(self.folder) and (folder / "data.yaml").is_file():
                return tuple(yolo.read_data_yaml(folder / "data.yaml")["names"])
        return self.classes

    def _one(self, kind: str, path: Path, item: Item | None, record: Record) -> None:
        if item is None:
            raise DataError(
                explain(
                    expected="a file named like one of the images of list.csv",
                    got=repr(record.file_name),
                    where=str(path),
                    do="rename it, or remove it: nobody asked for this image",
                )
            )
        self._record(kind, path, item, record)

    def _many(self, kind: str, path: Path, records: Iterable[Record]) -> None:
        found = [(r, self.by_id.get(r.key or "") or self._item(r.file_name)) for r in records]
        if all(item is None for _, item in found):
            first = shown(found[0][0].file_name) if found else "no image at all"
            raise DataError(
                explain(
                    expected="images of list.csv",
                    got=f"none of them, but {first}",
                    where=str(path),
                    do="keep the images' file names when you import them into the tool",
                )
            )
        strangers = sum(item is None for _, item in found)
        if strangers:  # the export of a whole project also holds the cycles before
            self.answers.notes.append(f"{path}: {strangers} images that were not asked for here are left out")
        for record, item in found:
            if item is None:
                continue
            try:
                self._record(kind, path, item, record)
            except DataError as error:
                self.answers.problems.append(str(error))

    def _record(self, kind: str, path: Path, item: Item, record: Record) -> None:
        if record.is_done is False:
            return
        if record.size_hw is not None:
            _check_size(item, record.size_hw, record.where)
        annotation, notes = record.annotation(self.classes, item.size_hw)
        is_empty_answer = self.empty_is_answer
        if is_empty_answer is None:
            is_empty_answer = record.is_done is True or kind not in _WHOLE
        if not len(record.names) and not is_empty_answer:
            self.not_done.setdefault(path, []).append(item.file_name)
            return
        self.answers.notes += [f"{path}: {note}" for note in notes]
        self.take(item, annotation, path, record.seconds)

    def _no_objects(self, path: Path) -> Iterator[Item]:
        for number, name in Source(path, "image names, one a line", "save it as text").read_lines():
            item = self._item(name)
            if item is None:
                self.answers.problems.append(
                    explain(
                        expected="names of list.csv",
                        got=repr(name),
                        where=f"{path}: line {number}",
                        do=did_you_mean(name, [i.file_name for i in self.items]),
                    )
                )
                continue
            yield item

    def take(self, item: Item, annotation: Annotation, path: Path, seconds: float | None = None) -> None:
        """Keep an answer; two different ones for an image are none."""
        before = self.answers.annotations.get(item.sample_id)
        if before is not None and not _same(before, annotation):
            self.twice.setdefault(item.sample_id, [self.answers.sources[item.sample_id]]).append(str(path))
            return
        self.answers.annotations[item.sample_id] = annotation
        self.answers.sources[item.sample_id] = str(path)
        if seconds is not None:
            self.answers.seconds[item.sample_id] = seconds

    def finish(self) -> Answers:
        """Take back what was answered in two different ways; say which images look empty and count as open."""
        for path, names in self.not_done.items():
            open_names = [n for n in names if self._item(n).sample_id not in self.answers.annotations]  # type: ignore[union-attr]
            if open_names:
                more = f" and {len(open_names) - _NAMES_SHOWN} more" if len(open_names) > _NAMES_SHOWN else ""
                self.answers.notes.append(
                    f"{path}: {len(open_names)} images have no object there and count as not labeled yet "
                    f"({', '.join(open_names[:_NAMES_SHOWN])}{more}); if they show none, write their names into "
                    f"{self.folder / NO_OBJECTS}, or set oracle.empty_is_answer=true"
                )
        for sample_id, paths in self.twice.items():
            del self.answers.annotations[sample_id], self.answers.sources[sample_id]
            self.answers.seconds.pop(sample_id, None)
            name = self.by_id[sample_id].file_name
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


def _check_size(item: Item, size_hw: tuple[int, int], where: str) -> None:
    """Refuse labels that were drawn on an image of another size."""
    if size_hw == item.size_hw:
        return
    turned = " (turned by a quarter)" if size_hw == item.size_hw[::-1] else ""
    raise DataError(
        explain(
            expected=f"labels of {item.file_name}, height x width {item.size_hw[0]} x {item.size_hw[1]}",
            got=f"{size_hw[0]} x {size_hw[1]}{turned}",
            where=where,
            do="label the image of the images/ folder as it is, neither resized nor rotated",
        )
    )
