"""Numbers of whole images that a branch gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from al_lab.learners.readouts.look import Look


def predicted_loss(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``predicted_loss`` () float32 of each image, see `LearningLossBranch`."""
    return [{"predicted_loss": value} for value in look.head.extra["predicted_loss"][:, 0].float().cpu().numpy()]
