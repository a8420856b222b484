"""Loaders of training and prediction batches; labels come from a dict of what was bought, never from the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
from al_lab.data.loading.batch import Batch, Item, Kind, PackedBatch, collate
from al_lab.data.loading.byte_cache import ByteCache, kept
from al_lab.data.loading.sampler import Draw, StepSampler
from al_lab.data.transforms.detection import Augmentation, InputSpec, plain
from al_lab.data.transforms.picture import resized

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
        """Read and augment one image."""
        image = self._dataset.load_image(draw.sample_id)
        boxes, labels, kind = self._objects(draw.sample_id)
        if self._augmentation is None:
            found = plain(image, boxes, labels, self._spec)
        else:
            generator = self._rng.generator(draw.step, draw.sample_id, draw.copy)
            found = self._augmentation(image, boxes, labels, generator, self._spec)
        return Item(found.pixels, found.rest, draw.sample_id, found.boxes, found.labels, image.shape[:2], kind)

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
    """Images as prediction sees them: resized, without boxes."""

    def __init__(self, dataset: Dataset, ids: Sequence[str], spec: InputSpec, cache: ByteCache | None = None) -> None:
        """Hold the ids; ``cache`` keeps what is resized."""
        self._dataset, self._ids, self._spec, self._cache = dataset, tuple(ids), spec, cache

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Item:
        """Read one image."""
        dataset, spec, sample_id, sizes = self._dataset, self._spec, self._ids[row], list[tuple[int, int]]()

        def make() -> tuple[np.ndarray, int]:
            image = dataset.load_image(sample_id)
            sizes.append((image.shape[0], image.shape[1]))
            found = plain(image, _NO_BOXES, _NO_LABELS, spec)
            pixels = resized(found.pixels, found.rest.input_hw).permute(1, 2, 0)
            return np.ascontiguousarray(pixels.numpy()), sizes[0][0] * sizes[0][1]

        how = f"bilinear {spec.hw} {spec.resize}"
        image_u8 = kept(self._cache, lambda: dataset.image_path(sample_id), how, make)
        found = plain(image_u8, _NO_BOXES, _NO_LABELS, replace(spec, hw=image_u8.shape[:2], resize="fixed"))
        size_hw = sizes[0] if sizes else dataset.size_hw(sample_id)
        return Item(found.pixels, found.rest, sample_id, found.boxes, found.labels, size_hw, Kind.UNLABELED)


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
    total_steps: int | None = None,
    rank: int = 0,
    world: int = 1,
    num_workers: int = 0,
    pseudo: Mapping[str, Annotation] | None = None,
) -> DataLoader:
    """Return a loader of one batch per step from ``first_step`` to ``stop_step - 1``.

    What it yields becomes a `Batch` by its method ``to``: on a machine with a GPU images are bytes until then.

    Args:
        dataset: where images come from.
        annotations: bought labels of the ``labeled`` ids.
        network: read for its input size, mean and std.
        labeled: ids to train on.
        unlabeled: ids whose images alone are used, if the objective asks for them.
        settings: read for batch_size (all images of a step), augmentation and (if it has one) drop_difficult.
        objective: its attributes ``labeled_ratio`` (default 1) and ``shuffle_places`` (default False) say which part of
            a batch is labeled, and whether labeled places lie anywhere in it; with ``draws_as_many`` only as many of
            the unlabeled images are used as there are labeled ones, drawn once; its ``labeled_only(step,
            total_steps)`` names steps at which no unlabeled image need be read.
        seed: of the training.
        first_step: where to begin or go on.
        stop_step: where to stop.
        total_steps: of the whole training; None: ``stop_step``.
        rank: of this device.
        world: number of devices, which share the one global batch.
        num_workers: loader processes; 0 loads in this one. The batches are the same.
        pseudo: labels a model made, for ids among ``unlabeled``.

    Raises:
        DataError: if a labeled id has no annotation.
        ConfigError: if the batch can't be shared by ``world`` devices.
    """
    _check_bought(labeled, annotations, dataset.name)
    if getattr(objective, "draws_as_many", False):
        order, by_id = Rng(seed, "unlabeled").generator().permutation(len(unlabeled)), sorted(unlabeled)
        unlabeled = [by_id[k] for k in order[: len(labeled)]]
    ratio = float(getattr(objective, "labeled_ratio", 1.0))
    count = labeled_count(settings.batch_size, ratio) if unlabeled else settings.batch_size
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
        labeled_only=_labeled_only(objective, stop_step if total_steps is None else total_steps),
        rank=rank,
        world=world,
    )
    drop_difficult = bool(getattr(settings, "drop_difficult", True))
    images = TrainImages(dataset, annotations, settings.augmentation, spec, seed, drop_difficult, pseudo)
    return loader(images, _joined(spec), num_workers, batch_sampler=sampler)


def _check_bought(labeled: Sequence[str], annotations: Mapping[str, Annotation], name: str) -> None:
    missing = [i for i in labeled if i not in annotations]
    if missing:
        raise DataError(
            explain(
                expected="a bought annotation for each labeled image",
                got=f"{len(missing)} without, first {missing[0]!r}",
                where=f"training on {name}",
                do="restore the run folder's labels",
            )
        )


def _labeled_only(objective: Any, total_steps: int) -> Callable[[int], bool] | None:
    named = getattr(objective, "labeled_only", None)
    return None if named is None else partial(named, total_steps=total_steps)


def has_gpu() -> bool:
    """Say whether networks of this process compute on a GPU."""
    return torch.cuda.is_available()


def _joined(spec: InputSpec) -> Callable[[list[Item]], Batch | PackedBatch]:
    """Return what joins items: where a GPU computes, it finishes the images, too."""
    return partial(collate, spec=spec, packed=has_gpu())


def labeled_count(batch_size: int, labeled_ratio: float) -> int:
    """Return how many images of a batch are labeled: at least one."""
    return max(1, round(batch_size * labeled_ratio))


def predict_batches(
    dataset: Dataset,
    ids: Sequence[str],
    *,
    network: Any,
    batch_size: int,
    num_workers: int = 0,
    cache: ByteCache | None = None,
) -> DataLoader:
    """Return a loader over ``ids`` in their order, in chunks of ``batch_size``; ``cache`` keeps what is resized."""
    spec = InputSpec.of(network)
    images = PlainImages(dataset, ids, spec, cache)
    return loader(images, _joined(spec), num_workers, batch_size=batch_size, shuffle=False)


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
    return loader(images, _joined(spec), num_workers, batch_sampler=chunks)


def loader(
    images: TorchDataset[Any], collate_fn: Callable[[list[Any]], Any], num_workers: int, **kwargs: Any
) -> DataLoader:
    """Return a loader that takes no draw from torch's global generator, and starts no process without a batch.

    DataLoader's own would, to seed its workers.
    """
    sampler = kwargs.get("batch_sampler")
    batches = -(-len(images) // kwargs["batch_size"]) if sampler is None else len(sampler)  # type: ignore[arg-type]
    return DataLoader(
        images,
        num_workers=min(num_workers, batches),
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
        **kwargs,
    )
