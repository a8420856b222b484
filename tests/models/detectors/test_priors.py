"""SSD300's default boxes, number for number (fact sheet M-9)."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.models.detectors.priors import SSD300_COCO, SSD300_VOC, even_priors, priors_from_corners, ssd_priors


@pytest.mark.parametrize(("spec", "total"), [(SSD300_VOC, 11906.589237), (SSD300_COCO, 11230.228671)])
def test_count_and_sum(spec, total) -> None:
    priors = ssd_priors(spec)
    assert priors.shape == (8732, 4)
    assert priors.double().sum().item() == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (0, [0.01333333, 0.01333333, 0.1, 0.1]),
        (1, [0.01333333, 0.01333333, 0.14142136, 0.14142136]),
        (2, [0.01333333, 0.01333333, 0.14142136, 0.07071068]),
        (5776, [0.02666667, 0.02666667, 0.2, 0.2]),
        (5777, [0.02666667, 0.02666667, 0.27202941, 0.27202941]),
        (5780, [0.02666667, 0.02666667, 0.34641016, 0.11547005]),
        (8729, [0.5, 0.5, 0.96124919, 0.96124919]),
        (8730, [0.5, 0.5, 1.0, 0.62225397]),
    ],
)
def test_voc_rows(row: int, expected: list[float]) -> None:
    torch.testing.assert_close(ssd_priors(SSD300_VOC)[row], torch.tensor(expected))


@pytest.mark.parametrize(
    ("row", "side"), [(0, 0.07), (1, 0.10246951), (5777, 0.22248595), (8728, 0.87), (8729, 0.95577194)]
)
def test_coco_sides(row: int, side: float) -> None:
    torch.testing.assert_close(ssd_priors(SSD300_COCO)[row, 2:], torch.tensor([side, side]))


def test_clipping_changes_the_published_entries_only() -> None:
    changed = ssd_priors(SSD300_VOC) != ssd_priors(SSD300_VOC, clip=False)
    assert changed.sum(0).tolist() == [60, 60, 10, 10]
    assert changed.any(1).sum().item() == 134


def test_even_priors_tile_the_input() -> None:
    priors = even_priors([(2, 4), (1, 1)], [0.1, 0.5, 0.9], [[2.0], []])
    assert priors.shape == (2 * 4 * 4 + 2, 4)
    assert priors[0, :2].tolist() == [0.125, 0.25]
    assert priors[-1, :2].tolist() == [0.5, 0.5]


def test_even_priors_need_one_entry_a_level() -> None:
    with pytest.raises(ConfigError, match="2 anchor sizes and 1 lists of ratios"):
        even_priors([(2, 2)], [0.1, 0.5, 0.9], [[2.0]])


def test_corners_in_pixels_become_centers_in_fractions() -> None:
    priors = priors_from_corners(torch.tensor([[0.0, 10.0, 20.0, 30.0]]), (40, 80))
    torch.testing.assert_close(priors, torch.tensor([[0.125, 0.5, 0.25, 0.5]]))
