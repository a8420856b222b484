"""A pair of domains: a labeled source one (drawn, simulated) and the target one whose labels are bought."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.data.datasets.segmentation import SOURCE_PREFIX, SegmentationDataset
from al_lab.data.formats.voc import read_split
from al_lab.data.transforms.dense import VOID

# The 19 classes of Cityscapes' benchmark in the order of their train ids, and their raw ids (GTAV has the same ones).
CITYSCAPES_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19, "traffic sign": 20,  # noqa: E501
    "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31,  # noqa: E501
    "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
# SYNTHIA shares all but three with it.
SHARED_16 = tuple(name for name in CITYSCAPES_IDS if name not in ("terrain", "truck", "train"))


class Domain(ABC):
    """Images of one domain and how their labels are read.

    Attributes:
        classes: names in label order.
        images: id to image file.
        labels: id to label file, which need not exist.
        splits: ids of "pool", "val" and "test"; of a source domain only "pool" is used.
    """

    def __init__(
        self,
        classes: Sequence[str],
        images: Mapping[str, Path],
        labels: Mapping[str, Path],
        splits: Mapping[str, Sequence[str]],
    ) -> None:
        """Keep the index; label files are read when somebody asks for them."""
        self.classes, self.images, self.labels, self.splits = tuple(classes), images, labels, splits
        self._labeled = frozenset(i for ids in splits.values() for i in ids if os.path.lexists(labels[i]))

    @abstractmethod
    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read a label file as (H, W) uint8, 255 for void.

        Return it with a sentence for each thing that was worked around.

        Raises:
            DataError: if the file's encoding is not this domain's.
        """

    def label_rule(self) -> str | None:
        """See `SegmentationDataset.label_rule`."""
        return None

    def has_label(self, sample_id: str) -> bool:
        """Say whether the label file is there."""
        return sample_id in self._labeled


def _check_classes(source: Domain, target: Domain, name: str) -> None:
    if source.classes != target.classes:
        raise DataError(
            explain(
                expected=f"source and target with the same classes, here the target's {len(target.classes)}",
                got=f"{len(source.classes)}: {', '.join(source.classes)}",
                where=f"dataset {name}",
                do="choose the class set that fits the source with dataset.target.num_classes",
            )
        )


class DomainPair(SegmentationDataset):
    """A target domain with pool and test images and, unless ``source`` is None, a labeled source domain."""

    def __init__(
        self,
        target: Domain,
        source: Domain | None = None,
        source_hw: Sequence[int] | None = None,
        target_hw: Sequence[int] | None = None,
        cache_dir: str | None = None,
        metrics: Sequence[str] | None = None,
        flip_test: bool = True,
        name: str = "domains",
        segments: Mapping[str, Any] | None = None,
    ) -> None:
        """Join the two.

        Args:
            target: whose labels are bought and measured.
            source: whose labels are free; None: source-free, no file of it is ever opened.
            source_hw: (h, w) of source images in training; None: as they are.
            target_hw: (h, w) of target images; None: as they are.
            cache_dir: keeps which classes each source label holds.
            metrics: what evaluation computes, the main one first.
            flip_test: evaluation averages image and flipped image.
            name: of the dataset.
            segments: how images are cut into segments, see `SegmentSettings`.

        Raises:
            DataError: if the two have different classes, or there is no source image.
        """
        self._domains = (target, source)
        if source is not None:
            _check_classes(source, target, name)
        source_ids = [f"{SOURCE_PREFIX}{i}" for i in source.splits["pool"]] if source is not None else []
        super().__init__(
            name,
            target.classes,
            target.splits["pool"],
            target.splits.get("val", ()),
            target.splits.get("test", ()),
            # fmt: skip
            source_ids,
            source_hw=source_hw,
            target_hw=target_hw,
            metrics=metrics,
            cache_dir=cache_dir,
            flip_test=flip_test,
            segments=segments,
        )
        if source is not None and not source_ids:
            raise DataError(
                explain(
                    expected="at least one source image",
                    got="none",
                    where=f"dataset {name}",
                    do="correct dataset.source, or say dataset.source=null to go without",
                )
            )

    def image_path(self, sample_id: str) -> Path:
        """Return the image's file."""
        domain, inner = self._find(sample_id)
        return domain.images[inner]

    def annotation_file(self, sample_id: str) -> Path:
        """Return the label's file, whether it exists or not."""
        domain, inner = self._find(sample_id)
        return domain.labels[inner]

    def has_truth(self, sample_id: str) -> bool:
        """Say whether the label's file is there."""
        domain, inner = self._find(sample_id)
        return domain.has_label(inner)

    def _parse(self, sample_id: str) -> tuple[np.ndarray, tuple[str, ...]]:
        domain, inner = self._find(sample_id)
        return domain.read_label(domain.labels[inner])

    def label_rule(self, sample_id: str) -> str | None:
        """See the base class."""
        return self._find(sample_id)[0].label_rule()

    def _find(self, sample_id: str) -> tuple[Domain, str]:
        target, source = self._domains
        if sample_id.startswith(SOURCE_PREFIX) and source is not None:
            domain, inner = source, sample_id.removeprefix(SOURCE_PREFIX)
        else:
            domain, inner = target, sample_id
        if inner not in domain.images:
            raise DataError(
                explain(
                    expected="the id of a sample",
                    got=repr(sample_id),
                    where=f"dataset {self.name}",
                    do="is the run folder of another data set?",
                )
            )
        return domain, inner


def to_train_ids(
    raw_HW: np.ndarray, ids: Mapping[int, int], known: Sequence[int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Map raw ids to classes; every other id is void.

    Args:
        raw_HW: (H, W) uint8.
        ids: raw id to class.
        known: raw ids that mean void on purpose; others that are neither are named in a note.

    Returns:
        (H, W) uint8, and the notes.
    """
    table = np.full(256, VOID, np.uint8)
    table[list(ids)] = list(ids.values())
    present = np.bincount(raw_HW.reshape(-1), minlength=256)
    strange = [int(k) for k in np.flatnonzero(present) if k not in ids and k not in known]
    notes = (
        (f"ids {strange} mean nothing in this dataset ({int(present[strange].sum())} pixels); they are read as void",)
        if strange
        else ()
    )
    return table[raw_HW], notes


def paired_names(
    image_dir: Path, label_dir: Path, list_file: str | Path | None, count: int | None, get: str
) -> list[str]:
    """Return the names of a source domain whose images and labels are PNGs of the same names in two folders.

    Args:
        image_dir: the images.
        label_dir: the labels.
        list_file: names one a line (with or without ".png"); None takes every image.
        count: of the official images; without a list another number is refused. None: any.
        get: the command that fetches the data, for messages.

    Raises:
        DataError: if a folder, an image or the right number is missing.
    """
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise DataError(explain(expected="a folder of PNG files", got="no such folder", where=str(folder), do=get))
    present = {path.stem for path in image_dir.glob("*.png")}
    if list_file is not None:
        names = [PurePosixPath(name).name for name in read_split(Path(list_file).expanduser())]
        missing = [name for name in names if name not in present]
        if missing:
            raise DataError(
                explain(
                    expected=f"an image for each of {len(names)} names",
                    got=f"{len(missing)} missing, first {missing[0]!r}",
                    where=f"{list_file} ({image_dir})",
                    do="restore the images or remove the names from the list",
                )
            )
        return names
    if count is not None and len(present) != count:
        raise DataError(
            explain(
                expected=f"the official {count} images",
                got=str(len(present)),
                where=str(image_dir),
                do=f"complete the data ({get}), or accept what is there with dataset.source.check_counts=false",
            )
        )
    return sorted(present)
