"""A test set that a run buys itself, because nobody has labeled one: a random one, the same for every strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.pool import TEST, file_stem, load_mask, purchase_dir
from al_lab.core.record.labels import read_annotations, read_pixel_classes
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation

_FEWEST_GROUPS = 5  # of which a test set is, where there are enough: one video is no test


class BoughtTest:
    """A dataset some of whose images are the test set; what is not said here is the dataset's own.

    Args:
        dataset: without labeled test images. From its unlabeled ones the test set is drawn, else from the pool.
        count: images of the test set.
        rng: of the draw; it decides alone.
        run_dir: of the run that buys the labels.

    Raises:
        ConfigError: if there is a labeled test set, or the pool is too small.
    """

    def __init__(self, dataset: Any, count: int, rng: Rng, run_dir: Path | None = None) -> None:
        self._dataset, self._run_dir = dataset, run_dir
        labeled = [i for i in dataset.test_ids if dataset.has_truth(i)]
        if labeled:
            _refuse(
                "a dataset without a labeled test set",
                f"{len(labeled)} labeled test images in dataset {dataset.name!r}",
                "set budget.test=0, or dataset.test_split=none to buy another one",
            )
        source = tuple(dataset.test_ids) or tuple(dataset.pool_ids)
        if count >= len(source) + bool(dataset.test_ids):
            _refuse(
                f"fewer than the {len(source)} images it is drawn from",
                str(count),
                "lower it: the rest is what can be bought",
            )
        self.test_ids, gone = _draw(source, count, dataset.grouping, rng)
        self.pool_ids = tuple(i for i in dataset.pool_ids if i not in gone)
        if not self.pool_ids:
            _refuse("images that are left to buy", f"all in the groups of {count} test images", "lower it")
        self._test = frozenset(self.test_ids)
        self._bought: dict[str, Annotation] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of every role an image may have."""
        return {**self._dataset.splits(), "pool": self.pool_ids, "test": self.test_ids}

    def describe(self) -> dict[str, Any]:
        """See `Dataset.describe`."""
        counts = {f"num_{split}": len(ids) for split, ids in self.splits().items()}
        return {**self._dataset.describe(), **counts}

    def is_there(self) -> bool:
        """Say whether the labels of the test set were bought."""
        return self._run_dir is not None and (purchase_dir(self._run_dir, TEST) / "cost.json").is_file()

    def has_truth(self, sample_id: str) -> bool:
        """Say whether labels are there: those that were bought, of the test set."""
        return (sample_id in self._test and self.is_there()) or bool(self._dataset.has_truth(sample_id))

    def truth(self, sample_id: str) -> Any:
        """Return the ground truth; of the test set, what was bought."""
        if sample_id not in self._test or not self.is_there():
            return self._dataset.truth(sample_id)
        assert self._run_dir is not None
        folder = purchase_dir(self._run_dir, TEST)
        if self._dataset.task == "segmentation":
            name = f"{file_stem(sample_id)}.npz"
            mask = load_mask(folder / "masks" / name)
            label_HW = np.full(mask.shape, 255, np.uint8)
            label_HW[mask] = read_pixel_classes(folder / "pixel_labels" / name, int(mask.sum()))
            return label_HW
        if self._bought is None:
            self._bought = read_annotations(folder / "labels.jsonl")
        if sample_id not in self._bought:
            raise DataError(
                explain(
                    expected="the labels that were bought for the test set",
                    got=f"none of {sample_id!r}",
                    where=str(folder / "labels.jsonl"),
                    do="restore the file, or start anew with restart=again",
                )
            )
        return self._bought[sample_id]


def with_test(dataset: Any, config: Mapping[str, Any], run_dir: Path | None = None) -> Any:
    """Return a run's dataset: with the test set that ``budget.test`` buys, if it does.

    Raises:
        ConfigError: see `BoughtTest`.
    """
    count = int((config.get("budget") or {}).get("test") or 0)
    if not count or isinstance(dataset, BoughtTest):
        return dataset
    return BoughtTest(dataset, count, Rng(int(config["split_seed"]), "test"), run_dir)


def _draw(ids: Sequence[str], count: int, grouping: Any, rng: Rng) -> tuple[tuple[str, ...], set[str]]:
    """Draw the test set; return it, and all images that can't be in the pool beside it.

    With groups some are drawn, enough for the images and, where there are many, at least `_FEWEST_GROUPS`; each gives
    as many images as the others, as far as it has them.
    """
    order = [ids[k] for k in rng.generator().permutation(len(ids))]
    if grouping is None:
        test = order[:count]
        return tuple(sorted(test)), set(test)
    members: dict[str, list[str]] = {}
    for sample_id in order:
        members.setdefault(grouping.group(sample_id), []).append(sample_id)
    fewest = min(_FEWEST_GROUPS, math.ceil(len(members) / _FEWEST_GROUPS))
    groups: list[list[str]] = []
    for group in members.values():
        if len(groups) >= fewest and sum(map(len, groups)) >= count:
            break
        groups.append(group)
    turns = sorted((turn, n, i) for n, group in enumerate(groups) for turn, i in enumerate(group))
    return tuple(sorted(i for _, _, i in turns[:count])), {i for group in groups for i in group}


def _refuse(expected: str, got: str, do: str) -> None:
    raise ConfigError(explain(expected=expected, got=got, where="budget.test", do=do))
