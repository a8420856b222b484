"""COCO: datasets of its layout, and the official 2017 and 2014 benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.types import Annotation
from al_lab.data.datasets.detection import DetectionDataset
from al_lab.data.formats.boxes import Outside
from al_lab.data.formats.coco import COCOIndex, bad_entry, load_coco
from al_lab.data.formats.record import size_note

# Images per set (cocodataset.org/#download), and those with at least one annotation (AL-SSL fact sheet, §1.6).
_OFFICIAL_COUNTS = {
    "train2017": (118287, 117266),
    "val2017": (5000, None),
    "train2014": (82783, 82081),
    "val2014": (40504, None),
}


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


class COCOLayout(DetectionDataset):
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
                raise bad_entry(
                    part.index.source, f"the categories {list(self.classes)}", str(list(part.index.classes))
                )

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
        height, width = (int(v) for v in part.index.sizes_hw[row])
        return annotation, (*notes, *size_note((height, width) if height or width else None, size_hw))


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
            raise bad_entry(train.index.source, f"{official} images with annotations", str(len(ids)))
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
                do="download the annotations again; for a part of COCO use dataset=coco_folder or "
                "dataset.check_counts=false",
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
                do="run 'al-lab data download coco', or extract the archive again",
            )
        )
    return COCOSplit.of(index, folder, split)
