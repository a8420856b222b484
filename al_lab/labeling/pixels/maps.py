"""What people handed in about pixels: masks, areas, and the classes of numbered points."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.record.pixel_labels import NO_CLASS, UNANSWERED, PixelLabels
from al_lab.data.formats import cvat, label_studio, labelme
from al_lab.data.formats.areas import AreaRecord, label_of
from al_lab.data.formats.images import IMAGE_SUFFIXES, open_image
from al_lab.data.formats.layout import LISTS, json_format, xml_format
from al_lab.data.formats.masks import VOID_NAMES, Color, read_ids, read_map_classes, read_values
from al_lab.labeling.pixels.points import Target, answer, answered_by, read_table, target_near
from al_lab.labeling.reader import Answers, FolderReader, check_size, not_asked_for
from al_lab.labeling.request import Item

#: Names of tables that explain the values or colors of masks; a tool's export brings its own.
TABLES = ("labelmap.txt", "class_dict.csv", "_classes.csv", "classes.txt")
BACKGROUND = "background"  # what CVAT calls pixels that nobody painted
_MAP_SUFFIX = re.compile(r"[ _-](mask|masks|seg|segmentation|label|labels|labelids|gt|gt_labelids|l)$", re.I)
_PHOTOGRAPHS = re.compile(r"^(images?|jpegimages|imgs?|photos?|segmentationobject|.*instance.*)$", re.I)


def read_maps(
    folder: Path,
    items: Sequence[Item],
    targets: Mapping[str, Sequence[Target]],
    classes: Sequence[str],
    colors: Mapping[Color, int],
    void_id: int | None,
) -> Answers[PixelLabels]:
    """Read all files below a folder, whatever tool wrote them.

    Args:
        folder: ``labels/``; its files may lie in subfolders, as exports bring them.
        items: what was asked for.
        targets: of the items of which points or squares were asked for, by sample id.
        classes: names in label order.
        colors: of our own class table, to labels.
        void_id: the id of what is not labeled, in masks; None: 255.
    """
    return _Reader(folder, items, targets, classes, colors, void_id).read_all()


class _Reader(FolderReader[PixelLabels]):
    """Reads label maps; what a file leaves out stays open."""

    what = "masks (PNG), points.csv, Label Studio's JSON, CVAT for images' XML or labelme files"
    when_empty = ""

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        targets: Mapping[str, Sequence[Target]],
        classes: Sequence[str],
        colors: Mapping[Color, int],
        void_id: int | None,
    ) -> None:
        super().__init__(folder, items)
        self.targets, self.classes, self.colors, self.void_id = targets, tuple(classes), colors, void_id

    def read(self, path: Path) -> None:
        """See `FolderReader.read`."""
        suffix, is_ours = path.suffix.lower(), path.parent == self.folder
        if path.name.lower() in (*TABLES, *LISTS):
            return
        if path.stat().st_size == 0:
            raise DataError(
                explain(expected=self.what, got="an empty file", where=str(path), do="export it again, or remove it")
            )
        if suffix in IMAGE_SUFFIXES:
            if is_ours or not any(_PHOTOGRAPHS.match(part) for part in path.relative_to(self.folder).parts[:-1]):
                self._mask(path)
        elif suffix in (".csv", ".tsv"):
            self._table(path)
        elif suffix == ".xml" and xml_format(path) == "cvat":
            self.many("cvat", path, cvat.read_areas(path))
        elif suffix == ".json" and (kind := json_format(path)) in ("label_studio", "labelme"):
            if kind == "label_studio":
                self.many("label_studio", path, label_studio.read_areas(path))
            else:
                record = labelme.read_areas(path)
                self.one("labelme", path, self.item(record.file_name) or self.item(path.name), record)
        elif is_ours or suffix in (".xml", ".json"):
            do = "export masks as PNG, Label Studio's JSON, CVAT for images 1.1, or labelme's files"
            raise DataError(
                explain(expected=self.what, got=f"another {suffix or 'nameless'} file", where=str(path), do=do)
            )

    def _mask(self, path: Path) -> None:
        item = self.item(path.name) or self.item(_MAP_SUFFIX.sub("", path.stem))
        if item is None:
            raise not_asked_for(path, path.name)
        values, table = self._values(path)
        check_size(item, (values.shape[0], values.shape[1]), str(path))
        strange = sorted(set(np.unique(values).tolist()) - set(table))
        if strange:
            count = int(np.isin(values, strange).sum())
            known = ", ".join(map(str, sorted(table)))
            raise DataError(
                explain(
                    expected=f"ids of class_table.csv ({known})" if len(known) < 80 else "ids of class_table.csv",  # noqa: PLR2004
                    got=f"{strange[:8]} in {count} pixels",
                    where=str(path),
                    do="correct the mask; what is not labeled is 255, or another id that oracle.void_id names",
                )
            )
        turn = np.full(256, UNANSWERED, np.uint8)
        turn[list(table)] = list(table.values())
        self._keep(path, item, PixelLabels(turn[values]), None)

    def _values(self, path: Path) -> tuple[np.ndarray, dict[int, int]]:
        """Return a mask's values, and what each of them means."""
        if (table := self._table_of(path)) is not None:
            return read_values(path, table[1]), table[0]
        own = {k: k for k in range(len(self.classes))} | {NO_CLASS: NO_CLASS}
        own |= {UNANSWERED if self.void_id is None else self.void_id: UNANSWERED}
        with open_image(path) as image:
            mode, rgb = image.mode, np.asarray(image.convert("RGB")) if image.mode in ("RGB", "RGBA", "LA") else None
        if mode == "1":
            raise DataError(_black_and_white(path, "a picture of black and white"))
        if rgb is not None:
            is_gray = bool((rgb == rgb[..., :1]).all())
            if not (is_gray and set(np.unique(rgb).tolist()) - {0, 255}):
                return read_values(path, self.colors), own | {v: v for v in self.colors.values()}
            return rgb[..., 0], own  # ids, saved as color
        values = read_ids(path)
        if self.void_id is None and len(self.classes) == 2 and set(np.unique(values).tolist()) == {0, 255}:  # noqa: PLR2004
            raise DataError(_black_and_white(path, "0 and 255 alone"))
        return values, own

    def _table_of(self, path: Path) -> tuple[dict[int, int], dict[Color, int]] | None:
        """Return what a table beside a mask, or above it, says: value to label, and color to value."""
        folder = path.parent
        while folder.is_relative_to(self.folder):
            if any((folder / name).is_file() for name in TABLES):
                found = read_map_classes(folder, None)
                if found is not None:
                    names = found.names.items()
                    return {raw: self._label(name, f"{folder}: {name}") for raw, name in names}, found.colors
            folder = folder.parent
        return None

    def _label(self, name: str, where: str) -> int:
        """Return the label of a table's name; in a mask void is what nobody labeled."""
        is_void = name.lower() in VOID_NAMES or name.lower() == BACKGROUND
        return UNANSWERED if is_void and name not in self.classes else label_of(name, self.classes, where)

    def record(self, kind: str, path: Path, item: Item, record: AreaRecord) -> None:
        """See `FolderReader.record`."""
        del kind
        if record.is_done is False:
            return
        if record.size_hw is not None:
            check_size(item, record.size_hw, record.where)
        labels = record.labels(self.classes, item.size_hw)
        targets = self.targets.get(item.sample_id, ())
        named: dict[int, tuple[Target, int, str]] = {}
        for point in record.points if targets else ():
            if point.name == label_studio.OPEN:
                continue  # handed out so, and nobody has said what it is
            target, label = target_near(point, targets), label_of(point.name, self.classes, point.where)
            if named.setdefault(target.number, (target, label, point.where))[1] != label:
                raise DataError(_twice(target, item.file_name, point.where, named[target.number][2]))
        for _, (target, label, _) in sorted(named.items()):
            answer(labels, target, label)
        lost = len(record.points) if not targets else 0
        notes = [*record.notes, *([f"{lost} points cover no area and are left out"] if lost else [])]
        self.answers.notes += [f"{record.where}: {note}" for note in notes]
        self._keep(path, item, labels, record.seconds)

    def _keep(self, path: Path, item: Item, labels: PixelLabels, seconds: float | None) -> None:
        """Take over what answers something that was asked for."""
        targets = self.targets.get(item.sample_id)
        said = labels.map_HW.reshape(-1)
        asked = np.concatenate([t.pixels for t in targets]) if targets else slice(None)
        if (said[asked] == UNANSWERED).all():
            self.unfinished(path, item)
        else:
            self.take(item, labels, path, seconds)

    def _table(self, path: Path) -> None:
        """Take over a table of points, line by line: what is wrong is named, what is right is kept."""
        said: dict[tuple[str, int], tuple[Target, int, str]] = {}
        twice: set[tuple[str, int]] = set()
        strangers = lines = 0
        for line in read_table(path):
            if line.wrong:
                self.answers.problems.append(line.wrong)
                continue
            lines += 1
            item = self.item(line.image)
            if item is None or item.sample_id not in self.targets:
                strangers += 1
                continue
            try:
                answered = answered_by(line, self.targets[item.sample_id], self.classes)
                if answered is None:
                    continue
                target, label = answered
                key = item.sample_id, target.number
                before = said.setdefault(key, (target, label, line.where))
                if before[1] != label:
                    twice.add(key)
                    raise DataError(_twice(target, line.image, line.where, before[2].rpartition(": ")[2]))
            except DataError as error:
                self.answers.problems.append(str(error))
        if lines and strangers == lines:
            got, do = "none of them", "fill in points.csv of this cycle; keep the names of the images"
            raise DataError(explain(expected="images of list.csv", got=got, where=str(path), do=do))
        if strangers:
            self.answers.notes.append(f"{path}: {strangers} lines of images that were not asked for here are left out")
        found: dict[str, PixelLabels] = {}
        for key in sorted(said.keys() - twice):
            labels = found.setdefault(key[0], PixelLabels.none(self.by_id[key[0]].size_hw))
            answer(labels, said[key][0], said[key][1])
        for sample_id, labels in found.items():
            self.take(self.by_id[sample_id], labels, path)

    def join(self, before: PixelLabels, new: PixelLabels) -> PixelLabels | None:
        """See `FolderReader.join`: two files may each speak of other pixels."""
        return None if new.contradicts(before) else new.over(before)


def _twice(target: Target, name: str, where: str, before: str) -> str:
    return explain(
        expected=f"one class for point {target.number} of {name}",
        got=f"another one than in {before}",
        where=where,
        do="remove the one that is wrong",
    )


def _black_and_white(path: Path, got: str) -> str:
    return explain(
        expected="ids of classes, and 255 for what is not labeled",
        got=f"{got}: 255 may mean the second class, or nothing",
        where=str(path),
        do="save the second class as id 1; if 255 does mean 'not labeled', say oracle.void_id=255",
    )
