"""Datasets whose ground truth is a class for every pixel.

Beside the pool there may be a second domain whose labels are free.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.files import read_json, write_json
from al_lab.data.datasets.dataset import Dataset, Finding
from al_lab.data.formats.images import read_size_hw
from al_lab.data.label_census import LabelCensus, strange_label
from al_lab.data.segments.maps import SegmentSettings
from al_lab.data.transforms.dense import VOID

log = logging.getLogger(__name__)

SOURCE_PREFIX = "source/"
_INDEX_VERSION = 1
_READERS = 8  # threads that decode labels while the source is indexed; decoding releases the interpreter


class SegmentationDataset(Dataset):
    """The target domain's images (pool, val, test) and, unless there is none, a labeled source domain.

    Label maps are (H, W) uint8: 0..C-1 in the order of ``classes``, 255 for void. Source ids begin with "source/"; they
    are never in the pool, cost nothing, and `image_path`, `load_image` and `size_hw` take them like any other.

    A new format overrides `image_path` and `_parse`, both for target and source ids.

    Attributes:
        source_ids: sorted; empty without a source domain.
        source_hw: (h, w) to which source images and labels are resized for training; None: each stays as it is.
        target_hw: the same for target images, in training, selection and test.
        flip_test: evaluation averages the probabilities of each image and of its flipped image.
    """

    task: Literal["detection", "segmentation"] = "segmentation"
    metrics: tuple[str, ...] = ("miou",)
    source_ids: tuple[str, ...]
    source_hw: tuple[int, int] | None
    target_hw: tuple[int, int] | None

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        pool_ids: Sequence[str],
        val_ids: Sequence[str] = (),
        test_ids: Sequence[str] = (),
        source_ids: Sequence[str] = (),
        *,
        source_hw: Sequence[int] | None = None,
        target_hw: Sequence[int] | None = None,
        metrics: Sequence[str] | None = None,
        cache_dir: str | Path | None = None,
        flip_test: bool = True,
        segments: Mapping[str, Any] | None = None,
    ) -> None:
        """Check ids and sizes.

        Args:
            name: of the dataset.
            classes: names in label order.
            pool_ids: target images of which pixels may be bought.
            val_ids: labeled target images outside the pool.
            test_ids: target images for evaluation.
            source_ids: labeled images of the other domain, "source/…".
            source_hw: training size of source images.
            target_hw: size of target images.
            metrics: what evaluation computes, the main one first.
            cache_dir: keeps which classes each source label holds; None: counted again in each process.
            flip_test: evaluation averages image and flipped image.
            segments: arguments of `SegmentSettings`, how images are cut where whole segments are bought.

        Raises:
            DataError: if ids are wrong, see `Dataset`, or a size is none.
        """
        self.segments = SegmentSettings.of(segments)
        self.source_ids, self.flip_test = tuple(sorted(source_ids)), bool(flip_test)
        super().__init__(name, classes, pool_ids, val_ids, test_ids, metrics)
        self.source_hw, self.target_hw = _size(source_hw, "source_hw"), _size(target_hw, "target_hw")
        self._cache_dir = Path(cache_dir).expanduser() if cache_dir else None
        self._source = frozenset(self.source_ids)
        self._source_classes: dict[str, tuple[int, ...]] | None = None
        self._said: set[str] = set()
        wrong = [
            i for split, ids in self.splits().items() for i in ids if i.startswith(SOURCE_PREFIX) != (split == "source")
        ]
        if wrong:
            raise DataError(
                explain(
                    expected=f"{SOURCE_PREFIX!r} in front of source ids, and of them alone",
                    got=repr(wrong[0]),
                    where=f"dataset {name}",
                    do="rename the folder of that image",
                )
            )
        if len(self.classes) >= VOID:
            raise DataError(
                explain(
                    expected=f"fewer than {VOID} classes",
                    got=str(len(self.classes)),
                    where=f"dataset {name}",
                    do="join classes: labels are 8-bit and 255 is void",
                )
            )

    @abstractmethod
    def _parse(self, sample_id: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read one label map, (H, W) uint8; return it with a sentence for each thing that was worked around.

        Raises:
            DataError: if it can't be read or makes no sense.
        """

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of every role an image may have; "source" only where there is one."""
        return {**super().splits(), **({"source": self.source_ids} if self.source_ids else {})}

    def truth(self, sample_id: str) -> np.ndarray:
        """Return a target image's label map, (H, W) uint8 at its own size.

        It is for the oracle, the evaluate stage and `verify` alone.

        Raises:
            DataError: if there is none, it can't be read, or its size is not the image's.
        """
        self._require_truth(sample_id)
        return self._checked(sample_id)

    def source_label(self, sample_id: str) -> np.ndarray:
        """Return a source image's label map, (H, W) uint8 at its own size: free, for training.

        With ``source_hw`` it need not have the image's size: both are resized, which is how a handful of GTAV's labels
        are used.

        Raises:
            DataError: if it is no source id, the label is missing, or it can't be read.
        """
        if sample_id not in self._source:
            raise DataError(
                explain(
                    expected="the id of a source image",
                    got=repr(sample_id),
                    where=f"dataset {self.name}",
                    do="labels of the target domain are bought",
                )
            )
        self._require_truth(sample_id)
        return self._checked(sample_id)

    def segment_map(self, sample_id: str) -> np.ndarray:
        """Return the segment of each pixel of an image, (H, W) int16, 0..R-1; see `SegmentSettings`.

        Raises:
            DataError: if a map that another tool wrote is missing, or is another image's.
        """
        path, size_hw = self.image_path(sample_id), self.size_hw(sample_id)
        map_HW = self.segments.map_of(sample_id, path, lambda: self.load_image(sample_id))
        if map_HW.shape != size_hw:
            raise DataError(
                explain(
                    expected=f"a segment map of the image's height and width {size_hw}",
                    got=str(map_HW.shape),
                    where=f"dataset.segments, {sample_id!r} ({path})",
                    do="write the map for the upright image at its own size",
                )
            )
        return map_HW

    def label_rule(self, sample_id: str) -> str | None:
        """Return what decides, beside its file, how a label map is read.

        None: nobody knows, so it is read anew each time.
        """
        return None

    def source_classes(self) -> Mapping[str, tuple[int, ...]]:
        """Return which classes each source label holds, by id.

        It is counted once and kept in ``cache_dir``; another label set, another file or a changed label counts anew.
        """
        if self._source_classes is None:
            index = self._index_path()
            if index is not None and index.is_file():
                found = read_json(index)
            else:
                found = self._count_source_classes()
                if index is not None:
                    write_json(index, found)
            self._source_classes = {i: tuple(found[i]) for i in self.source_ids}
        return self._source_classes

    def verify(self, decode: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
        """See `Dataset.verify`; without ``decode`` labels are not decoded either, only their sizes are read."""
        self._census = LabelCensus(self.classes)
        self._roles = {i: split for split, ids in self.splits().items() for i in ids}
        findings = super().verify(decode, progress)
        return findings + (self._census.findings() if decode else [])

    def _verify_whole(self) -> list[Finding]:
        missing = [i for i in self.source_ids if not self.has_truth(i)]
        if not missing:
            return super()._verify_whole()
        message = f"{len(missing)} of {len(self.source_ids)} source images have no label, first {missing[0]!r}"
        return [
            *super()._verify_whole(),
            Finding("error", str(self.annotation_file(missing[0])), message, "restore the labels"),
        ]

    def blockers(self) -> list[Finding]:
        """See `Dataset.blockers`: test labels without a class, or with one of several. Read until two are seen."""
        labeled = [i for i in self.test_ids if self.has_truth(i)]
        seen: set[int] = set()
        for sample_id in labeled:
            try:
                seen |= set(classes_in(self._parse(sample_id)[0]))
            except DataError:
                return []  # named elsewhere, and what it holds can't be known
            if len(seen) > 1 or len(seen) == len(self.classes):
                return []
        if not labeled:
            return []
        if seen:
            what = (
                f"every labeled pixel of the {len(labeled)} test labels is {self.classes[seen.pop()]!r}: a mean over "
            )
            what += "one class measures nothing"
        else:
            what = f"no pixel of the {len(labeled)} test labels has a class (benchmarks hide their test labels)"
        remedy = "check the labels' encoding and the id of void, or choose another test set (dataset.test_split=…)"
        return [Finding("error", str(self.annotation_file(labeled[0])), what, remedy)]

    def _checked(self, sample_id: str) -> np.ndarray:
        label_HW, notes = self._parse(sample_id)
        if self._size_must_match(sample_id) and label_HW.shape != self.size_hw(sample_id):
            remedy = (
                "give the size both are resized to, dataset.source_hw"
                if sample_id in self._source
                else "replace one of the two files"
            )
            raise DataError(
                explain(
                    expected=f"a label of the image's height and width {self.size_hw(sample_id)}",
                    got=str(label_HW.shape),
                    where=f"{self.annotation_file(sample_id)} ({sample_id})",
                    do=remedy,
                )
            )
        if notes and sample_id not in self._said:
            self._said.add(sample_id)
            for note in notes:
                log.warning("%s: %s: %s", self.annotation_file(sample_id), sample_id, note)
        return label_HW

    def _size_must_match(self, sample_id: str) -> bool:
        return sample_id not in self._source or self.source_hw is None

    def _index_path(self) -> Path | None:
        if self._cache_dir is None:
            return None
        digest = hashlib.sha256(json.dumps([_INDEX_VERSION, self.classes]).encode())
        for sample_id in self.source_ids:
            self._require_truth(sample_id)
            state = self.annotation_file(sample_id).stat()
            digest.update(f"{sample_id}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
        return self._cache_dir / f"{digest.hexdigest()[:16]}.json"

    def _count_source_classes(self) -> dict[str, tuple[int, ...]]:
        log.info("%s: looking which classes each of %d source labels holds, once", self.name, len(self.source_ids))
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(
                zip(self.source_ids, pool.map(lambda i: classes_in(self.source_label(i)), self.source_ids), strict=True)
            )

    def _verify_truth(self, sample_id: str, decode: bool) -> list[Finding]:
        path = self.annotation_file(sample_id)
        try:
            label_HW, notes = self._parse(sample_id) if decode else (None, ())
            shape = label_HW.shape if label_HW is not None else read_size_hw(path)
        except DataError as error:
            return [Finding("error", str(path), f"{sample_id}: {error}", "replace the label by the original file")]
        findings = [
            Finding("warning", str(path), f"{sample_id}: {note}", "check that this is the original label file")
            for note in notes
        ]
        if shape != self.size_hw(sample_id):
            must = self._size_must_match(sample_id)
            remedy = "replace one of the two files" if must else "none needed: both are resized to dataset.source_hw"
            message = (
                f"{sample_id}: height and width are {shape} in the label, but {self.size_hw(sample_id)} in the image"
            )
            findings.append(Finding("error" if must else "warning", str(path), message, remedy))
        if label_HW is not None:
            self._census.add(self._roles[sample_id], label_HW)
            findings += [
                Finding("warning", str(path), f"{sample_id}: {what}", remedy)
                for what, remedy in strange_label(label_HW, self.classes)
            ]
        return findings


def classes_in(label_HW: np.ndarray) -> tuple[int, ...]:
    """Return the classes of a label map, ascending, void left out."""
    present = np.flatnonzero(np.bincount(label_HW.reshape(-1), minlength=VOID + 1))
    return tuple(int(c) for c in present if c != VOID)


def _size(value: Sequence[int] | None, key: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if len(value) != 2 or not all(isinstance(v, int) and v > 0 for v in value):  # noqa: PLR2004 - height and width
        raise DataError(
            explain(
                expected="[height, width] in pixels, or null",
                got=str(value),
                where=f"dataset.{key}",
                do=f"e.g. dataset.{key}='[640,1280]'",
            )
        )
    return int(value[0]), int(value[1])
