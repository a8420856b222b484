"""A person's own photographs as they lie, with the annotations that lie beside them, whatever tool wrote them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from al_lab.core.errors import DataError, DataErrors, explain
from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Finding, folder_name
from al_lab.data.datasets.detection import DetectionDataset
from al_lab.data.datasets.voc import zero_corner
from al_lab.data.formats import coco, cvat, label_studio, labelme, layout, voc, yolo
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.record import Record, size_note
from al_lab.data.formats.splits import ABSENT, SPLIT_WORDS, choose_splits, split_in_name, split_of
from al_lab.data.grouping import Grouping, automatic_test

log = logging.getLogger(__name__)

_WORDS = {
    "voc": "Pascal VOC XML",
    "coco": "COCO JSON",
    "yolo": "YOLO labels",
    "cvat": "CVAT XML",
    "label_studio": "Label Studio JSON",
    "labelme": "labelme JSON",
}
_Reader = Callable[[tuple[int, int]], Record]


@dataclass
class _Labels:
    """What the annotation files of one format say.

    Attributes:
        readers: id to annotation file and the function that reads what it says of the image.
        names: class names in label order, where a file lists them; else those that occur, sorted.
        problems: what could not be read, found while looking for class names.
        notes: what was read, but looks like a mistake.
        strangers: annotation files (or entries) that speak of no image here.
        splits: split to ids, where annotation files or lists tell.
        how: where the splits were found, in words.
    """

    readers: dict[str, tuple[Path, _Reader]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    splits: dict[str, list[str]] = field(default_factory=dict)
    how: str = ""


class Folder(DetectionDataset):
    """Images with (some, all or no) annotations.

    VOC, COCO, YOLO, CVAT, Label Studio or labelme files, found as they lie.

    Splits are those of lists (``ImageSets/Main``, ``data.yaml``), of annotation files' names, or of folders called
    train, valid, val or test; without any, ``test_fraction`` of the annotated images become the test set.
    """

    # Whether a test set is cut from the pool where annotated images are of one split only.
    _single_split_is_cut = True
    # Whether all annotations are read at once, so that all bad ones are named before the first training.
    _reads_all = True

    def __init__(
        self,
        root: str,
        classes: Sequence[str] | None = None,
        format: layout.Format | None = None,  # noqa: A002 - the user's word
        image_dir: str | None = None,
        pool_split: str | None = None,
        val_split: str | None = None,
        test_split: str | None = None,
        test_fraction: float = 0.2,
        one_based: bool = True,
        outside: Outside = "error",
        metrics: Sequence[str] | None = None,
        name: str | None = None,
        group_by: str | None = None,
        min_gap: int | str | None = None,
    ) -> None:
        """Look at the folder.

        Args:
            root: the folder.
            classes: names in label order; None: as a file lists them, else those that occur.
            format: of the annotations to read, where there are several; None: that of most images.
            image_dir: below root; None: the usual places.
            pool_split: of the splits that are there, or a list in ImageSets/Main of any name; None: train, else every
                image.
            val_split: of labeled images outside the pool; "none" for no such images.
            test_split: of the test set; "none" for no test set.
            test_fraction: of the annotated images, where there are no splits.
            one_based: whether VOC files count pixels from 1.
            outside: "error" or "clip", for boxes that leave the image.
            metrics: what evaluation computes, the main one first.
            name: of the dataset; None takes the root's name.
            group_by: images of one group (video, patient, camera) have one role: a regular expression, see `Grouping`.
            min_gap: how far apart the numbers of a group's images in one purchase are; "group": one image of a group.

        Raises:
            DataError: if there are no images, no class names, or annotation files that nobody can read.
        """
        base = Path(root).expanduser()
        _check_format(format)
        self.grouping = Grouping.of(group_by, min_gap)
        image_base, self._images = self._find_images(base, image_dir)
        files = self._find_annotations(base)
        wanted = {"pool": pool_split, "val": val_split, "test": test_split}
        self._one_based = one_based
        self._own_lists = {stem for stem in wanted.values() if stem}
        listed = tuple(classes) if classes else _listed_classes(base)
        self._reads_names = self._reads_all or not listed
        found = {kind: self._read(kind, paths, base, image_base, one_based) for kind, paths in files.by_format.items()}
        broken = [finding.message for labels in found.values() for finding in labels.problems]
        if broken and not any(labels.readers for labels in found.values()):
            raise DataErrors(broken)  # nothing else that could be said of them is true
        chosen = layout.choose_format(
            {kind: len(labels.readers) for kind, labels in found.items()}, format, files, base
        )
        labels = found[chosen] if chosen else _Labels()
        if chosen is None:
            self._read_lists(labels, base)
        self._readers, self._outside, self._files, self._labels = labels.readers, outside, files, labels
        self.format, self.problems = chosen, tuple(labels.problems)
        names = listed or labels.names
        _check_names(names, base)
        splits, how = self._splits(labels, wanted, test_fraction, base)
        label = name or folder_name(root)
        super().__init__(label, names, splits["pool"], splits["val"], splits["test"], metrics)
        self._announce(how)

    def _find_images(self, base: Path, image_dir: str | None) -> tuple[Path, dict[str, Path]]:
        return layout.find_images(base, image_dir)

    def _find_annotations(self, base: Path) -> layout.AnnotationFiles:
        return layout.find_annotations(base, self._images)

    def _announce(self, how: str) -> None:
        what = _WORDS[self.format] if self.format else "photographs without annotations"
        labeled = sum(map(self.has_truth, self.pool_ids))
        log.info(
            "%s: read as %s; pool %d (%d labeled), val %d, test %d (%s); %d classes: %s",
            self.name, what, len(self.pool_ids), labeled, len(self.val_ids), len(self.test_ids), how,
            len(self.classes), ", ".join(self.classes[:8]) + (", …" if len(self.classes) > 8 else ""),  # noqa: PLR2004
        )  # fmt: skip
        for finding in self._leftovers():
            log.warning("%s: %s", finding.file, finding.message)

    def _read(self, kind: str, paths: Sequence[Path], root: Path, image_base: Path, one_based: bool) -> _Labels:
        if kind in ("voc", "yolo", "labelme"):
            files, strangers = layout.match_by_path(paths, self._images, image_base)
            labels = _Labels(strangers=[str(p) for p in strangers])
            {"voc": self._voc, "yolo": self._yolo, "labelme": self._labelme}[kind](labels, files, root, one_based)
            return labels
        labels = _Labels()
        index = layout.NameIndex(self._images)
        whole = {"coco": _coco_records, "cvat": _cvat_records, "label_studio": _label_studio_records}[kind]
        names: list[str] = []
        for path in paths:
            try:
                listed, records = whole(path)
            except DataError as error:
                sentences = error.sentences if isinstance(error, DataErrors) else (str(error),)
                labels.problems += [Finding("error", str(path), s, "correct the file") for s in sentences]
                continue
            names += [n for n in listed if n not in names]
            ids = _take(labels, records, path, index)
            split = split_in_name(path.stem) or split_of(PurePosixPath(path.relative_to(root).as_posix()))
            if split and len(paths) > 1:
                labels.splits.setdefault(split, []).extend(ids)
                labels.how = "splits by annotation file"
        labels.names = tuple(names)
        return labels

    def _voc(self, labels: _Labels, files: Mapping[str, Path], root: Path, one_based: bool) -> None:
        names = set()
        for sample_id, path in files.items():
            try:
                names |= voc.class_names(path) if self._reads_names else set()
            except DataError as error:
                labels.problems.append(Finding("error", str(path), f"{sample_id}: {error}", "correct the file"))
            name = self._images[sample_id].name

            def read(size_hw: tuple[int, int], path: Path = path, name: str = name) -> Record:
                return voc.read_record(path, name, one_based)

            labels.readers[sample_id] = (path, read)
        labels.names = tuple(sorted(names))
        self._read_lists(labels, root)

    def _read_lists(self, labels: _Labels, root: Path) -> None:
        """Take the splits that VOC's lists tell."""
        lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
        index = layout.NameIndex(self._images)
        for path in lists:
            split = path.stem if path.stem in self._own_lists else SPLIT_WORDS.get(path.stem.lower())
            if split:
                ids, missing = _known(names := voc.read_split(path), index)
                if repeated := [name for name, n in Counter(names).items() if n > 1]:
                    message = f"{len(repeated)} names occur twice, first {repeated[0]!r}; once counts"
                    labels.notes.append(Finding("warning", str(path), message, "remove the second entries"))
                labels.splits.setdefault(split, []).extend(ids)
                labels.how = "splits by ImageSets/Main"
                if missing:
                    message = f"{len(missing)} of {len(ids) + len(missing)} names have no image, first {missing[0]!r}"
                    labels.problems.append(
                        Finding("error", str(path), message, "restore the images or correct the list")
                    )

    def _labelme(self, labels: _Labels, files: Mapping[str, Path], root: Path, one_based: bool) -> None:
        del root, one_based
        names: set[str] = set()
        for sample_id, path in files.items():
            try:
                record = labelme.read(path)
            except DataError as error:
                labels.problems.append(Finding("error", str(path), f"{sample_id}: {error}", "correct the file"))
                labels.readers[sample_id] = (path, lambda _, path=path: labelme.read(path))  # type: ignore[misc]
                continue
            names |= set(record.names)
            labels.readers[sample_id] = (path, lambda _, record=record: record)  # type: ignore[misc]
        labels.names = tuple(sorted(names))

    def _yolo(self, labels: _Labels, files: Mapping[str, Path], root: Path, one_based: bool) -> None:
        del one_based
        described = [p for p in layout.walk_files(root) if p.name in ("data.yaml", "data.yml", "dataset.yaml")]
        # Several describe parts, whose folders tell the splits.
        content = yolo.read_data_yaml(described[0]) if described else {}
        content = content if len(described) < 2 else {"names": content["names"]}  # noqa: PLR2004
        labels.names = content.get("names") or _listed_classes(root)
        if files and not labels.names:
            labels.problems.append(
                Finding("error", str(root), "YOLO labels count classes, and no data.yaml or classes.txt names them",
                        "write classes.txt, one name a line in the order of the numbers, or give dataset.classes")
            )  # fmt: skip
        for sample_id, path in files.items():
            name = self._images[sample_id].name

            def read(size_hw: tuple[int, int], path: Path = path, name: str = name) -> Record:
                return yolo.read_labels(path, name, self._yolo_names(), size_hw)

            labels.readers[sample_id] = (path, read)
        index = layout.NameIndex(self._images)
        for split in ("train", "val", "test"):
            names = [n for place in content.get(split, ()) for n in _yolo_list(described[0].parent, content, place)]
            names += _yolo_list(root, {}, f"{split}.txt") if not names else []
            if ids := _known(names, index)[0]:
                labels.splits[split] = ids
                labels.how = "splits by data.yaml" if content.get(split) else "splits by lists"

    def _yolo_names(self) -> tuple[str, ...]:
        return self._labels.names or self.classes

    def _splits(
        self, labels: _Labels, wanted: dict[str, str | None], test_fraction: float, root: Path
    ) -> tuple[dict[str, list[str]], str]:
        splits, how = labels.splits, labels.how
        if not splits:
            for sample_id, path in self._images.items():
                if split := split_of(PurePosixPath(path.relative_to(root).as_posix())):
                    splits.setdefault(split, []).append(sample_id)
            how = "splits by folder"
        names = {role: v if not v or v in splits else SPLIT_WORDS.get(v.lower(), v) for role, v in wanted.items()}
        roles = choose_splits(set(splits), names, "a split", str(root))
        chosen = {role: sorted(set(splits[split])) for role, split in roles.items()}
        taken = {i for ids in chosen.values() for i in ids}
        if "pool" not in chosen:
            chosen["pool"] = sorted(set(self._images) - taken - {i for ids in splits.values() for i in ids})
            chosen["pool"] = chosen["pool"] or sorted(set(self._images) - taken)
        is_cut = self._single_split_is_cut and len(splits) == 1 and "test" not in chosen and wanted["test"] is None
        if not splits or is_cut:
            test = [] if wanted["test"] == ABSENT else [i for i in chosen["pool"] if i in labels.readers]
            chosen["test"] = automatic_test(test, test_fraction, self.grouping)
            chosen["pool"] = sorted(set(chosen["pool"]) - set(chosen["test"]))
            how = f"{how + ', ' if splits else 'no splits; '}test: {test_fraction:g} of the labeled"
        self._unused = sorted(set(self._images) - {i for ids in chosen.values() for i in ids})
        return {role: chosen.get(role, []) for role in ("pool", "val", "test")}, how

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file."""
        if sample_id not in self._images:
            raise DataError(
                explain(
                    expected="the id of a sample", got=repr(sample_id), where=f"dataset {self.name}",
                    do="is the run folder of another data set?",
                )
            )  # fmt: skip
        return self._images[sample_id]

    def annotation_file(self, sample_id: str) -> Path:
        """Return the file that speaks of the image (the image itself if none does)."""
        return self._readers[sample_id][0] if sample_id in self._readers else self.image_path(sample_id)

    def has_truth(self, sample_id: str) -> bool:
        """Say whether an annotation file speaks of the image (it may show no object)."""
        return sample_id in self._readers

    def _parse(self, sample_id: str) -> tuple[Annotation, tuple[str, ...]]:
        size_hw = self.size_hw(sample_id)
        record = self._readers[sample_id][1](size_hw)
        annotation, notes = record.annotation(self.classes, size_hw, self._outside)
        return annotation, (*notes, *size_note(record.size_hw, size_hw))

    def _leftovers(self) -> list[Finding]:
        """Name what lies in the folder and is not read."""
        found = []
        for kind, paths in self._files.by_format.items():
            if kind != self.format:
                message = f"{len(paths)} {_WORDS[kind]} files are not read: the images' labels come from {self.format}"
                found.append(Finding("info", str(paths[0]), message, f"dataset.format={kind} reads them instead"))
        for path, what in self._files.named.items():
            found.append(Finding("warning", str(path), f"not read: {what}", "labels are needed, not predictions"))
        for path in self._files.unknown:
            found.append(
                Finding("warning", str(path), "not read: no annotation format that is known here", "move it away")
            )
        found += self._labels.notes
        if self._labels.strangers:
            first, count = self._labels.strangers[0], len(self._labels.strangers)
            message = f"{count} annotations speak of no image that is there, the first is {first}"
            found.append(Finding("warning", first, message, "restore the images, or remove the annotations"))
        return found

    def blockers(self) -> list[Finding]:
        """See `Dataset.blockers`: annotation files that can't be read, too."""
        return [*super().blockers(), *self.problems]

    def _verify_truth(self, sample_id: str, decode: bool) -> list[Finding]:
        file = self.annotation_file(sample_id)
        if str(file) in {p.file for p in self.problems}:
            return []
        findings = super()._verify_truth(sample_id, decode)
        if self.format == "voc" and self._one_based and not any(f.severity == "error" for f in findings):
            findings += zero_corner(file, sample_id)
        return findings

    def _verify_whole(self) -> list[Finding]:
        findings = [*super()._verify_whole(), *self._leftovers()]
        if self._unused:
            message = f"{len(self._unused)} images are in no split that is used, first {self._unused[0]!r}"
            findings.append(Finding("info", "", message, "choose others with dataset.pool_split"))
        return findings


