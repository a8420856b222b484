"""PASCAL VOC: datasets of its layout, and the official VOC07+12 benchmark."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from al_lab.core.errors import DataError, explain
from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Finding
from al_lab.data.datasets.detection import DetectionDataset
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.record import size_note
from al_lab.data.formats.voc import begins_at_zero, parse_voc, read_size, read_split, read_xml, safe_name

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

# Images per list, from the organizers' statistics pages (VOC2007 and VOC2012, main/detection task).
_OFFICIAL_COUNTS = {
    "VOC2007/train": 2501,
    "VOC2007/val": 2510,
    "VOC2007/trainval": 5011,
    "VOC2007/test": 4952,
    "VOC2012/train": 5717,
    "VOC2012/val": 5823,
    "VOC2012/trainval": 11540,
}


class VOCLayout(DetectionDataset):
    """A dataset whose annotations are VOC XML files; subclasses say which images and files there are."""

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        images: Mapping[str, Path],
        annotations: Mapping[str, Path],
        splits: Mapping[str, Sequence[str]],
        one_based: bool = True,
        outside: Outside = "error",
        metrics: Sequence[str] | None = None,
    ) -> None:
        """Keep the index; XML files are read when somebody asks for them.

        Args:
            name: of the dataset.
            classes: names in label order.
            images: id to image file.
            annotations: id to XML file, which need not exist.
            splits: ids of "pool", "val" and "test".
            one_based: whether coordinates count from 1.
            outside: what to do with boxes that leave the image.
            metrics: what evaluation computes, the main one first.
        """
        super().__init__(name, classes, splits["pool"], splits.get("val", ()), splits.get("test", ()), metrics)
        self._images = images
        self._annotations = annotations
        self._one_based = one_based
        self._outside = outside
        ids = (*self.pool_ids, *self.val_ids, *self.test_ids)
        # One look at a file per id, once: has_truth is asked for every image many times. What is there and no file (a
        # pipe, a broken link) counts: who reads it says so, where an image "without annotation" would hide it.
        self._annotated = frozenset(i for i in ids if os.path.lexists(annotations[i]))

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file."""
        return _lookup(self._images, sample_id, self.name)

    def annotation_file(self, sample_id: str) -> Path:
        """Return the XML file's path, whether it exists or not."""
        return _lookup(self._annotations, sample_id, self.name)

    def has_truth(self, sample_id: str) -> bool:
        """Say whether the XML file existed when the dataset was opened."""
        return sample_id in self._annotated

    def _parse(self, sample_id: str) -> tuple[Annotation, tuple[str, ...]]:
        size_hw = self.size_hw(sample_id)
        return parse_voc(self.annotation_file(sample_id), self.classes, size_hw, self._one_based, self._outside)

    def _verify_truth(self, sample_id: str, decode: bool) -> list[Finding]:
        findings = super()._verify_truth(sample_id, decode)
        if any(f.severity == "error" for f in findings):
            return findings
        file = self.annotation_file(sample_id)
        said = read_size(read_xml(file), file)
        notes = size_note(said if min(said) > 0 else None, self.size_hw(sample_id))
        findings += [Finding("warning", str(file), f"{sample_id}: {n}", "correct the annotation") for n in notes]
        return findings + (zero_corner(file, sample_id) if self._one_based else [])


def zero_corner(file: Path, sample_id: str) -> list[Finding]:
    """Warn of a box that begins at 0 in a file that should count from 1."""
    if not begins_at_zero(file):
        return []
    message = f"{sample_id}: a box begins at 0 although VOC counts from 1 (it was cut at the border)"
    return [Finding("warning", str(file), message, "if the tool writes 0-based boxes, set dataset.one_based=false")]


def _lookup(table: Mapping[str, Path], sample_id: str, name: str) -> Path:
    try:
        return table[sample_id]
    except KeyError:
        raise DataError(
            explain(
                expected="the id of a sample",
                got=repr(sample_id),
                where=f"dataset {name}",
                do="is the run folder of another data set?",
            )
        ) from None


class VOC(VOCLayout):
    """VOC07+12: the pool is both trainval sets (16,551 images), the test set is VOC07 test (4,952).

    Ids look like "VOC2007/000005". Lists are counted against the organizers' numbers.
    """

    metrics = ("voc07_ap50", "voc_area_ap50")

    def __init__(
        self,
        root: str,
        pool: Sequence[str] = ("VOC2007/trainval", "VOC2012/trainval"),
        test: Sequence[str] = ("VOC2007/test",),
        val: Sequence[str] = (),
        check_counts: bool = True,
        metrics: Sequence[str] | None = None,
        name: str = "voc",
    ) -> None:
        """Open the official layout.

        Args:
            root: the VOCdevkit folder.
            pool: lists the pool is made of, as "<year folder>/<list>".
            test: the same for the test set.
            val: the same for labeled images outside the pool.
            check_counts: refuse lists whose length is not the organizers'.
            metrics: what evaluation computes, the main one first.
            name: of the dataset.

        Raises:
            DataError: if lists or images are missing, or counts are off.
        """
        devkit = Path(root).expanduser()
        images: dict[str, Path] = {}
        annotations: dict[str, Path] = {}
        splits = {
            split: [
                sample_id
                for entry in entries
                for sample_id in _open_list(devkit, entry, check_counts, images, annotations)
            ]
            for split, entries in (("pool", pool), ("val", val), ("test", test))
        }
        super().__init__(name, VOC_CLASSES, images, annotations, splits, metrics=metrics)


def _open_list(
    devkit: Path, entry: str, check_counts: bool, images: dict[str, Path], annotations: dict[str, Path]
) -> list[str]:
    year, _, split = safe_name(entry, "dataset.pool/val/test").partition("/")
    list_path = devkit / year / "ImageSets" / "Main" / f"{split}.txt"
    if not list_path.is_file():
        raise DataError(
            explain(
                expected=f"the list {entry!r} of the official VOCdevkit layout",
                got="no such file",
                where=str(list_path),
                do="run 'al-lab data download voc', or set dataset.root to the folder that holds VOC2007 and VOC2012",
            )
        )
    names = read_split(list_path)
    official = _OFFICIAL_COUNTS.get(entry)
    if check_counts and official is not None and len(names) != official:
        raise DataError(
            explain(
                expected=f"{official} names in {entry}",
                got=str(len(names)),
                where=str(list_path),
                do="download the archive again; for a part of VOC use dataset=voc_folder or dataset.check_counts=false",
            )
        )
    folder = devkit / year
    present = {p.stem for p in (folder / "JPEGImages").glob("*.jpg")}
    missing = [n for n in names if n not in present]
    if missing:
        raise DataError(
            explain(
                expected=f"an image for each of the {len(names)} names in {list_path}",
                got=f"{len(missing)} missing, first {missing[0]}.jpg",
                where=str(folder / "JPEGImages"),
                do="extract the archive again",
            )
        )
    for n in names:
        images[f"{year}/{n}"] = folder / "JPEGImages" / f"{n}.jpg"
        annotations[f"{year}/{n}"] = folder / "Annotations" / f"{n}.xml"
    return [f"{year}/{n}" for n in names]
