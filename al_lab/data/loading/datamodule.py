"""Loaders of training and prediction batches; labels come from a dict of what was bought, never from the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from al_lab.core.errors import DataError, explain
from al_lab.core.rng import Rng
from al_lab.core.types import Annotation
from al_lab.data.datasets.dataset import Dataset
from al_lab.data.loading.batch import Item, Kind, collate
from al_lab.data.loading.sampler import Draw, StepSampler
from al_lab.data.transforms.detection import Augmentation, InputSpec, plain

_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_LABELS = np.zeros(0, np.int64)


class TrainImages(TorchDataset[Item]):
    """Augmented images with the boxes that were bought; an item is a pure function of (seed, draw)."""

    def __init__(
        self,
        dataset: Dataset,
        annotations: Mapping[str, Annotation],
        augmentation: Augmentation | None,
        spec: InputSpec,
        seed: int,
        drop_difficult: bool = True,
        pseudo: Mapping[str, Annotation] | None = None,
    ) -> None:
        """Hold what an item is made of.

        Args:
            dataset: where images come from.
            annotations: bought labels by id; an image without an entry here or in ``pseudo`` is unlabeled.
            augmentation: the recipe; None resizes only.
            spec: what the network wants.
            seed: of the training.
            drop_difficult: leave out objects flagged difficult. Crowds are always left out.
            pseudo: labels a model made.
        """
        self._dataset, self._annotations, self._pseudo = dataset, annotations, pseudo or {}
        self._augmentation, self._spec = augmentation, spec
        self._rng = Rng(seed, "augment")
        self._drop_difficult = drop_difficult

    def __getitem__(self, draw: Draw) -> Item:
        """Read, augment and normalize one image."""
        image = self._dataset.load_image(draw.sample_id)
        boxes, labels, kind = self._objects(draw.sample_id)
        if self._augmentation is None:
            pixels, boxes_t, labels_t = plain(image, boxes, labels, self._spec)
        else:
            generator = self._rng.generator(draw.step, draw.sample_id, draw.copy)
            pixels, boxes_t, labels_t = self._augmentation(image, boxes, labels, generator, self._spec)
        return Item(pixels, draw.sample_id, boxes_t, labels_t, image.shape[:2], kind)

    def _objects(self, sample_id: str) -> tuple[np.ndarray, np.ndarray, Kind]:
        annotation = self._annotations.get(sample_id)
        kind = Kind.LABELED
        if annotation is None:
            annotation, kind = self._pseudo.get(sample_id), Kind.PSEUDO
        if annotation is None:
            return _NO_BOXES, _NO_LABELS, Kind.UNLABELED
        keep = ~annotation.crowd
        if self._drop_difficult:
            keep &= ~annotation.difficult
        return annotation.boxes_xyxy[keep], annotation.labels[keep], kind


class PlainImages(TorchDataset[Item]):
    """Images as prediction sees them: resized and normalized, without boxes."""

    def __init__(self, dataset: Dataset, ids: Sequence[str], spec: InputSpec) -> None:
        """Hold the ids."""
        self._dataset, self._ids, self._spec = dataset, tuple(ids), spec

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Item:
        """Read one image."""
        sample_id = self._ids[row]
        image = self._dataset.load_image(sample_id)
        pixels, boxes, labels = plain(image, _NO_BOXES, _NO_LABELS, self._spec)
        return Item(pixels, sample_id, boxes, labels, image.shape[:2], Kind.UNLABELED)


def train_batches(
    dataset: Dataset,
    annotations: Mapping[str, Annotation],
    *,
    network: Any,
    labeled: Sequence[str],
    unlabeled: Sequence[str] = (),
    settings: Any,
    objective: Any = None,
    seed: int,
    first_step: int,
    stop_step: int,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    pseudo: Mapping[str, Annotation] | None = None,
) -> DataLoader:
    """Return a loader of one `Batch` per step from ``first_step`` to ``stop_step - 1``.

    Args:
        dataset: where images come from.
        annotations: bought labels of the ``labeled`` ids.
        network: read for its input size, mean and std.
        labeled: ids to train on.
        unlabeled: ids whose images alone are used, if the objective asks for them.
        settings: read for batch_size (all images of a step), augmentation and (if it has one) drop_difficult.
        objective: its attributes ``labeled_ratio`` (default 1) and ``shuffle_places`` (default False) say which part of
            a batch is labeled, and whether labeled places lie anywhere in it.
        seed: of the training.
        first_step: where to begin or go on.
        stop_step: where to stop.
        rank: of this device.
        world: number of devices, which share the one global batch.
        num_workers: loader processes; 0 loads in this one. The batches are the same.
        pseudo: labels a model made, for ids among ``unlabeled``.

    Raises:
        DataError: if a labeled id has no annotation.
        ConfigError: if the batch can't be shared by ``world`` devices.
    """
    missing = [i for i in labeled if i not in annotations]
    if missing:
        raise DataError(
            explain(
                expected="a bought annotation for each labeled image",
                got=f"{len(missing)} without, first {missing[0]!r}",
                where=f"training on {dataset.name}",
                do="restore the run folder's labels",
            )
        )
    count = (
        labeled_count(settings.batch_size, float(getattr(objective, "labeled_ratio", 1.0)))
        if unlabeled
        else settings.batch_size
    )
    spec = InputSpec.of(network)
    sampler = StepSampler(
        labeled,
        count,
        seed=seed,
        stop_step=stop_step,
        first_step=first_step,
        unlabeled=unlabeled,
        unlabeled_per_batch=settings.batch_size - count,
        shuffle_places=bool(getattr(objective, "shuffle_places", False)),
        rank=rank,
        world=world,
    )
    drop_difficult = bool(getattr(settings, "drop_difficult", True))
    images = TrainImages(dataset, annotations, settings.augmentation, spec, seed, drop_difficult, pseudo)
    return loader(images, partial(collate, pad_to=spec.pad_divisor), num_workers, batch_sampler=sampler)


def labeled_count(batch_size: int, labeled_ratio: float) -> int:
    """Return how many images of a batch are labeled: at least one."""
    return max(1, round(batch_size * labeled_ratio))


def predict_batches(
    dataset: Dataset, ids: Sequence[str], *, network: Any, batch_size: int, num_workers: int = 0
) -> DataLoader:
    """Return a loader over ``ids`` in their order, in chunks of ``batch_size``."""
    spec = InputSpec.of(network)
    images = PlainImages(dataset, ids, spec)
    return loader(images, partial(collate, pad_to=spec.pad_divisor), num_workers, batch_size=batch_size, shuffle=False)


def labeled_batches(
    dataset: Dataset,
    annotations: Mapping[str, Annotation],
    *,
    network: Any,
    batch_size: int,
    num_workers: int = 0,
    drop_difficult: bool = True,
) -> DataLoader:
    """Return a loader over annotated images in their order, as `predict_batches` sees them, with their boxes."""
    spec = InputSpec.of(network)
    images = TrainImages(dataset, annotations, None, spec, 0, drop_difficult)
    draws = [Draw(0, i, 0) for i in annotations]
    chunks = [draws[k : k + batch_size] for k in range(0, len(draws), batch_size)]
    return loader(images, partial(collate, pad_to=spec.pad_divisor), num_workers, batch_sampler=chunks)


def loader(
    images: TorchDataset[Any], collate_fn: Callable[[list[Any]], Any], num_workers: int, **kwargs: Any
) -> DataLoader:
    """Return a loader that takes no draw from torch's global generator.

    DataLoader's own would, to seed its workers.
    """
    return DataLoader(
        images,
        num_workers=num_workers,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
        **kwargs,
    )
