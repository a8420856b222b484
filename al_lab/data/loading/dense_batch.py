"""Batches of segmentation, both domains resized once.

Source images have free labels, target images the pixels that were bought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.record.labels import pixel_labels_hash, read_bought_pixels, read_pixel_labels
from al_lab.core.rng import Rng
from al_lab.data.datasets.segmentation import SOURCE_PREFIX, SegmentationDataset
from al_lab.data.loading.byte_cache import ByteCache, kept
from al_lab.data.loading.datamodule import has_gpu, loader
from al_lab.data.loading.dense_join import DenseBatch, DenseItem, PackedDenseBatch, dense_collate
from al_lab.data.loading.sampler import Stream
from al_lab.data.loading.source_sampler import BalancedSource, PlainSource
from al_lab.data.transforms.dense import VOID, effective_labels, resize_image, resize_label


@dataclass(frozen=True)
class BoughtPixels:
    """The pixel labels a training may see; they are read where they are needed, image by image.

    Attributes:
        run_dir: the run folder that holds them.
        ids: images of which something was bought.
        cycle: what was bought before it counts.
    """

    run_dir: Path
    ids: tuple[str, ...]
    cycle: int

    def content_hash(self) -> str:
        """Return what tells these labels from others."""
        return pixel_labels_hash(self.run_dir, self.ids, self.cycle)

    def count(self, target_hw: tuple[int, int] | None, num_workers: int = 0) -> dict[str, float]:
        """Count what was paid for and what of it a training can learn from.

        Returns:
            ``bought_pixels``; ``effective_labels``, of which a label is left at training size: resizing by nearest
            neighbor drops pixels, and a bought pixel may have no class.
        """
        counter = _Counter(self, target_hw)
        rows = DataLoader(counter, batch_size=None, num_workers=num_workers, generator=torch.Generator())
        totals = [sum(column) for column in zip(*rows, strict=True)] or [0, 0]
        return {"bought_pixels": int(totals[0]), "effective_labels": int(totals[1])}


class _Counter(TorchDataset[tuple[int, int]]):
    """Counts pixels of one image, in a loader process if there are some."""

    def __init__(self, pixels: BoughtPixels, target_hw: tuple[int, int] | None) -> None:
        self._pixels, self._hw = pixels, target_hw

    def __len__(self) -> int:
        return len(self._pixels.ids)

    def __getitem__(self, row: int) -> tuple[int, int]:
        labels, bought = read_bought_pixels(self._pixels.run_dir, self._pixels.ids[row], self._pixels.cycle, VOID)
        return int(bought.sum()), effective_labels(labels, self._hw)


class DenseDraw(NamedTuple):
    """One place in a batch."""

    sample_id: str
    is_source: bool


class DenseSampler:
    """Batches of draws for steps ``first_step`` to ``stop_step - 1``; a torch batch sampler.

    A step's draws are a function of (seed, step). With several devices each takes the same stretch of both domains'
    places.

    Args:
        source: ids of source images by step; None: none.
        targets: target images, in any order.
        counts: source and target images of a batch, over all devices.
        bought: target images something was bought of.
        bought_count: places of a batch that are theirs.
        seed: of the training.
        first_step: the step to begin with.
        stop_step: the step before which to stop.
        rank: of this device.
        world: number of devices.

    Raises:
        ConfigError: if ``world`` devices can't share both equally.
    """

    def __init__(
        self,
        source: BalancedSource | PlainSource | None,
        targets: Sequence[str],
        counts: tuple[int, int],
        *,
        bought: Sequence[str] = (),
        bought_count: int = 0,
        seed: int,
        first_step: int,
        stop_step: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if any(count % world for count in counts):
            raise ConfigError(
                explain(
                    expected=f"as many source images for each of {world} devices, and as many target images",
                    got=f"{counts[0]} and {counts[1]} a step",
                    where="trainer.batch_size",
                    do="change trainer.batch_size, objective.source_ratio or runtime.devices",
                )
            )
        self._source, self._counts = source, counts
        self._targets = Stream(targets, Rng(seed, "order", "target"))
        self._bought_count = bought_count if bought else 0
        self._bought = Stream(bought, Rng(seed, "order", "bought")) if self._bought_count else self._targets
        self._steps = range(first_step, stop_step)
        self._mine = [slice(rank * count // world, (rank + 1) * count // world) for count in counts]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[DenseDraw]]:
        """Yield this device's draws, source first, step by step."""
        for step in self._steps:
            source, target = self.batch(step)
            yield [DenseDraw(i, True) for i in source[self._mine[0]]] + [
                DenseDraw(i, False) for i in target[self._mine[1]]
            ]

    def batch(self, step: int) -> tuple[list[str], list[str]]:
        """Return the source and target ids of a step's global batch."""
        num_source, num_target = self._counts
        source = [] if self._source is None else list(self._source.ids(step, num_source))
        theirs, others = self._bought_count, num_target - self._bought_count
        return source, [
            *(self._bought.at(step * theirs + n) for n in range(theirs)),
            *(self._targets.at(step * others + n) for n in range(others)),
        ]


