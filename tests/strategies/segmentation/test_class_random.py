"""Class-balanced random."""

import numpy as np
import pytest
import torch

from al_lab.core.budget import Allowance
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import Candidates, DenseView
from al_lab.strategies.segmentation.class_random import ClassRandom

IDS = tuple(f"img/{k:03d}" for k in range(100))


def view_of(label_HW: np.ndarray, sample_id: str) -> DenseView:
    probs = torch.nn.functional.one_hot(torch.from_numpy(label_HW).long(), 3).permute(2, 0, 1).float()
    segments = np.arange(label_HW.size, dtype=np.int16).reshape(label_HW.shape)
    return DenseView(sample_id, label_HW.shape, probs, segments=segments)


def chosen(unit: str, labels: list[np.ndarray], amount: int, per_image: bool) -> list[int]:
    """The predicted classes of what is bought."""
    strategy = ClassRandom(radius_px=0)
    views = [view_of(label_HW, i) for label_HW, i in zip(labels, IDS, strict=False)]
    quota = None if unit == "image" else amount
    found = Candidates.concat(
        [strategy.propose(v, ProposeContext(quota, unit, rng_for(0, 0, "s").child(v.sample_id))) for v in views]
    ).with_maps(lambda i: views[IDS.index(i)].segments)
    queries = strategy.select(found, Pool(IDS[: len(views)]), Allowance(unit, amount, per_image), rng_for(0, 0, "x"))
    at = {v.sample_id: label_HW.reshape(-1) for v, label_HW in zip(views, labels, strict=True)}
    return [c for q in queries for c in at[q.sample_id][slice(None) if q.region is None else q.region.pixels].tolist()]


@pytest.mark.parametrize("unit", ["pixel", "region", "segment"])
def test_every_class_has_its_share(unit: str) -> None:
    label_HW = np.zeros((40, 60), np.int64)
    label_HW[:4], label_HW[4:6] = 1, 2  # 84 %, 10 %, 5 %
    counts = np.bincount(chosen(unit, [label_HW], 60, per_image=unit != "segment"), minlength=3)
    assert counts.sum() == 60 and counts.min() >= 10


def test_images_of_a_rare_class_are_bought_more_often() -> None:
    labels = [np.full((2, 2), int(k % 10 == 0)) for k in range(100)]
    counts = np.bincount(chosen("image", labels, 10, per_image=False)) / 4
    assert counts.sum() == 10 and counts[1] >= 3  # plain chance: one of ten
