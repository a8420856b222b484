"""Densities and greedy selections judged on one image: against loops over all pairs."""

import numpy as np
import pytest
import torch

from al_lab.core.rng import Rng
from al_lab.core.types import DenseView
from al_lab.metrics.coverage import coverage
from al_lab.stages.estimator import neighbor_rank, one_purchase, unit_features

HW = (10, 12)


@pytest.fixture
def view() -> DenseView:
    rng = np.random.default_rng(0)
    probs = torch.from_numpy(rng.dirichlet(np.ones(4), HW).transpose(2, 0, 1).copy())
    return DenseView("a", HW, probs, torch.from_numpy(rng.normal(size=(3, 5, 6))))


def test_one_purchase_is_alg_1_on_the_same_candidates(view):
    density_hw = torch.from_numpy(np.random.default_rng(1).uniform(0.2, 11, (5, 6)))
    count, pixels = 4, np.arange(np.prod(HW))
    found = one_purchase(view, pixels, count, density_hw)
    f = unit_features(view, pixels)
    top = view.probs.reshape(4, -1).sort(0, descending=True).values.numpy()
    keep = np.argsort(-(1 - top[0] + top[1]), kind="stable")[: 20 * count]
    full = (
        torch.nn.functional.interpolate(density_hw[None, None], HW, mode="bilinear", align_corners=True)
        .reshape(-1)
        .numpy()
    )
    for name, d in (("k_center", np.ones(len(full))), ("density", full)):
        picked = [keep[0]]
        while len(picked) < count:
            r = [min(((f[t] - f[k]) ** 2).sum() / d[k] for k in picked) if t not in picked else -1 for t in keep]
            picked.append(keep[int(np.argmax(r))])
        wanted = coverage(f, np.array(picked))
        assert found[name] == pytest.approx(
            {"radius": wanted.radius, "largest_radial": wanted.largest_radial, "mean_distance": wanted.mean_distance}
        )
    assert found["k_center"] != found["density"]


def test_neighbor_rank_says_whether_densities_have_the_true_order():
    angle = 2.5 * np.random.default_rng(0).random(200) ** 3  # the denser, the smaller
    features = torch.from_numpy(3 * np.stack([np.cos(angle), np.sin(angle)])).reshape(2, 10, 20)
    f = features.reshape(2, -1).T.numpy() / 3
    second = np.sort(np.linalg.norm(f[:, None] - f, axis=2), axis=1)[:, 2]  # 1 % of 200 are two others
    density = torch.from_numpy(1 / second).reshape(10, 20)
    assert neighbor_rank(features, density, Rng(0)) > 0.99
    assert neighbor_rank(features, 1 / density, Rng(0)) < -0.99
    assert neighbor_rank(features, torch.ones(10, 20), Rng(0)) is None
    assert neighbor_rank(torch.ones(2, 10, 20), density, Rng(0)) is None