class DenseImages(TorchDataset[DenseItem]):
    """Images resized, without augmentation; for training with their labels, for looking without.

    Args:
        dataset: images, and labels of the source.
        bought: labels of target images; None: without labels.
        cache: keeps what is resized; None: it is made each time.
    """

    def __init__(
        self, dataset: SegmentationDataset, bought: BoughtPixels | None = None, cache: ByteCache | None = None
    ) -> None:
        self._dataset, self._bought, self._cache = dataset, bought, cache
        self._labeled = frozenset(bought.ids if bought else ())

    def __getitem__(self, draw: DenseDraw) -> DenseItem:
        """Read one image."""
        dataset, sample_id = self._dataset, draw.sample_id
        size_hw = dataset.source_hw if draw.is_source else dataset.target_hw

        def make() -> tuple[np.ndarray, int]:
            image_u8 = dataset.load_image(sample_id)
            return resize_image(image_u8, size_hw), image_u8.shape[0] * image_u8.shape[1]

        image_u8 = kept(self._cache, lambda: dataset.image_path(sample_id), f"bicubic {size_hw}", make)
        labels = None if self._bought is None else torch.from_numpy(self._labels(draw, image_u8.shape[:2]))
        return DenseItem(sample_id, draw.is_source, torch.from_numpy(image_u8), labels)

    def _labels(self, draw: DenseDraw, size_hw: tuple[int, ...]) -> np.ndarray:
        if draw.is_source:
            return self._source_label(draw.sample_id)
        assert self._bought is not None
        if draw.sample_id not in self._labeled:
            return np.full(size_hw, VOID, np.uint8)
        return resize_label(
            read_pixel_labels(self._bought.run_dir, draw.sample_id, self._bought.cycle, VOID), self._dataset.target_hw
        )

    def _source_label(self, sample_id: str) -> np.ndarray:
        dataset, rule = self._dataset, self._dataset.label_rule(sample_id)

        def make() -> tuple[np.ndarray, int]:
            label = dataset.source_label(sample_id)
            return resize_label(label, dataset.source_hw), label.size

        how = f"nearest {dataset.source_hw}, {rule}"
        return kept(self._cache if rule else None, lambda: dataset.annotation_file(sample_id), how, make)


