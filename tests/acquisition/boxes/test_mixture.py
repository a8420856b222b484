"""Mixtures: the fact sheet's vectors 1, 2 and 4, and the pool's z-score against the plain formula."""

import numpy as np
import pytest
import torch

from al_lab.acquisition.boxes.mixture import NOTHING, Moments, mixed, mixture_uncertainty


def test_a_coordinate_equals_the_golden_vector() -> None:
    weight = torch.tensor([0.0, 1, -1, 0]).softmax(0)
    mean, variance = torch.tensor([0.1, 0.3, -0.2, 0.5]), torch.tensor([-2.0, -1, 0, 1]).sigmoid()
    assert weight.tolist() == pytest.approx([0.196612, 0.534447, 0.072329, 0.196612], abs=1e-6)
    assert mixed(weight, mean).item() == pytest.approx(0.263835, abs=1e-6)
    found = mixture_uncertainty(weight, mean, variance)
    assert found.aleatoric.item() == pytest.approx(0.347071, abs=1e-6)
    assert found.epistemic.item() == pytest.approx(0.032503, abs=1e-6)


def test_classes_equal_the_golden_vector() -> None:
    weight = torch.tensor([0.5, -0.5]).softmax(0)
    assert weight.tolist() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    probs = torch.tensor([[2.0, 0, -1], [1, 1, 0]]).softmax(-1)
    variance = torch.tensor([[-1.0, 0, 1], [0, 0, 0]]).sigmoid()
    assert mixed(weight, probs.T).tolist() == pytest.approx([0.730442, 0.197062, 0.072495], abs=1e-6)
    found = mixture_uncertainty(weight, probs.T, variance.T)
    assert found.epistemic.tolist() == pytest.approx([0.034927, 0.018666, 0.002526], abs=1e-6)
    assert found.aleatoric.tolist() == pytest.approx([0.331083, 0.5, 0.668917], abs=1e-6)


def pool(*images: np.ndarray) -> Moments:
    return Moments(*(np.stack(values) for values in zip(*map(Moments.of, images), strict=True)))


def test_the_pools_z_score_equals_the_golden_vector() -> None:
    first = np.array([[0.2, 0.01, 0.3, 0.02], [0.4, 0.03, 0.1, 0]])
    second = np.array([[0.9, 0.02, 0.2, 0.05]])
    found = pool(first, second, np.zeros((0, 4))).z_scores()
    assert found.tolist() == pytest.approx([1.224745, 1.358732, NOTHING], abs=1e-6)
    of_kinds = [pool(first[:, [k]], second[:, [k]]).z_scores() for k in range(4)]
    assert np.stack(of_kinds, 1).tolist() == [
        pytest.approx([-0.339683, 1.224745, 1.224745, -0.162221], abs=1e-6),
        pytest.approx([1.358732, 0, 0, 1.297771], abs=1e-6),
    ]


def test_the_z_score_from_moments_is_the_one_over_all_detections() -> None:
    """Large means with small deviations: the sum of squares would lose them."""
    generator = np.random.default_rng(0)
    images = [1e6 + 1e-3 * generator.normal(size=(num, 4)) for num in (3, 1, 40, 7)]
    every = np.concatenate(images)
    plain = [((i.max(0) - every.mean(0)) / every.std(0)).max() for i in images]
    assert pool(*images).z_scores() == pytest.approx(plain, rel=1e-5)


def test_equal_values_have_z_0() -> None:
    assert pool(np.full((3, 4), 0.1), np.full((5, 4), 0.1)).z_scores().tolist() == [0, 0]


def test_a_pool_without_detections_has_finite_utilities() -> None:
    assert pool(np.zeros((0, 4)), np.zeros((0, 4))).z_scores().tolist() == [NOTHING, NOTHING]