def _check_format(kind: str | None) -> None:
    if kind is not None and kind not in layout.FORMATS:
        expected = f"one of {', '.join(layout.FORMATS)}"
        raise DataError(
            explain(expected=expected, got=repr(kind), where="dataset.format", do="null reads what is there")
        )


def _check_names(names: Sequence[str], root: Path) -> None:
    if not names:
        do = "give dataset.classes='[cat,dog]' or write classes.txt, one name a line"
        raise DataError(explain(expected="class names", got="no annotation and no classes.txt", where=str(root), do=do))


def _take(labels: _Labels, records: Iterable[Record], path: Path, index: layout.NameIndex) -> list[str]:
    """Find the image of each record; return the ids."""
    ids = []
    for record in records:
        sample_id = index.find(record.file_name, path.parent)
        if sample_id is None:
            labels.strangers.append(f"{path}: {record.file_name}")
            continue
        if record.is_done is not False:  # an image that nobody has finished has no labels
            labels.readers[sample_id] = (path, lambda _, record=record: record)  # type: ignore[misc]
        ids.append(sample_id)
    return ids


def _coco_records(path: Path) -> tuple[tuple[str, ...], Iterable[Record]]:
    index = coco.load_coco(path)
    return index.classes, coco.records(index)


def _cvat_records(path: Path) -> tuple[tuple[str, ...], Iterable[Record]]:
    records = list(cvat.read(path))
    return tuple(sorted({n for r in records for n in r.names})), records


