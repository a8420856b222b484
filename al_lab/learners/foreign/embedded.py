"""Embeddings from elsewhere, in the place of the learner's own: a file's, a pretrained network's, or objects' means."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from al_lab.config.embedding import EmbeddingSource, no_objects
from al_lab.core.types import DenseView, ImageView
from al_lab.data.predictions.vectors import FileVectors
from al_lab.learners.base import FitTask, Learner

_IMAGE, _BOX = "image_embedding", "box_embedding"


class Vectors(Protocol):
    """Gives images their vectors."""

    def of(self, ids: Sequence[str], images: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Return (N, E) float32; ``images`` spares reading them again."""


class BackboneVectors:
    """The features of a pretrained classifier."""

    def __init__(self, source: EmbeddingSource, dataset: Any, cache_dir: str | None) -> None:
        from al_lab.models.backbone import Backbone  # noqa: PLC0415 - imports torch

        self.dataset = dataset
        self.backbone = Backbone(source.backbone, source.weights, source.input_px, cache_dir, "embedding")

    def of(self, ids: Sequence[str], images: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Return (N, E) float32."""
        return self.backbone([self.dataset.load_image(i) for i in ids] if images is None else images)


def vectors_of(source: EmbeddingSource, dataset: Any, cache_dir: str | None) -> Vectors | None:
    """Return what gives images their vectors; None for the means of objects, which a learner has to find."""
    if source.kind == "objects":
        return None
    return FileVectors(source.path, dataset) if source.kind == "file" else BackboneVectors(source, dataset, cache_dir)


class Embedded(Learner):
    """A learner whose ``image_embedding`` comes from elsewhere; everything else is its own.

    Args:
        learner: any.
        vectors: gives them; None: the mean of its box embeddings, weighted by confidence, and zeros where it finds
            nothing.
        batch: images at once.
    """

    def __init__(self, learner: Learner, vectors: Vectors | None, batch: int) -> None:
        self.learner, self.vectors, self.batch = learner, vectors, batch
        if vectors is None and _BOX not in learner.provides:
            got = f"one that provides {', '.join(learner.provides)}"
            raise no_objects("a detector that provides box_embedding", got)

    @property
    def provides(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the learner provides, and an image embedding."""
        return tuple(dict.fromkeys((*self.learner.provides, _IMAGE)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def fit(self, task: FitTask) -> dict[str, float]:
        """See `Learner.fit`."""
        return self.learner.fit(task)

    def load(self, checkpoint: Path) -> None:
        """See `Learner.load`."""
        self.learner.load(checkpoint)

    def views(
        self, ids: Sequence[str], needs: Sequence[str], options: Mapping[str, Any] | None = None
    ) -> Iterator[ImageView | DenseView]:
        """See `Learner.views`."""
        others = [w for w in needs if w != _IMAGE]
        if len(others) == len(needs):
            return self.learner.views(ids, needs, *([options] if options else []))
        if self.vectors is None:
            others = list(dict.fromkeys((*others, "class_probs", _BOX)))
        given = self.learner.views(ids, others, *([options] if options else []))
        return self._with_vectors(ids, given)

    def _with_vectors(
        self, ids: Sequence[str], views: Iterator[ImageView | DenseView]
    ) -> Iterator[ImageView | DenseView]:
        block = np.zeros((0, 0), np.float32)
        for n, view in enumerate(views):
            if self.vectors is None:
                vector = _mean_of_objects(view)
            else:
                if n % self.batch == 0:
                    block = self.vectors.of(ids[n : n + self.batch])
                vector = block[n % self.batch]
            yield dataclasses.replace(view, embedding=vector)


def _mean_of_objects(view: Any) -> np.ndarray:
    rows, confidence = view.extras[_BOX], view.detections.confidence
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    return np.asarray((confidence[:, None] * rows).sum(0) / confidence.sum(), np.float32)


def with_embedding(learner: Learner, config: Mapping[str, Any], dataset: Any) -> Learner:
    """Return the learner with the embedding that the configuration asks for.

    Raises:
        LabError: for a source that can't be had.
    """
    source = EmbeddingSource.read(config.get("embedding"))
    if source is None:
        return learner
    runtime = config.get("runtime") or {}
    vectors = vectors_of(source, dataset, runtime.get("data_dir"))
    return Embedded(learner, vectors, int(runtime.get("predict_batch") or 16))
