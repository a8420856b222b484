"""How unsure a detector is of the images that were chosen, and of those that entropy would have chosen.

MGRAL, Fig. 4: the images of the first query beside the four of the largest mean entropy and of the largest sum. Only
the report reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_lab.acquisition.uncertainty import binary_entropy, entropy
from al_lab.core.files import write_json
from al_lab.core.stage import StageContext
from al_lab.core.types import Candidates, Detections

#: of `Candidates.info`: over an image's boxes, nats; 0 for an image without any
NAMES = ("mean_entropy", "sum_entropy")
# UNSPECIFIED. Fig. 4 has a mean of 2.61 nats: a box of 20 classes and background at .5 has 2.19 at most, at .3 2.71.
MIN_CONFIDENCE = 0.3
_SHOWN = 4  # as in the figure


def box_entropies(found: Detections) -> torch.Tensor:
    """Return the entropy of each box, (D,), nats: of its class distribution, or of its class against none."""
    if found.activation == "sigmoid":
        return binary_entropy(torch.from_numpy(found.confidence))
    return entropy(torch.from_numpy(found.probs))


def image_entropies(found: Detections) -> dict[str, np.ndarray]:
    """Return mean and sum (`NAMES`) over the boxes of an image that count, (1,) each."""
    values = box_entropies(found.above(MIN_CONFIDENCE)).double()
    numbers = (float(values.mean()), float(values.sum())) if len(values) else (0.0, 0.0)
    return {name: np.array([value]) for name, value in zip(NAMES, numbers, strict=True)}


def path(cycle_dir: Path) -> Path:
    """Return where the images lie that entropy would have chosen."""
    return cycle_dir / "entropies.json"


def write_most_unsure(ctx: StageContext, candidates: Candidates) -> None:
    """Write which images have the largest mean and the largest sum, if anybody looked."""
    if not set(NAMES) <= set(candidates.info):
        return
    open_ids = set(ctx.pool.unlabeled())
    rows = np.array([n for n, i in enumerate(candidates.sample_ids) if i in open_ids], np.int64)
    write_json(
        path(ctx.cycle_dir),
        {
            "min_confidence": MIN_CONFIDENCE,
            "largest": {name: _largest(ctx, candidates, candidates.info, rows, name) for name in NAMES},
        },
    )


def _largest(
    ctx: StageContext, candidates: Candidates, info: Mapping[str, np.ndarray], rows: np.ndarray, name: str
) -> list[dict[str, Any]]:
    best = rows[np.argsort(-np.asarray(info[name], float)[rows], kind="stable")][:_SHOWN]
    ids = [candidates.sample_ids[n] for n in best]
    return [{"id": i, "image": str(ctx.dataset.image_path(i))} for i in ids]