def domain_counts(batch_size: int, objective: Any, *, has_source: bool, has_target: bool) -> tuple[int, int]:
    """Return how many source and target images a batch has.

    Together ``batch_size``, at least one of each domain that takes part.

    Args:
        batch_size: over all devices.
        objective: its attribute ``source_ratio`` (default one half) is the source's part; 0 and 1 leave a domain out,
            which one with ``needs_both_domains`` can't.
        has_source: there are source images.
        has_target: there are target images to train on.

    Raises:
        DataError: if nothing is left.
        ConfigError: if both domains can't be in a batch that needs both.
    """
    ratio = float(getattr(objective, "source_ratio", 0.5))
    source, target = has_source and ratio > 0, has_target and ratio < 1
    if not (source or target):
        lacking = [
            f"no {domain} images" + (f" (objective.source_ratio={ratio:g} leaves them out)" if is_there else "")
            for domain, is_there in (("source", has_source), ("target", has_target))
        ]
        raise DataError(
            explain(
                expected="images to train on",
                got=" and ".join(lacking),
                where="training",
                do="set budget.initial above 0, use a dataset with a source domain, or an objective with a loss on "
                "unlabeled images",
            )
        )
    if getattr(objective, "needs_both_domains", False) and not (source and target):
        raise ConfigError(
            explain(
                expected="images of both domains in a batch",
                got=f"no {'target' if source else 'source'} images",
                where=f"objective, {type(objective).__name__}",
                do="use a dataset with a source domain and a source_ratio between 0 and 1, or objective=segment",
            )
        )
    if not (source and target):
        return (batch_size, 0) if source else (0, batch_size)
    if batch_size < 2:  # noqa: PLR2004 - one image of each domain
        raise ConfigError(
            explain(
                expected="an image of each domain in a batch",
                got=f"trainer.batch_size={batch_size}",
                where="training",
                do="set trainer.batch_size to 2 or more",
            )
        )
    count = min(max(1, round(batch_size * ratio)), batch_size - 1)
    return count, batch_size - count


def dense_train_batches(
    dataset: SegmentationDataset,
    bought: BoughtPixels,
    *,
    targets: Sequence[str],
    network: Any,
    objective: Any,
    batch_size: int,
    seed: int,
    first_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    cache: ByteCache | None = None,
) -> DataLoader:
    """Return a loader of one batch per step from ``first_step`` to ``stop_step - 1``.

    Args:
        dataset: where images and source labels come from; without source images in a batch, none of the source's files
            is opened.
        bought: labels of target images.
        targets: target images to train on, labeled or not.
        network: read for mean and std.
        objective: see `domain_counts`; its attribute ``source_balance`` (default true) says whether rare classes of the
            source come as often as frequent ones, ``bought_ratio`` (default 0) which part of the target's places is for
            images something was bought of.
        batch_size: images a step, over all devices.
        seed: of the training.
        first_step: where to begin or go on.
        stop_step: where to stop.
        rank: of this device.
        world: number of devices, which share the one global batch.
        num_workers: loader processes; 0 loads in this one. The batches are the same.
        cache: keeps what is resized.

    Raises:
        DataError: if there is nothing to train on.
        ConfigError: if the batch can't be shared by both domains and ``world`` devices.
    """
    counts = domain_counts(batch_size, objective, has_source=bool(dataset.source_ids), has_target=bool(targets))
    source: BalancedSource | PlainSource | None = None
    if counts[0]:
        is_balanced = getattr(objective, "source_balance", True)
        source = (
            BalancedSource(dataset.source_classes(), len(dataset.classes), seed)
            if is_balanced
            else PlainSource(dataset.source_ids, seed)
        )
    sampler = DenseSampler(
        source,
        targets,
        counts,
        bought=sorted(bought.ids),
        bought_count=round(counts[1] * getattr(objective, "bought_ratio", 0.0)),
        seed=seed,
        first_step=first_step,
        stop_step=stop_step,
        rank=rank,
        world=world,
    )
    return loader(DenseImages(dataset, bought, cache), _joined(network), num_workers, batch_sampler=sampler)


def dense_predict_batches(
    dataset: SegmentationDataset,
    ids: Sequence[str],
    *,
    network: Any,
    batch_size: int,
    num_workers: int = 0,
    cache: ByteCache | None = None,
) -> DataLoader:
    """Return a loader of target images at ``dataset.target_hw``, or of source images at ``dataset.source_hw``.

    They come in the order of ``ids``, in chunks of ``batch_size``; all are of one domain.
    """
    is_source = bool(ids) and ids[0].startswith(SOURCE_PREFIX)
    chunks = [[DenseDraw(i, is_source) for i in ids[n : n + batch_size]] for n in range(0, len(ids), batch_size)]
    return loader(DenseImages(dataset, cache=cache), _joined(network), num_workers, batch_sampler=chunks)


def _joined(network: Any) -> Callable[[list[DenseItem]], DenseBatch | PackedDenseBatch]:
    """Return what joins items: where a GPU computes, it normalizes them, too."""
    return partial(dense_collate, mean=tuple(network.mean), std=tuple(network.std), packed=has_gpu())
