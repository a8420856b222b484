"""PASCAL VOC: its XML files, and the official VOC07+12 benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from al_lab.core.errors import DataError, did_you_mean, explain
from al_lab.core.types import Annotation
from al_lab.data.boxes import Outside, clean_boxes
from al_lab.data.dataset import Dataset, Finding
from al_lab.data.images import IMAGE_SUFFIXES

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


def read_xml(path: Path) -> Element:
    """Parse an annotation file; entities and other XML bombs are refused.

    Raises:
        DataError: if the file is missing, is no XML, or declares entities.
    """
    try:
        root = parse_xml(path, forbid_dtd=True).getroot()
    except FileNotFoundError:
        got, do = "no such file", "restore the file"
    except DefusedXmlException as error:
        got, do = f"XML with a DTD or entities, refused as a possible XML bomb ({error})", "export the annotation again"
    except (ParseError, UnicodeError, ValueError) as error:
        got, do = f"a file that can't be parsed ({error})", "export the annotation again"
    else:
        if root is not None and root.tag == "annotation":
            return root
        got, do = f"an XML file whose root is <{getattr(root, 'tag', None)}>", "export the annotation in PASCAL VOC format"
    raise DataError(explain(expected="a PASCAL VOC <annotation>", got=got, where=str(path), do=do))


def parse_voc(
    path: Path,
    classes: Sequence[str],
    size_hw: tuple[int, int],
    one_based: bool = True,
    outside: Outside = "error",
) -> tuple[Annotation, tuple[str, ...]]:
    """Read one VOC annotation.

    VOC counts pixels from 1. All four coordinates lose 1, and the result is read as continuous (width = x2 - x1), the
    convention of SSD and of every paper built on it; a box over the whole image becomes [0, 0, W-1, H-1].

    Args:
        path: the XML file.
        classes: names; a name's position is its label.
        size_hw: of the upright image (the file's own <size> is not trusted).
        one_based: subtract 1. False for tools that write 0-based boxes.
        outside: what to do with boxes that leave the image by more than a pixel.

    Returns:
        The annotation, and a sentence for each thing that was worked around.

    Raises:
        DataError: with file and object for everything that makes no sense.
    """
    root = read_xml(path)
    index = {name: n for n, name in enumerate(classes)}
    labels, boxes, difficult = [], [], []
    for number, item in enumerate(root.findall("object"), 1):
        where = f"{path}: object {number}"
        name = (item.findtext("name") or "").strip()
        if name not in index:
            raise DataError(
                explain(
                    expected=f"one of {len(classes)} known classes",
                    got=repr(name),
                    where=where,
                    do=f"{did_you_mean(name, classes)} Correct the file, or add the class to classes.txt",
                )
            )
        labels.append(index[name])
        boxes.append([_number(item, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax")])
        difficult.append((item.findtext("difficult") or "").strip().lower() in ("1", "true", "yes"))
    raw = np.array(boxes, np.float64).reshape(-1, 4) - (1.0 if one_based else 0.0)
    kept, rows, notes = clean_boxes(raw, size_hw, str(path), outside)
    return Annotation.make(kept, np.array(labels, np.int64)[rows], np.array(difficult, bool)[rows]), notes


def _number(item: Element, key: str, where: str) -> float:
    text = item.findtext(key)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            explain(expected=f"a number in <{key}>", got=repr(text), where=where, do="correct the coordinate")
        )
    return value


def read_split(path: Path) -> list[str]:
    """Read an ImageSets list: one name a line; a class list's trailing -1, 0 or 1 is dropped.

    Raises:
        DataError: if the list is missing, or a name would leave the root.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            explain(expected="a split list", got="no such file", where=str(path), do="create it, one image name a line")
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            explain(expected="UTF-8 text", got=str(error), where=str(path), do="save the list as UTF-8")
        ) from error
    names = []
    for line in lines:
        name, _, flag = line.strip().rpartition(" ")
        name = name.strip() if flag in ("-1", "0", "1") and name.strip() else line.strip()
        if name:
            stem = name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(IMAGE_SUFFIXES) else name
            names.append(safe_name(stem, str(path)))
    return names


def safe_name(name: str, where: str) -> str:
    """Return a relative file name that was read from a file, if it stays below its folder.

    Raises:
        DataError: if it is absolute or climbs out.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(
            explain(
                expected="a file name below the data set's root",
                got=repr(name),
                where=where,
                do="names that leave the root are refused: correct the list",
            )
        )
    return path.as_posix()


class VOCLayout(Dataset):
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
        # One look at a file per id, once: has_truth is asked for every image many times.
        self._annotated = frozenset(i for i in ids if annotations[i].is_file())

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

    def _verify_sample(self, sample_id: str, decode: bool) -> list[Finding]:
        findings = super()._verify_sample(sample_id, decode)
        if not self.has_truth(sample_id) or any(f.severity == "error" for f in findings):
            return findings
        file = self.annotation_file(sample_id)
        return findings + _xml_traps(read_xml(file), str(file), sample_id, self.size_hw(sample_id), self._one_based)


def _xml_traps(root: Element, file: str, sample_id: str, size_hw: tuple[int, int], one_based: bool) -> list[Finding]:
    findings = []
    said = (root.findtext("size/height"), root.findtext("size/width"))
    if said != (None, None) and said != (str(size_hw[0]), str(size_hw[1])):
        turned = " (turned by a quarter: was the EXIF orientation ignored?)" if said == (str(size_hw[1]), str(size_hw[0])) else ""
        findings.append(
            Finding(
                "warning",
                file,
                f"{sample_id}: <size> says height x width {said[0]} x {said[1]}, the image is {size_hw[0]} x {size_hw[1]}{turned}",
                "check that the boxes were drawn on this very image",
            )
        )
    corners = [item.findtext(f"bndbox/{key}") for item in root.findall("object") for key in ("xmin", "ymin")]
    if one_based and any(float(c) == 0 for c in corners if c):
        findings.append(
            Finding(
                "warning",
                file,
                f"{sample_id}: a box begins at 0 although VOC counts from 1 (it was cut at the border)",
                "if the tool writes 0-based boxes, set dataset.one_based=false",
            )
        )
    return findings


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
                do="run 'python scripts/data.py download voc', or set dataset.root to the folder that holds VOC2007 and VOC2012",
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
