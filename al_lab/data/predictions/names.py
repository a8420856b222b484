"""From what a predictions file calls an image or a class to the dataset's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from al_lab.core.errors import did_you_mean
from al_lab.core.fields import shown
from al_lab.data.formats.layout import NameIndex
from al_lab.data.predictions.rows import Rows, raise_all


class Finds(Protocol):
    """Whatever knows which image a file means."""

    def find(self, name: str | int) -> str | None: ...  # noqa: D102


class ImageNames:
    """Finds images by id, path, bare name, or the number that is their name."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """Take the file of each sample."""
        self.paths = paths
        self._exact = {i: i for i in paths} | {f"{i}{path.suffix}": i for i, path in paths.items()}

    def find(self, name: str | int) -> str | None:
        """Return the sample that a file calls ``name``; None if there is none, or more than one."""
        if isinstance(name, int):
            return self._numbers.get(name)
        found = self._exact.get(name)
        return found if found is not None else self._index.find(name) or self._index.find_stem(name)

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self.paths)

    @cached_property
    def _numbers(self) -> dict[int, str]:
        """Images whose names are numbers, as COCO's are: 139 is 000000000139.jpg."""
        named = [(int(p.stem), i) for i, p in self.paths.items() if p.stem.isascii() and p.stem.isdigit()]
        times = Counter(n for n, _ in named)
        return {n: i for n, i in named if times[n] == 1}


def labels_of(rows: Rows, classes: Sequence[str], first_category: int | None) -> np.ndarray:
    """Return the label of each category of a file.

    Numbers that the file does not explain count the dataset's classes. From 0 or from 1 is told by the numbers where
    they can only be one of the two.

    Args:
        rows: of the file.
        classes: the dataset's.
        first_category: what the user said the first one's number is.

    Raises:
        DataError: for unknown classes, and for numbers that could be read in two ways.
    """
    numbers = [c for c in rows.categories if isinstance(c, int)]
    first = first_category if first_category is not None else rows.first_category
    if numbers and first is None:
        first = _first(rows, numbers, len(classes))
    label_of = {name: n for n, name in enumerate(classes)}
    wrong, labels = [], []
    for category in rows.categories:
        label = category - (first or 0) if isinstance(category, int) else label_of.get(category, -1)
        labels.append(label)
        if not 0 <= label < len(classes):
            rows_of = np.flatnonzero(rows.category == len(labels) - 1)
            place = rows.place(int(rows_of[0])) if len(rows_of) else ""
            if isinstance(category, int):
                expected, do = f"a class number from {first} to {len(classes) - 1 + (first or 0)}", (
                    "give the classes in the order of the numbers (dataset.classes='[…]'), or --images-json FILE, "
                    "whose categories explain them"
                )  # fmt: skip
            else:
                expected = f"one of {len(classes)} classes of the dataset"
                do = f"{did_you_mean(category, classes)} Correct the file, or give dataset.classes='[…]'"
            wrong.append(str(rows.source.wrong(expected, f"{shown(category)} ({len(rows_of)} boxes)", place, do)))
    raise_all(wrong)
    return np.array(labels, np.int64)


def _first(rows: Rows, numbers: Sequence[int], num_classes: int) -> int:
    if min(numbers) == 0:
        return 0
    if max(numbers) == num_classes:
        return 1
    got = f"the numbers {min(numbers)} to {max(numbers)} for {num_classes} classes, which may count from 0 or from 1"
    do = "add --images-json FILE (a COCO document whose categories explain them), or --first-category 0 or 1"
    raise rows.source.wrong("categories that are explained", got, "category_id", do)
