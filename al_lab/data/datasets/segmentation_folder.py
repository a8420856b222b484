"""A person's own photographs with label maps, and optionally a second folder of the same kind as source domain."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.data.datasets.dataset import Finding
from al_lab.data.datasets.domains import Domain, DomainPair, read_ids
from al_lab.data.datasets.voc_folder import ABSENT, choose_splits, folder_name, in_test_share, index_images
from al_lab.data.formats.images import IMAGE_SUFFIXES
from al_lab.data.formats.voc import read_class_list
from al_lab.data.transforms.dense import VOID

log = logging.getLogger(__name__)

_VOID_NAME = "void"


class LabelFolder(Domain):
    """``images/`` with photographs, ``labels/`` with maps of the same relative names, ``classes.txt``.

    ``images/train``, ``images/val``, ``images/test`` are splits (see `choose_splits`). Without such folders every image
    is in the pool, and ``test_fraction`` of the labeled ones become the test set. A map is a gray or palette image of
    ids, such as PNG. ``classes.txt`` has a name a line, ids 0, 1, …, or "id name". The id of the line "void" means no
    class, and 255 always does.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | None = None,
        void_id: int | None = None,
        wanted: Mapping[str, str | None] | None = None,
        test_fraction: float = 0.0,
    ) -> None:
        """Index the folder.

        Args:
            root: the folder.
            classes: names in label order, to which ids are mapped by name; None: those of classes.txt.
            void_id: the id of pixels without a class; None: that of the line "void" in classes.txt, if there is one.
            wanted: names of the folders that are "pool", "val" and "test".
            test_fraction: of the labeled images, where there are no split folders.

        Raises:
            DataError: if there are no images or no class names, or a split that was named is not there.
        """
        self.root = Path(root).expanduser()
        images, self.label_files = (_index(self.root / part) for part in ("images", "labels"))
        if not images:
            raise DataError(
                explain(
                    expected=f"images ({', '.join(IMAGE_SUFFIXES[:3])}, …)",
                    got="none",
                    where=f"{self.root}/images",
                    do="put photographs into images/, and label maps of the same names into labels/",
                )
            )
        names = _read_classes(self.root, classes)
        void = [raw for raw, name in names.items() if name.lower() == _VOID_NAME] if void_id is None else [void_id]
        self._void = {*void, VOID}
        names = {raw: name for raw, name in names.items() if raw not in self._void}
        kept = tuple(classes) if classes else tuple(names.values())
        self.unknown_names = sorted(set(names.values()) - set(kept))  # classes only this domain has: void
        self._table = {raw: kept.index(name) if name in kept else VOID for raw, name in names.items()}
        labels = {i: self.label_files.get(i, self.root / "labels" / f"{i}.png") for i in images}
        self.images = images
        super().__init__(
            kept, images, labels, _splits(images, self.label_files, dict(wanted or {}), test_fraction, self.root)
        )
        if not set(kept) & set(names.values()):
            raise DataError(
                explain(
                    expected=f"some of the classes {', '.join(kept)}",
                    got=", ".join(names.values()),
                    where=f"{self.root}/classes.txt",
                    do="give classes of both domains the same names",
                )
            )

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read a map of ids; an id that is neither a class nor void is refused."""
        raw_HW = read_ids(path)
        counts = np.bincount(raw_HW.reshape(-1), minlength=VOID + 1)
        strange = [int(k) for k in np.flatnonzero(counts) if k not in self._table and k not in self._void]
        if strange:
            raise DataError(
                explain(
                    expected=f"ids {sorted(self._table)} or void {sorted(self._void)}",
                    got=f"{strange} in {int(counts[strange].sum())} pixels",
                    where=str(path),
                    do="correct the map, add the classes to classes.txt, or name the id of void with dataset.void_id",
                )
            )
        table = np.full(VOID + 1, VOID, np.uint8)
        table[list(self._table)] = list(self._table.values())
        return table[raw_HW], ()


class SegmentationFolder(DomainPair):
    """A target folder and, if wanted, a source folder, both as `LabelFolder` says; classes are matched by name."""

    def __init__(
        self,
        root: str,
        source: str | None = None,
        classes: Sequence[str] | None = None,
        void_id: int | None = None,
        pool_split: str | None = None,
        val_split: str | None = None,
        test_split: str | None = None,
        test_fraction: float = 0.2,
        source_split: str | None = None,
        source_hw: Sequence[int] | None = None,
        target_hw: Sequence[int] | None = None,
        cache_dir: str | None = None,
        metrics: Sequence[str] | None = None,
        flip_test: bool = True,
        name: str | None = None,
    ) -> None:
        """Index the folders.

        Args:
            root: the target domain.
            source: the source domain, whose labels are free; None: none.
            classes: names in label order; None reads the target's classes.txt.
            void_id: the id of pixels without a class; None: that of the line "void" in classes.txt, if there is one.
            pool_split: a folder of images/; None: train, else every image that is in no other split.
            val_split: the same for labeled images outside the pool; "none" for no such images.
            test_split: the same for the test set; "none" for no test set.
            test_fraction: of the labeled images, where there are no split folders.
            source_split: a folder of the source's images/; None: train, else every image.
            source_hw: (h, w) of source images in training; None: as they are.
            target_hw: (h, w) of target images; None: as they are.
            cache_dir: keeps which classes each source label holds.
            metrics: what evaluation computes, the main one first.
            flip_test: evaluation averages image and mirror image.
            name: of the dataset; None takes the root's name.

        Raises:
            DataError: see `LabelFolder`.
        """
        wanted = {"pool": pool_split, "val": val_split, "test": test_split}
        target = LabelFolder(root, classes, void_id, wanted, 0.0 if test_split == ABSENT else test_fraction)
        other = {"pool": source_split, "val": ABSENT, "test": ABSENT}
        self._folders = (target, LabelFolder(source, target.classes, void_id, other) if source is not None else None)
        super().__init__(*self._folders, source_hw, target_hw, cache_dir, metrics, flip_test, name or folder_name(root))
        log.info("%s: pool %d, val %d, test %d, source %d", self.name, len(self.pool_ids), len(self.val_ids), len(self.test_ids),
                 len(self.source_ids))  # fmt: skip

    def _verify_whole(self) -> list[Finding]:
        findings = super()._verify_whole()
        for folder in self._folders:
            if folder is None:
                continue
            findings += [Finding("warning", str(folder.label_files[i]), f"{i}: a label without an image", "restore the image or remove the file")
                         for i in sorted(set(folder.label_files) - set(folder.images))]  # fmt: skip
            if folder.unknown_names:
                findings.append(Finding("warning", str(folder.root / "classes.txt"),
                                        f"classes the target does not have are read as void: {', '.join(folder.unknown_names)}",
                                        "rename them if the target calls them otherwise"))  # fmt: skip
        return findings


def _index(folder: Path) -> dict[str, Path]:
    return index_images(folder) if folder.is_dir() else {}


def _splits(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    wanted: dict[str, str | None],
    test_fraction: float,
    root: Path,
) -> dict[str, list[str]]:
    wanted = {split: wanted.get(split) for split in ("pool", "val", "test")}
    present = {i.partition("/")[0] for i in images if "/" in i}
    chosen = choose_splits(present, wanted, "a folder", f"{root}/images")
    splits = {split: [i for i in images if i.startswith(f"{folder}/")] for split, folder in chosen.items()}
    if not chosen:
        splits["test"] = [i for i in images if i in labels and in_test_share(i, test_fraction)]
    if "pool" not in chosen:
        taken = {i for ids in splits.values() for i in ids}
        splits["pool"] = [i for i in images if i not in taken]
    return splits


def _read_classes(root: Path, classes: Sequence[str] | None) -> dict[int, str]:
    """Return raw id to name."""
    path = root / "classes.txt"
    if not path.is_file():
        if classes:
            return dict(enumerate(classes))
        raise DataError(
            explain(
                expected="class names",
                got="neither dataset.classes nor classes.txt",
                where=str(root),
                do="write classes.txt, one name a line in the order of the ids 0, 1, …",
            )
        )
    names = read_class_list(path)
    if not names or max(names) > VOID:
        raise DataError(
            explain(
                expected=f"at least one name, and ids 0..{VOID}",
                got=f"id {max(names)}" if names else "none",
                where=str(path),
                do="correct the file: one name a line, or 'id name'",
            )
        )
    return names
