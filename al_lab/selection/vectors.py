"""Embeddings that ``embedding=…`` asks for beside predictions: a pretrained network's, or the means of objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from al_lab.config.build import build
from al_lab.config.embedding import EmbeddingSource, no_objects
from al_lab.data.predictions.table import Predictions


def with_embedding(config: Mapping[str, Any], dataset: Any, predictions: Predictions) -> Predictions:
    """Return the predictions with the embedding that is asked for; a file of vectors is among the arrays already.

    Args:
        config: ``embedding`` and ``runtime`` count.
        dataset: all its images but the test set's are looked at by a network.
        predictions: whose boxes have embeddings, where the means of objects are asked for.

    Raises:
        LabError: for a source that can't be had, in the words of a campaign.
    """
    source = EmbeddingSource.read(config.get("embedding"))
    if source is None or source.kind == "file":
        return predictions
    ids = [i for split, members in dataset.splits().items() if split != "test" for i in members]
    if source.kind == "objects":
        vectors, note = _means_of_objects(predictions, ids), "embeddings are the means of the boxes' own"
    else:
        source.check_file()
        vectors, note = _by_network(source, config["runtime"], dataset, ids), f"embedded by {source.backbone}"
    found = {i: n for n, i in enumerate(ids)}
    notes = (*predictions.notes, f"{len(ids):,} images: {note}")
    return replace(predictions, embedding=vectors, embedded=found, notes=notes)


def _by_network(source: EmbeddingSource, runtime: Mapping[str, Any], dataset: Any, ids: Sequence[str]) -> np.ndarray:
    # built by its name, as a campaign's jobs build it: torch is not needed for anything else here
    network = build(
        {"_target_": "al_lab.models.backbone.Backbone"},
        name=source.backbone,
        weights=source.weights,
        input_px=source.input_px,
        cache_dir=runtime.get("data_dir"),
        key="embedding",
    )
    size = int(runtime.get("predict_batch") or 16)
    parts = [network([dataset.load_image(i) for i in ids[n : n + size]]) for n in range(0, len(ids), size)]
    return np.concatenate(parts)


def _means_of_objects(predictions: Predictions, ids: Sequence[str]) -> np.ndarray:
    """Return (N, E): of each image the mean of its boxes' embeddings, weighted by confidence; zeros without boxes."""
    rows_AE = predictions.box_embedding
    if rows_AE is None:
        what = f"files that hold {' and '.join(predictions.provides) or 'nothing of it'}"
        raise no_objects("predictions with an array box_embedding (--arrays)", what)
    means_NE = np.zeros((len(ids), rows_AE.shape[1]), np.float32)
    for n, sample_id in enumerate(ids):
        rows = predictions.rows(sample_id)
        confidence = predictions.confidence[rows]
        if confidence.sum() > 0:
            means_NE[n] = (confidence[:, None] * rows_AE[rows]).sum(0) / confidence.sum()
    return means_NE
