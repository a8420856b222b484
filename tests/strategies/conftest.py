"""Views to propose from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from al_lab.core.rng import rng_for
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import DenseView, Detections, ImageView


@pytest.fixture
def image_view() -> Callable[..., ImageView]:
    """Boxes with these class distributions; the confidence is the largest of the foreground unless given."""

    def make(
        probs: list, activation: str = "softmax", confidence: list[float] | None = None, sample_id: str = "a"
    ) -> ImageView:
        p = np.array(probs, np.float32).reshape(len(probs), -1)
        foreground = p[:, 1:] if activation == "softmax" else p
        c = foreground.max(1) if confidence is None else np.array(confidence, np.float32)
        return ImageView(
            sample_id, (9, 9), Detections(np.zeros((len(p), 4), np.float32), c, foreground.argmax(1), p, activation)
        )

    return make


@pytest.fixture
def dense_view() -> DenseView:
    """2x2 pixels, 3 classes; least sure to surest: pixel 2, 0, 3, 1."""
    p = torch.tensor([[0.5, 0.4, 0.1], [1, 0, 0], [0.35, 0.35, 0.3], [0.7, 0.2, 0.1]])
    return DenseView("d", (2, 2), p.T.reshape(3, 2, 2))


@pytest.fixture
def context() -> Callable[..., ProposeContext]:
    def make(
        quota: int | None = None, seed: int = 0, sample_id: str = "a", unit: str = "pixel", share: float = 0.0
    ) -> ProposeContext:
        return ProposeContext(
            quota, "image" if quota is None else unit, rng_for(seed, 0, "score").child(sample_id), share=share
        )

    return make
