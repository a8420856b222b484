"""What people handed in: every file is either taken over or named with what is wrong and what to do."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.documents import Source
from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation
from al_lab.data.formats import coco, cvat, label_studio, labelme, voc, yolo
from al_lab.data.formats.layout import LISTS, json_format, xml_format
from al_lab.data.formats.record import Record
from al_lab.labeling.reader import Answers, FolderReader, check_size
from al_lab.labeling.request import Item

NO_OBJECTS = "no_objects.txt"
# One file holds many images, and unfinished ones look like empty ones.
_WHOLE = ("coco", "cvat", "yolo")


def read_answers(
    folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool | None
) -> Answers[Annotation]:
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
    return _Reader(folder, items, classes, one_based, empty_is_answer).read_all()


def accept_records(
    found: Iterable[tuple[Item, Record]], items: Sequence[Item], classes: Sequence[str]
) -> Answers[Annotation]:
    """Hold what a server says of images against what was asked, as if it had come in files.

    Args:
        found: images and what is said of them; the tool knows whether they are done.
        items: what was asked for.
        classes: names in label order.
    """
    reader = _Reader(Path(), items, classes, one_based=False, empty_is_answer=None)
    for item, record in found:
        try:
            reader.record("label_studio", Path(record.where), item, record)
        except DataError as error:
            reader.answers.problems.append(str(error))
    return reader.finish()


class _Reader(FolderReader[Annotation]):
    """Reads boxes, whatever tool wrote them."""

    what = "Pascal VOC, COCO, YOLO, CVAT, Label Studio or labelme files"

    def __init__(
        self, folder: Path, items: Sequence[Item], classes: Sequence[str], one_based: bool, empty_is_answer: bool | None
    ) -> None:
        super().__init__(folder, items)
        self.classes = tuple(classes)
        self.one_based = one_based
        self.empty_is_answer = empty_is_answer
        self.when_empty = (
            f"; if they show no object, write their names into {folder / NO_OBJECTS}, "
            "or set oracle.empty_is_answer=true"
        )

    def read(self, path: Path) -> None:
        """See `FolderReader.read`."""
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
            self.one("voc", path, self.item(path.name), self._voc(path))
        elif suffix == ".xml":
            self.many("cvat", path, cvat.read(path))
        elif kind == "labelme":
            record = labelme.read(path)
            self.one("labelme", path, self.item(record.file_name) or self.item(path.name), record)
        elif kind == "label_studio":
            self.many("label_studio", path, label_studio.read(path))
        elif suffix == ".json":
            self.many("coco", path, coco.records(coco.load_coco(path)))
        elif suffix == ".txt" and (asked := self.item(path.name)) is not None:
            names = self._yolo_names(path)
            self.one("yolo", path, asked, yolo.read_labels(path, asked.file_name, names, asked.size_hw))
        elif path.parent == self.folder and path.name.lower() not in LISTS:
            # exports bring lists and images along in subfolders
            do = f"export as Pascal VOC or COCO; images without objects go into {NO_OBJECTS}"
            raise DataError(explain(expected=self.what, got=f"a {suffix or 'nameless'} file", where=str(path), do=do))

    def _voc(self, path: Path) -> Record:
        item = self.item(path.name)
        said = (voc.read_xml(path).findtext("filename") or "").strip()
        inside = self.item(said) if said else None
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

    def record(self, kind: str, path: Path, item: Item, record: Record) -> None:
        """See `FolderReader.record`."""
        if record.is_done is False:
            return
        if record.size_hw is not None:
            check_size(item, record.size_hw, record.where)
        annotation, notes = record.annotation(self.classes, item.size_hw)
        is_empty_answer = self.empty_is_answer
        if is_empty_answer is None:
            is_empty_answer = record.is_done is True or kind not in _WHOLE
        if not len(record.names) and not is_empty_answer:
            self.unfinished(path, item)
            return
        self.answers.notes += [f"{path}: {note}" for note in notes]
        self.take(item, annotation, path, record.seconds)

    def _no_objects(self, path: Path) -> Iterator[Item]:
        for number, name in Source(path, "image names, one a line", "save it as text").read_lines():
            item = self.item(name)
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

    def join(self, before: Annotation, new: Annotation) -> Annotation | None:
        """See `FolderReader.join`."""
        names = ("boxes_xyxy", "labels", "difficult", "crowd")
        return new if all(np.array_equal(getattr(before, n), getattr(new, n)) for n in names) else None
