"""What every dataset offers: stable sample ids, images for everybody, ground truth for the oracle alone."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from al_lab.core.errors import DataError, explain
from al_lab.core.fields import class_name, list_of, shown
from al_lab.core.pool import Apart
from al_lab.data.formats.images import load_rgb, read_size_hw
from al_lab.data.grouping import Grouping, expression_for
from al_lab.data.near_copies import fingerprint, near_pairs

log = logging.getLogger(__name__)

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing `verify` noticed.

    Attributes:
        severity: "error" stops a run, "warning" is worked around as the message says, "info" is good to know.
        file: the file concerned (empty when it is the dataset as a whole).
        message: what was expected and what was found, with the sample's id where there is one.
        remedy: what to do.
    """

    severity: Severity
    file: str
    message: str
    remedy: str


def folder_name(root: str) -> str:
    """Return the name of a user's dataset: its root folder's name as a slug."""
    slug = re.sub(r"[^a-z0-9_]+", "-", Path(root).expanduser().resolve().name.lower()).strip("-")
    return slug or "folder"


class Dataset(ABC):
    """A pool of images, optional validation and test images, and hidden ground truth.

    Ids are strings that never change: a sample's position in a tuple means nothing outside the function that made it.

    `truth` may be called by the oracle (pool), by the evaluate stage (test and val) and by `verify` alone.

    A new format is a `DetectionDataset` or a `SegmentationDataset` that overrides `image_path` and `_parse`;
    `has_truth` if images may lack annotations, and `annotation_file` for better messages.
    """

    name: str
    task: Literal["detection", "segmentation"]
    metrics: tuple[str, ...]
    classes: tuple[str, ...]
    pool_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    test_ids: tuple[str, ...]
    grouping: Grouping | None = None  # set before the constructor below; groups are never split between roles
    apart: Apart | None = None
    _unlabeled_remedy = "run with oracle=folder: it asks a person for the labels it wants"

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        pool_ids: Sequence[str],
        val_ids: Sequence[str] = (),
        test_ids: Sequence[str] = (),
        metrics: Sequence[str] | None = None,
    ) -> None:
        """Sort the ids and check that no sample has two roles.

        Args:
            name: of the dataset; a folder of this name holds its runs.
            classes: names in label order.
            pool_ids: images that may be bought.
            val_ids: labeled images outside the pool.
            test_ids: images for evaluation.
            metrics: what evaluation computes, the main one first; None takes the class's own.

        Raises:
            DataError: if ids repeat, splits overlap, the pool is empty, or class names are missing or repeat.
        """
        self.name = name
        self.classes = tuple(classes)
        self.metrics = tuple(metrics) if metrics is not None else type(self).metrics
        self.left_out: dict[str, list[str]] = {}
        if self.grouping is not None and (everything := [*pool_ids, *val_ids, *test_ids]):
            self._alone = self.grouping.check(everything, f"dataset {name}")
            splits, self.left_out = self.grouping.separate({"pool": pool_ids, "val": val_ids, "test": test_ids})
            pool_ids, val_ids, test_ids = splits["pool"], splits["val"], splits["test"]
            self.apart = self.grouping.apart(pool_ids)
        self.pool_ids = _sorted_ids(pool_ids, f"{name}: pool")
        self.val_ids = _sorted_ids(val_ids, f"{name}: val")
        self.test_ids = _sorted_ids(test_ids, f"{name}: test")
        self._sizes: dict[str, tuple[int, int]] = {}
        _check_classes(self.classes, name)
        _check_disjoint(self)
        for finding in self._of_groups():
            log.warning("%s: %s (%s)", name, finding.message, finding.remedy)
        if not self.pool_ids:
            out = len(self.left_out.get("pool", ()))
            raise DataError(
                explain(
                    expected="at least one image in the pool",
                    got=f"none: all {out} are of groups that val or test have, too" if out else "none",
                    where=f"dataset {name}",
                    do="correct dataset.group_by" if out else "check the root folder and the split lists",
                )
            )

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.classes)

    @abstractmethod
    def image_path(self, sample_id: str) -> Path:
        """Return the image's file.

        Raises:
            DataError: if the id is unknown.
        """

    def has_truth(self, sample_id: str) -> bool:
        """Say whether an annotation is on disk (an image annotated as empty has one)."""
        return True

    @abstractmethod
    def truth(self, sample_id: str) -> Any:
        """Return the ground truth. For the oracle, the evaluate stage and `verify` alone.

        Raises:
            DataError: if the sample has no annotation, or it can't be read.
        """

    @abstractmethod
    def _parse(self, sample_id: str) -> tuple[Any, tuple[str, ...]]:
        """Read one annotation; return it with a sentence for each thing that was worked around.

        Raises:
            DataError: if it can't be read or makes no sense.
        """

    def annotation_file(self, sample_id: str) -> Path:
        """Return the file that holds (or would hold) the sample's annotation, for messages."""
        return self.image_path(sample_id)

    def load_image(self, sample_id: str) -> np.ndarray:
        """Decode the image: (H, W, 3) uint8 upright RGB.

        Raises:
            DataError: if the id is unknown or the file is broken.
        """
        return load_rgb(self.image_path(sample_id))

    def size_hw(self, sample_id: str) -> tuple[int, int]:
        """Return (height, width) of the upright image without decoding it."""
        if sample_id not in self._sizes:
            self._sizes[sample_id] = read_size_hw(self.image_path(sample_id))
        return self._sizes[sample_id]

    def _require_truth(self, sample_id: str) -> None:
        if not self.has_truth(sample_id):
            raise DataError(
                explain(
                    expected="an annotation",
                    got="none",
                    where=f"{self.name}: {sample_id} ({self.annotation_file(sample_id)})",
                    do=f"label the image, or {self._unlabeled_remedy}",
                )
            )

    def blockers(self) -> list[Finding]:
        """Return what would stop a campaign later: said before its first training. Labels of the pool are not read."""
        return []

    def describe(self) -> dict[str, Any]:
        """Return name, task, classes and the number of images in each split (JSON-able)."""
        counts = {f"num_{split}": len(ids) for split, ids in self.splits().items()}
        return {"name": self.name, "task": self.task, "classes": list(self.classes), **counts}

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of every role an image may have."""
        return {"pool": self.pool_ids, "val": self.val_ids, "test": self.test_ids}

    def _of_groups(self) -> list[Finding]:
        """Say what grouping left out, and which images it can't place."""
        if self.grouping is None:
            return []
        found = []
        for role, ids in self.left_out.items():
            if ids:
                others = "val or test have" if role == "pool" else "test has"
                message = f"{len(ids)} {role} images are left out: their groups are those {others}, first {ids[0]!r}"
                found.append(Finding("warning", "", message, "correct the split lists to use them"))
        if self._alone:
            message = f"dataset.group_by matches {len(self._alone)} names not at all, first {self._alone[0]!r}"
            found.append(Finding("warning", "", message, "each is a group by itself; widen the expression if it isn't"))
        return found

    def verify(self, decode: bool = True, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
        """Look at every image and annotation; return findings instead of raising.

        Args:
            decode: decode every image and look for copies (slow and sure) instead of reading headers only.
            progress: called with (done, total) after each sample.

        Returns:
            Findings of the dataset as a whole, then sample by sample in the order of `splits`.
        """
        findings = [*self._verify_whole(), *self.blockers(), *self._of_groups(), *_near_names(self.classes)]
        splits = {i: split for split, ids in self.splits().items() for i in ids}
        ids, first = tuple(splits), dict[bytes, str]()
        prints: dict[str, np.ndarray] = {}
        for done, sample_id in enumerate(ids, 1):
            findings += self._verify_sample(sample_id, decode, prints)
            path = self.image_path(sample_id)
            if decode and path.is_file():
                digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
                twin = first.setdefault(digest, sample_id)
                if twin != sample_id:
                    prints.pop(sample_id, None)  # said already
                    message = f"{sample_id} ({splits[sample_id]}) is the same file as {twin} ({splits[twin]})"
                    remedy = "remove one of them: a copy is paid for twice, and one in the test set is a leak"
                    findings.append(Finding("warning", str(path), message, remedy))
            if progress:
                progress(done, len(ids))
        return findings + self._near_copies(prints, splits)

    def _near_copies(self, prints: Mapping[str, np.ndarray], splits: Mapping[str, str]) -> list[Finding]:
        """Name pairs that look the same on both sides of a split, and count those within the pool."""
        findings, inside, across = [], 0, []
        for a, b, bits in near_pairs(prints):
            inside += splits[a] == splits[b] == "pool"
            if splits[a] != splits[b]:
                across.append((a, b))
                message = f"{a} ({splits[a]}) looks like {b} ({splits[b]}): {bits} of 256 bits differ"
                remedy = "if it is the same scene, move one of them: what is measured on a copy is no test"
                findings.append(Finding("warning", str(self.image_path(a)), message, remedy))
        findings += self._groups_across(across)
        if inside:
            message = f"{inside} pairs of pool images look the same (neighbouring frames, copies)"
            findings.append(
                Finding("info", "", message, "core_set, or another strategy that looks for variety, buys one of each")
            )
        return findings

    def _groups_across(self, pairs: Sequence[tuple[str, str]]) -> list[Finding]:
        """Say which grouping would have kept images that look the same on one side of a split."""
        if not pairs:
            return []
        if self.grouping is not None:
            message = f"dataset.group_by puts the images of {len(pairs)} such pairs into different groups, "
            message += " and ".join(repr(self.grouping.group(i)) for i in pairs[0])
            remedy = "if they are one scene, write an expression whose parentheses match what their names share"
            return [Finding("warning", "", message, remedy)]
        pattern = expression_for(pairs)
        if pattern is None:
            return []
        together = Grouping(pattern)
        count = sum(together.group(a) == together.group(b) for a, b in pairs)
        message = f"the names of {count} of the {len(pairs)} pairs across splits tell that they belong together"
        return [Finding("warning", "", message, f"dataset.group_by='{pattern}' never splits such a group")]

    def _verify_whole(self) -> list[Finding]:
        findings = []
        if not self.test_ids:
            findings.append(
                Finding("info", "", "no test images: evaluation will be skipped", "name a test split if there is one")
            )
        for split, ids in (("val", self.val_ids), ("test", self.test_ids)):
            missing = [i for i in ids if not self.has_truth(i)]
            if missing:
                findings.append(
                    Finding(
                        "error",
                        str(self.annotation_file(missing[0])),
                        f"{len(missing)} of {len(ids)} {split} images have no annotation, first {missing[0]!r}",
                        f"annotate them, or take them out of the {split} list",
                    )
                )
        without = sum(not self.has_truth(i) for i in self.pool_ids)
        if without:
            findings.append(
                Finding(
                    "info",
                    "",
                    f"{without} of {len(self.pool_ids)} pool images have no annotation",
                    self._unlabeled_remedy,
                )
            )
        return findings

    def _verify_sample(self, sample_id: str, decode: bool, prints: dict[str, np.ndarray]) -> list[Finding]:
        path = self.image_path(sample_id)
        try:
            if decode:
                image = self.load_image(sample_id)
                self._sizes[sample_id] = (image.shape[0], image.shape[1])
                if (found := fingerprint(image)) is not None:
                    prints[sample_id] = found
            else:
                self.size_hw(sample_id)
        except DataError as error:
            remedy = "replace the image file"
            if sample_id in self.pool_ids:
                remedy += ", or go on without it: budget.leave_out='[unreadable]'"
            return [Finding("error", str(path), f"{sample_id}: {error}", remedy)]
        return self._verify_truth(sample_id, decode) if self.has_truth(sample_id) else []

    def _verify_truth(self, sample_id: str, decode: bool) -> list[Finding]:
        file = str(self.annotation_file(sample_id))
        try:
            _, notes = self._parse(sample_id)
        except DataError as error:
            return [Finding("error", file, f"{sample_id}: {error}", "correct the annotation")]
        return [Finding("warning", file, f"{sample_id}: {note}", "correct the annotation") for note in notes]


def _near_names(classes: Sequence[str]) -> list[Finding]:
    """Name classes that differ in case, blanks or separators only: nearly always one class written in two ways."""
    first: dict[str, str] = {}
    findings = []
    for name in classes:
        twin = first.setdefault(re.sub(r"[\s_-]+", "", name.casefold()), name)
        if twin != name:
            message = f"classes {twin!r} and {name!r} differ only in case, blanks or separators"
            remedy = "spell them alike in the annotations if they are one class"
            findings.append(Finding("warning", "", message, remedy))
    return findings


def _sorted_ids(ids: Sequence[str], where: str) -> tuple[str, ...]:
    ordered = tuple(sorted(ids))
    for before, after in itertools.pairwise(ordered):
        if before == after:
            raise DataError(
                explain(
                    expected="sample ids that occur once",
                    got=f"{before!r} twice",
                    where=where,
                    do="remove the second entry, or rename one of the two files",
                )
            )
    return ordered


def _check_classes(classes: tuple[str, ...], name: str) -> None:
    do = "give dataset.classes='[cat,dog]' or write them into classes.txt, one a line"
    list_of(class_name)(classes, f"dataset {name}: classes", do, DataError)
    if not classes or len(set(classes)) != len(classes):
        got = shown(list(classes)) if classes else "none"
        raise DataError(explain(expected="class names, each once", got=got, where=f"dataset {name}", do=do))


def _check_disjoint(dataset: Dataset) -> None:
    splits = dataset.splits()
    names = list(splits)
    for n, first in enumerate(names):
        for second in names[n + 1 :]:
            shared = sorted(set(splits[first]) & set(splits[second]))
            if shared:
                raise DataError(
                    explain(
                        expected=f"no image in both {first} and {second}",
                        got=f"{len(shared)} shared, first {shared[0]!r}",
                        where=f"dataset {dataset.name}",
                        do="choose other split lists: test images must never be trained on",
                    )
                )
