"""A person's own photographs with label maps, and optionally a second folder of the same kind as source domain."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.fields import between
from al_lab.data.datasets.dataset import Finding, folder_name
from al_lab.data.datasets.domains import Domain, DomainPair
from al_lab.data.formats.layout import index_images
from al_lab.data.formats.masks import (
    VOID,
    VOID_NAMES,
    MapClasses,
    MapFiles,
    find_maps,
    foreground_of,
    read_map_classes,
    read_values,
)  # fmt: skip
from al_lab.data.formats.splits import ABSENT, SPLIT_WORDS, choose_splits
from al_lab.data.grouping import Grouping, automatic_test

log = logging.getLogger(__name__)


class LabelFolder(Domain):
    """``images/`` with photographs, ``labels/`` with maps of the same relative names, ``classes.txt``; or as they lie.

    Other layouts that are found: VOC's (``JPEGImages``, ``SegmentationClass``), ``masks/`` folders, maps beside the
    photographs with a suffix; see `find_maps`. Folders called train, val, test are splits (see `choose_splits`).
    Without them every image is in the pool, and ``test_fraction`` of the labeled ones become the test set. A map is a
    gray or palette image of ids, such as PNG, or holds colors that a table explains (see `read_map_classes`).
    ``classes.txt`` has a name a line, ids 0, 1, …, or "id name". The id of the line "void" means no class, and so does
    255 unless it is a class's id. Maps of 0 and 255 alone are background and foreground, of 0 and 1 (255: void) too if
    ``classes.txt`` has one name, that of the foreground, or is not there.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Sequence[str] | None = None,
        void_id: int | str | None = None,
        wanted: Mapping[str, str | None] | None = None,
        test_fraction: float = 0.0,
        grouping: Grouping | None = None,
    ) -> None:
        """Index the folder.

        Args:
            root: the folder.
            classes: names in label order, to which ids are mapped by name; None: those of classes.txt.
            void_id: the id of pixels without a class; None: that of the line "void" in classes.txt, if there is one;
                "none": 255 isn't void either.
            wanted: names of the folders that are "pool", "val" and "test".
            test_fraction: of the labeled images, where there are no split folders.
            grouping: of images that have one role.

        Raises:
            DataError: if there are no images or no class names, or a split that was named is not there.
        """
        self.root = Path(root).expanduser()
        self.files = _find(self.root)
        found = read_map_classes(self.root, classes)
        self.binary_note: str | None = None
        value = self._foreground(found, void_id)
        if value is not None:
            said = tuple(found.names.values()) if found else ("foreground",)
            first, second = said if len(said) > 1 else ("background", *said)
            found = MapClasses({0: first, value: second})
            log.warning(
                "%s: masks hold only 0 and %d: 0 is read as %r, %d as %r", self.root, value, first, value, second
            )
            self.binary_note = f"masks hold only 0 and {value}: {value} is read as {second!r}"
            classes = classes if classes and len(classes) > 1 else None
        if found is None:
            what, got = "class names", "neither dataset.classes nor classes.txt"
            do = "write classes.txt, one name a line in the order of the ids 0, 1, …"
            raise DataError(explain(expected=what, got=got, where=str(self.root), do=do))
        given = {void_id} if isinstance(void_id, int) else set[int]()
        void = given - {VOID} if value == VOID else _void_values(found, void_id, self.root)
        self._void, self._colors = void, found.colors
        names = {raw: name for raw, name in found.names.items() if raw not in void}
        kept = tuple(classes) if classes else tuple(names.values())
        self.unknown_names = sorted(set(names.values()) - set(kept))  # classes only this domain has: void
        self._table = {raw: kept.index(name) if name in kept else VOID for raw, name in names.items()}
        images, maps = self.files.images, self.files.maps
        labels = {i: maps.get(i, self.root / "labels" / f"{i}.png") for i in images}
        super().__init__(
            kept, images, labels, _splits(images, self.files, dict(wanted or {}), test_fraction, self.root, grouping)
        )
        if not set(kept) & set(names.values()):
            what, got = f"some of the classes {', '.join(kept)}", ", ".join(names.values())
            do = "give classes of both domains the same names"
            raise DataError(explain(expected=what, got=got, where=f"{self.root}/classes.txt", do=do))

    def _foreground(self, found: MapClasses | None, void_id: int | str | None) -> int | None:
        """Return the value of the one class that masks are of, None if they aren't.

        255 of maps of 0 and 255 (and ``void_id``), if there are two classes, one, or no word about classes; 1 of maps
        of 0 and 1 (and void, 255), if there is one, or no word.
        """
        names = [] if found is None else sorted(found.names)
        if (found is not None and found.colors) or names not in ([], [0], [0, 1]):
            return None
        given = {void_id} if isinstance(void_id, int) else set[int]()
        maps = list(self.files.maps.values())
        try:
            value = foreground_of(maps, {}, given)
            if value is None and void_id != ABSENT:
                value = foreground_of(maps, {}, {*given, VOID})
        except DataError:  # a map that can't be read is named by who reads it: `al-lab data verify`, a campaign's look
            return None
        return None if value == 1 and len(names) > 1 else value

    def label_rule(self) -> str | None:
        """Return which value means what."""
        return repr((sorted(self._table.items()), sorted(self._void), self._colors))

    def read_label(self, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read a map of ids; an id that is neither a class nor void is refused."""
        raw_HW = read_values(path, self._colors)
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


def _void_values(found: MapClasses, void_id: int | str | None, root: Path) -> set[int]:
    """Return the raw values that mean no class: the one that was given, else those whose name says so, and 255.

    255 is void unless it is a class's id, or nobody's (``void_id`` "none").
    """
    if void_id is not None and void_id != ABSENT:
        value = between(0, VOID)(void_id, "dataset.void_id", f"give an id, null, or {ABSENT}", DataError)
        if value != VOID and found.names.get(VOID, "void").lower() in VOID_NAMES:
            return {value, VOID}
        return {value}
    named = {raw for raw, name in found.names.items() if name.lower() in VOID_NAMES}
    if VOID in found.names and VOID not in named:
        log.info("%s: 255 is the class %r, as classes.txt says, and not void", root, found.names[VOID])
        return named
    return named if void_id == ABSENT else {*named, VOID}


class SegmentationFolder(DomainPair):
    """A target folder and, if wanted, a source folder, both as `LabelFolder` says; classes are matched by name."""

    def __init__(
        self,
        root: str,
        source: str | None = None,
        classes: Sequence[str] | None = None,
        void_id: int | str | None = None,
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
        group_by: str | None = None,
        min_gap: int | str | None = None,
        segments: Mapping[str, Any] | None = None,
    ) -> None:
        """Index the folders.

        Args:
            root: the target domain.
            source: the source domain, whose labels are free; None: none.
            classes: names in label order; None reads the target's classes.txt.
            void_id: the id of pixels without a class; None: that of the line "void" in classes.txt, if there is one;
                "none": 255 isn't void either.
            pool_split: a folder of images/; None: train, else every image that is in no other split.
            val_split: the same for labeled images outside the pool; "none" for no such images.
            test_split: the same for the test set; "none" for no test set.
            test_fraction: of the labeled images, where there are no split folders.
            source_split: a folder of the source's images/; None: train, else every image.
            source_hw: (h, w) of source images in training; None: as they are.
            target_hw: (h, w) of target images; None: as they are.
            cache_dir: keeps which classes each source label holds.
            metrics: what evaluation computes, the main one first.
            flip_test: evaluation averages image and flipped image.
            name: of the dataset; None takes the root's name.
            group_by: images of one group (video, patient, camera) have one role: a regular expression, see `Grouping`.
            min_gap: how far apart the numbers of a group's images in one purchase are; "group": one image of a group.
            segments: how images are cut into segments, see `SegmentSettings`.

        Raises:
            DataError: see `LabelFolder`.
        """
        wanted = {"pool": pool_split, "val": val_split, "test": test_split}
        self.grouping = Grouping.of(group_by, min_gap)
        share = 0.0 if test_split == ABSENT else test_fraction
        target = LabelFolder(root, classes, void_id, wanted, share, self.grouping)
        other = {"pool": source_split, "val": ABSENT, "test": ABSENT}
        self._folders = (target, LabelFolder(source, target.classes, void_id, other) if source is not None else None)
        super().__init__(
            *self._folders, source_hw, target_hw, cache_dir, metrics, flip_test, name or folder_name(root), segments
        )
        log.info(
            "%s: read as %s; pool %d, val %d, test %d, source %d; %d classes: %s", self.name, target.files.how,
            len(self.pool_ids), len(self.val_ids), len(self.test_ids), len(self.source_ids), len(self.classes),
            ", ".join(self.classes[:8]) + (", …" if len(self.classes) > 8 else ""),  # noqa: PLR2004
        )  # fmt: skip

    def _verify_whole(self) -> list[Finding]:
        findings = super()._verify_whole()
        for folder in self._folders:
            if folder is None:
                continue
            findings += [
                Finding(
                    "warning",
                    str(path),
                    f"{path.name}: a label without an image",
                    "restore the image or remove the file",
                )
                for path in folder.files.strangers
            ]
            if folder.binary_note:
                remedy = "none needed if that is so; else write the classes' ids into the masks"
                findings.append(Finding("warning", str(folder.root), folder.binary_note, remedy))
            if folder.unknown_names:
                findings.append(Finding("warning", str(folder.root / "classes.txt"),
                                        f"classes the target does not have are read as void: "
                                        f"{', '.join(folder.unknown_names)}",
                                        "rename them if the target calls them otherwise"))  # fmt: skip
        return findings


def _find(root: Path) -> MapFiles:
    """Find photographs and label maps: in ``images/`` and ``labels/`` under equal names, else wherever they lie.

    Raises:
        DataError: if there are no photographs.
    """
    if not all((root / part).is_dir() for part in ("images", "labels")):
        return find_maps(root)
    images, maps = (index_images(root / part) for part in ("images", "labels"))
    if not images or not set(images) & set(maps):
        return find_maps(root)
    splits: dict[str, list[str]] = {}
    for sample_id in images:
        folder, _, rest = sample_id.partition("/")
        if rest:
            splits.setdefault(SPLIT_WORDS.get(folder.lower(), folder), []).append(sample_id)
    strangers = [maps[i] for i in sorted(set(maps) - set(images))]
    return MapFiles(images, {i: p for i, p in maps.items() if i in images}, strangers, splits, "label maps in labels")


def _splits(
    images: Mapping[str, Path],
    files: MapFiles,
    wanted: dict[str, str | None],
    test_fraction: float,
    root: Path,
    grouping: Grouping | None,
) -> dict[str, list[str]]:
    named = {split: wanted.get(split) for split in ("pool", "val", "test")}
    named = {split: SPLIT_WORDS.get(word.lower(), word) if word else word for split, word in named.items()}
    chosen = choose_splits(set(files.splits), named, "a split", str(root))
    splits = {role: files.splits[split] for role, split in chosen.items()}
    if not chosen:
        splits["test"] = automatic_test([i for i in images if i in files.maps], test_fraction, grouping)
    if "pool" not in chosen:
        taken = {i for ids in splits.values() for i in ids}
        splits["pool"] = [i for i in images if i not in taken]
    return splits