def _label_studio_records(path: Path) -> tuple[tuple[str, ...], Iterable[Record]]:
    records = list(label_studio.read(path))
    return tuple(sorted({n for r in records for n in r.names})), records


def _known(names: Iterable[str], index: layout.NameIndex) -> tuple[list[str], list[str]]:
    pairs = [(name, index.find(name) or index.find_stem(name)) for name in names]
    return [i for _, i in pairs if i is not None], [name for name, i in pairs if i is None]


def _yolo_list(base: Path, content: Mapping[str, object], place: str) -> list[str]:
    """Return the images that a split of data.yaml names: a folder, or a list."""
    inner = content.get("path")
    homes = [base / inner if isinstance(inner, str) else base, base]
    # Roboflow writes ../train/images though data.yaml lies beside train/.
    places = [home / p for home in homes for p in (place, place.removeprefix("../"))]
    for path in places:
        if path.is_dir():
            return [str(p) for p in layout.walk_files(path)]
        if path.is_file() and path.suffix == ".txt":
            return layout.read_list(path)
    return []


def _listed_classes(root: Path) -> tuple[str, ...]:
    for name in ("classes.txt", "labels.txt", "obj.names"):
        for path in (root / name, root / "labels" / name):
            if os.path.lexists(path):
                return tuple(name for _, name in sorted(voc.read_class_list(path).items()))
    return ()
