"""Means over segments."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from al_lab.acquisition.segments.means import feature_means, open_segments, segment_means


def test_a_mean_over_pixels_then_its_class() -> None:
    """V5 of D2ADA: the class of a region is that of its mean, not of most of its pixels."""
    rows = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.45, 0.3, 0.25]])
    mean = segment_means(rows.T.reshape(3, 2, 2), np.zeros((2, 2), np.int16))
    assert mean[0].tolist() == pytest.approx([0.4375, 0.4, 0.1625])
    assert rows.argmax(1).tolist() == [0, 1, 0, 0] and int(mean[0].argmax()) == 0


@pytest.mark.parametrize("cells", [(5, 7), (20, 31), (1, 1)])
def test_means_of_features_are_those_of_upsampled_ones(cells: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    segments = rng.integers(0, 6, (20, 31)).astype(np.int16)
    features = torch.from_numpy(rng.normal(size=(4, *cells)))
    large = F.interpolate(features[None], (20, 31), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(feature_means(features, segments), segment_means(large, segments), atol=1e-12)


def test_segments_with_a_bought_pixel_are_closed() -> None:
    segments = np.array([[0, 0, 1], [2, 2, 1]], np.int16)
    bought = np.zeros((2, 3), bool)
    bought[0, 2] = True
    assert open_segments(segments, None).tolist() == [0, 1, 2]
    assert open_segments(segments, bought).tolist() == [0, 2]
