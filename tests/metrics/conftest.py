"""Random test sets with every kind of trouble: empty images, difficult objects, crowds, equal confidences, shared
objects."""

from collections.abc import Callable

import numpy as np
import pytest

from al_lab.core.types import Annotation, Detections

World = tuple[dict[str, Detections], dict[str, Annotation]]


@pytest.fixture
def random_world() -> Callable[..., World]:
    def make(
        seed: int, num_images: int = 25, num_classes: int = 4, *, crowds: bool = False, ties: bool = False
    ) -> World:
        rng = np.random.default_rng(seed)
        predictions, truth = {}, {}
        for n in range(num_images):
            g = int(rng.integers(0, 7))
            corner = rng.uniform(0, 200, (g, 2))
            boxes = np.concatenate([corner, corner + rng.uniform(5, 150, (g, 2))], 1)
            labels = rng.integers(0, num_classes - 1, g)  # the last class has no object
            truth[f"i{n}"] = Annotation.make(
                boxes, labels, rng.random(g) < 0.2, (rng.random(g) < 0.2) if crowds else None
            )
            near = rng.integers(0, g, 2 * g) if g else np.zeros(0, int)
            stray = np.tile([[10, 10, 60, 60]], (3, 1)) + rng.uniform(0, 20, (3, 4))
            d_boxes = np.concatenate([boxes[near] + rng.normal(0, 8, (len(near), 4)), stray])
            right = rng.random(len(near)) < 0.8
            d_labels = np.concatenate(
                [np.where(right, labels[near], rng.integers(0, num_classes, len(near))), [0, 1, num_classes - 1]]
            )
            confidence = rng.random(len(d_labels)).astype(np.float32)
            if ties:
                confidence = np.round(confidence, 1)
            order = np.argsort(-confidence, kind="stable")
            predictions[f"i{n}"] = Detections(
                d_boxes[order].astype(np.float32),
                confidence[order],
                d_labels[order].astype(np.int64),
                confidence[order, None],
                "sigmoid",
            )
        return predictions, truth

    return make
