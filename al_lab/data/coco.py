"""COCO: its JSON files, and the official 2017 and 2014 benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.files import atomic_path
from al_lab.core.types import Annotation
from al_lab.data.boxes import Outside, clean_boxes
from al_lab.data.dataset import Dataset
from al_lab.data.voc import safe_name

# Images per set (cocodataset.org/#download), and those with at least one annotation (AL-SSL fact sheet, §1.6).
_OFFICIAL_COUNTS = {
    "train2017": (118287, 117266),
    "val2017": (5000, None),
    "train2014": (82783, 82081),
    "val2014": (40504, None),
}
_CACHE_VERSION = 1


@dataclass(frozen=True)
class COCOIndex:
    """One annotation file in columns: the boxes of image n are rows ``start[n]:start[n + 1]``.

    A train2017 file parsed by json takes gigabytes; this takes 25 MB and is never written to.

    Attributes:
        source: the JSON file.
        classes: names by rising category id (ids have gaps; a label is a position in this tuple).
        file_names: (N,) str, relative to the image folder.
        image_ids: (N,) int64, COCO's own numbers.
        sizes_hw: (N, 2) int64 as the file says.
        start: (N + 1,) int64.
        xywh: (A, 4) float64 as the file says.
        labels: (A,) int64.
        crowd: (A,) bool.
    """

    source: Path
    classes: tuple[str, ...]
    file_names: np.ndarray
    image_ids: np.ndarray
    sizes_hw: np.ndarray
    start: np.ndarray
    xywh: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    def annotation(
        self, row: int, size_hw: tuple[int, int], outside: Outside = "error"
    ) -> tuple[Annotation, tuple[str, ...]]:
        """Return the objects of one image and a sentence for each thing that was worked around.

        Raises:
            DataError: for NaN, negative sizes, and boxes outside the image.
        """
        rows = slice(int(self.start[row]), int(self.start[row + 1]))
        xyxy = self.xywh[rows].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        where = f"{self.source}: image {self.file_names[row]}"
        boxes, kept, notes = clean_boxes(xyxy, size_hw, where, outside)
        return Annotation.make(boxes, self.labels[rows][kept], crowd=self.crowd[rows][kept]), notes


def load_coco(path: Path, cache_dir: Path | None = None) -> COCOIndex:
    """Read a COCO "instances" file, through a cache if there is one.

    Args:
        path: the JSON file.
        cache_dir: where the columns are kept; the key is the file's path, size and time of change.

    Raises:
        DataError: naming the file and the entry that makes no sense.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise DataError(
            explain(
                expected="a COCO annotation file",
                got="no such file",
                where=str(path),
                do="run 'python scripts/data.py download coco', or correct dataset.root",
            )
        ) from None
    cached = None
    if cache_dir is not None:
        key = f"{_CACHE_VERSION}:{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        cached = cache_dir / f"coco-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if cached.is_file():
            with np.load(cached, allow_pickle=False) as z:
                return COCOIndex(path, tuple(z["classes"].tolist()), *(z[name] for name in _COLUMNS))
    index = parse_coco(_read_json(path), path)
    if cached is not None:
        with atomic_path(cached) as temporary:
            np.savez(temporary, classes=np.array(index.classes), **{name: getattr(index, name) for name in _COLUMNS})
    return index


_COLUMNS = ("file_names", "image_ids", "sizes_hw", "start", "xywh", "labels", "crowd")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(
            explain(expected="JSON", got=str(error), where=str(path), do="export or download the file again")
        ) from error


def parse_coco(content: Any, source: Path) -> COCOIndex:
    """Turn the content of an instances file into columns; ``content`` is not changed.

    Raises:
        DataError: naming the file and the entry that makes no sense.
    """
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        got = f"keys {sorted(content)}" if isinstance(content, dict) else type(content).__name__
        raise _bad(source, "an object with 'images', 'annotations' and 'categories'", got)
    images = [_image(entry, n, source) for n, entry in enumerate(content["images"])]
    images.sort(key=lambda image: image[0])
    row_of_image = {image[1]: row for row, image in enumerate(images)}
    for what, values in (("file name", [i[0] for i in images]), ("image id", [i[1] for i in images])):
        if len(set(values)) != len(values):
            twice = next(v for v in values if values.count(v) > 1)
            raise _bad(source, f"every {what} once", f"{twice!r} twice")
    categories = sorted(_category(entry, n, source) for n, entry in enumerate(content["categories"]))
    label_of = {category: label for label, (category, _) in enumerate(categories)}
    if len(label_of) != len(categories):
        raise _bad(source, "every category id once", str([category for category, _ in categories]))
    entries = content.get("annotations", [])
    rows = [_object(entry, n, source, row_of_image, label_of) for n, entry in enumerate(entries)]
    table = np.array(rows, np.float64).reshape(-1, 7)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    return COCOIndex(
        source,
        tuple(name for _, name in categories),
        np.array([i[0] for i in images], dtype=np.str_),
        np.array([i[1] for i in images], np.int64),
        np.array([i[2:] for i in images], np.int64).reshape(-1, 2),
        np.searchsorted(table[:, 0], np.arange(len(images) + 1)),
        table[:, 3:],
        table[:, 1].astype(np.int64),
        table[:, 2].astype(bool),
    )


