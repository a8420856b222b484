"""What commands open that choose or judge: the images, embeddings, and the words of their options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_lab.config.build import build
from al_lab.config.embedding import EmbeddingSource
from al_lab.core.errors import DataError
from al_lab.core.fields import share, written
from al_lab.data.near_vectors import Cosine
from al_lab.data.predictions.read import PredictionFiles


def open_images(node: Mapping[str, Any], files: PredictionFiles) -> Any:
    """Open the dataset; photographs that nobody named classes for have those of the predictions."""
    try:
        return build(node)
    except DataError:
        names = files.class_names()
        if "classes" not in node or node["classes"] or not names:
            raise
        return build({**node, "classes": list(names)})


def vector_files(config: Mapping[str, Any]) -> list[Path]:
    """Return the file of ``embedding=vectors.npz``; what else it may be, `with_embedding` reads.

    Raises:
        LabError: if it is not there.
    """
    source = EmbeddingSource.read(config.get("embedding"))
    if source is None or source.kind != "file":
        return []
    source.check_file()
    return [Path(source.path).expanduser()]


def near_cosine_of(word: str) -> Cosine:
    """Return from which cosine on images are near copies, as ``--near-cosine`` says it.

    Raises:
        ConfigError: for a word that is no number.
    """
    if word == "off":
        return None
    return word if word == "auto" else written(share)(word, "--near-cosine", do="e.g. --near-cosine 0.98, auto or off")