def _image(entry: Any, n: int, source: Path) -> tuple[str, int, int, int]:
    try:
        size = (int(entry.get("height", 0)), int(entry.get("width", 0)))
        return (safe_name(str(entry["file_name"]), f"{source}: images[{n}]"), int(entry["id"]), *size)
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(source, f"'id' and 'file_name' in images[{n}]", f"{error!r}") from None


def _category(entry: Any, n: int, source: Path) -> tuple[int, str]:
    try:
        return int(entry["id"]), str(entry["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(source, f"'id' and 'name' in categories[{n}]", f"{error!r}") from None


def _object(
    entry: Any, n: int, source: Path, row_of_image: Mapping[int, int], label_of: Mapping[int, int]
) -> tuple[float, ...]:
    where = f"annotations[{n}]"
    try:
        image_id, category, bbox = int(entry["image_id"]), int(entry["category_id"]), entry["bbox"]
        x, y, w, h = (float(v) for v in bbox)
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(source, f"'image_id', 'category_id' and a 'bbox' of four numbers in {where}", f"{error!r}") from None
    if image_id not in row_of_image:
        raise _bad(source, f"an image for {where}", f"image_id {image_id!r}, which no entry of 'images' has")
    if category not in label_of:
        raise _bad(source, f"a known category in {where}", f"category_id {category!r}, not one of {sorted(label_of)}")
    return (row_of_image[image_id], label_of[category], float(bool(entry.get("iscrowd", 0))), x, y, w, h)


def _bad(source: Path, expected: str, got: str) -> DataError:
    return DataError(explain(expected=expected, got=got, where=str(source), do="correct the annotation file"))


@dataclass(frozen=True)
class COCOSplit:
    """An annotation file and where its images lie.

    Attributes:
        index: the file's content.
        image_dir: folder of ``file_names``.
        ids: one sample id a row of the index.
    """

    index: COCOIndex
    image_dir: Path
    ids: tuple[str, ...]

    @classmethod
    def of(cls, index: COCOIndex, image_dir: Path, prefix: str) -> COCOSplit:
        """Name the samples "<prefix>/<file name without suffix>"."""
        stems = [str(name).rpartition(".")[0] or str(name) for name in index.file_names]
        return cls(index, image_dir, tuple(f"{prefix}/{stem}" if prefix else stem for stem in stems))

    def with_boxes(self) -> list[str]:
        """Return the ids of images that have at least one annotation."""
        return [i for i, n in zip(self.ids, np.diff(self.index.start), strict=True) if n > 0]


class COCOLayout(Dataset):
    """A dataset whose annotations are COCO JSON files; subclasses say which."""

    metrics = ("coco_ap", "coco_ap50")

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        parts: Sequence[COCOSplit],
        splits: Mapping[str, Sequence[str]],
        outside: Outside = "error",
        metrics: Sequence[str] | None = None,
        bare_images: Mapping[str, Path] | None = None,
    ) -> None:
        """Keep the index.

        Args:
            name: of the dataset.
            classes: names in label order.
            parts: annotation files, which must agree on the classes.
            splits: ids of "pool", "val" and "test".
            outside: what to do with boxes that leave the image.
            metrics: what evaluation computes, the main one first.
            bare_images: id to file of images that no annotation file names.
        """
        super().__init__(name, classes, splits["pool"], splits.get("val", ()), splits.get("test", ()), metrics)
        self._parts = tuple(parts)
        self._outside = outside
        self._bare = dict(bare_images or {})
        used = {*self.pool_ids, *self.val_ids, *self.test_ids}
        self._place = {i: (n, row) for n, p in enumerate(parts) for row, i in enumerate(p.ids) if i in used}
        for part in parts:
            if part.index.classes != self.classes:
                raise _bad(part.index.source, f"the categories {list(self.classes)}", str(list(part.index.classes)))

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file."""
        if sample_id in self._bare:
            return self._bare[sample_id]
        part, row = self._find(sample_id)
        return part.image_dir / str(part.index.file_names[row])

    def annotation_file(self, sample_id: str) -> Path:
        """Return the JSON file that names the image (the image itself if none does)."""
        return self._bare[sample_id] if sample_id in self._bare else self._find(sample_id)[0].index.source

    def has_truth(self, sample_id: str) -> bool:
        """Say whether an annotation file names the image (it may have no boxes)."""
        return sample_id in self._place

    def _find(self, sample_id: str) -> tuple[COCOSplit, int]:
        if sample_id not in self._place:
            raise DataError(
                explain(
                    expected="the id of a sample",
                    got=repr(sample_id),
                    where=f"dataset {self.name}",
                    do="is the run folder of another data set?",
                )
            )
        part, row = self._place[sample_id]
        return self._parts[part], row

    def _parse(self, sample_id: str) -> tuple[Annotation, tuple[str, ...]]:
        part, row = self._find(sample_id)
        size_hw = self.size_hw(sample_id)
        annotation, notes = part.index.annotation(row, size_hw, self._outside)
        said = tuple(int(v) for v in part.index.sizes_hw[row])
        if said not in ((0, 0), size_hw):
            notes = (*notes, f"height x width is {said[0]} x {said[1]} in the file, but {size_hw[0]} x {size_hw[1]} in the image")
        return annotation, notes


class COCO(COCOLayout):
    """COCO in its official layout: train2017 (or train2014) is the pool, val2017 the test set.

    Ids look like "train2017/000000000009". Crowds are kept and flagged, images without boxes are kept.
    """

    def __init__(
        self,
        root: str,
        year: int = 2017,
        pool: Literal["all", "annotated"] = "all",
        check_counts: bool = True,
        outside: Outside = "clip",
        cache_dir: str | None = None,
        metrics: Sequence[str] | None = None,
        name: str = "coco",
    ) -> None:
        """Open the official layout.

        Args:
            root: folder with annotations/, train2017/ (train2014/) and val2017/.
            year: of the pool, 2017 or 2014. val2017 is part of val2014, never of a train set.
            pool: "all" images, or only the "annotated" ones as some protocols have it (117,266 / 82,081).
            check_counts: refuse files whose number of images is not the official one.
            outside: "clip" because official boxes are rounded and may leave the image by a little.
            cache_dir: keeps the parsed annotation files (seconds instead of half a minute a process); None: no cache.
            metrics: what evaluation computes, the main one first.
            name: of the dataset.

        Raises:
            DataError: if files are missing or counts are off.
        """
        if year not in (2014, 2017) or pool not in ("all", "annotated"):
            raise DataError(
                explain(
                    expected="year 2014 or 2017 and pool all or annotated",
                    got=f"year={year}, pool={pool!r}",
                    where="dataset",
                    do="correct the option",
                )
            )
        base, cache = Path(root).expanduser(), Path(cache_dir) if cache_dir else None
        train, test = (_official(base, split, check_counts, cache) for split in (f"train{year}", "val2017"))
        ids = train.ids if pool == "all" else train.with_boxes()
        official = _OFFICIAL_COUNTS[f"train{year}"][1]
        if check_counts and pool == "annotated" and len(ids) != official:
            raise _bad(train.index.source, f"{official} images with annotations", str(len(ids)))
        splits = {"pool": ids, "test": test.ids}
        super().__init__(name, train.index.classes, (train, test), splits, outside, metrics)


def _official(base: Path, split: str, check_counts: bool, cache_dir: Path | None) -> COCOSplit:
    index = load_coco(base / "annotations" / f"instances_{split}.json", cache_dir)
    count = _OFFICIAL_COUNTS[split][0]
    if check_counts and len(index.file_names) != count:
        raise DataError(
            explain(
                expected=f"{count} images in {split}",
                got=str(len(index.file_names)),
                where=str(index.source),
                do="download the annotations again; for a part of COCO use dataset=coco_folder or dataset.check_counts=false",
            )
        )
    folder = base / split
    present = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    missing = [str(n) for n in index.file_names if str(n) not in present]
    if missing:
        raise DataError(
            explain(
                expected=f"the {len(index.file_names)} images of {split}",
                got=f"{len(missing)} missing, first {missing[0]}" if present else "no such folder",
                where=str(folder),
                do="run 'python scripts/data.py download coco', or extract the archive again",
            )
        )
    return COCOSplit.of(index, folder, split)
