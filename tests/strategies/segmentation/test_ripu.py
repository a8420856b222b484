"""Vector T3 of the segmentation fact sheet, through the strategy."""

import dataclasses

import numpy as np
import pytest
import torch

from al_lab.acquisition.regions import window_mask
from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError
from al_lab.core.types import DenseView
from al_lab.strategies.segmentation.ripu import Ripu

LABELS = np.array([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 2, 2, 1, 1], [2, 2, 2, 2, 1], [2, 2, 2, 2, 3]])
# over ln 19
ENTROPY = np.array([[1, 1, 2, 1, 1], [1, 3, 4, 2, 1], [2, 5, 6, 3, 1], [1, 2, 3, 4, 5], [0, 1, 1, 4, 9]]) / 10


def t3_view(num_classes: int = 19) -> DenseView:
    """Probabilities with these predicted labels and entropies: one class has a, the others share the rest."""
    low, high = np.full(LABELS.shape, 1 / num_classes), np.ones(LABELS.shape)
    for _ in range(80):
        a = (low + high) / 2
        rest = np.maximum((1 - a) / (num_classes - 1), 1e-300)
        h = -(a * np.log(a) + (1 - a) * np.log(rest)) / np.log(num_classes)
        low, high = np.where(h > ENTROPY, a, low), np.where(h > ENTROPY, high, a)
    probs = np.broadcast_to((1 - a) / (num_classes - 1), (num_classes, *LABELS.shape)).copy()
    np.put_along_axis(probs, LABELS[None], a[None], 0)
    return DenseView("t3", (5, 5), torch.from_numpy(probs))


def test_t3_regions(context) -> None:
    picks = Ripu(ties="id").propose(t3_view(), context(2, unit="region"))
    assert picks.center.tolist() == [24, 7] and picks.radius_px == 1
    assert picks.utility == pytest.approx([0.194212, 0.108087], abs=1e-5)
    assert [picks.region_of(n).pixels.tolist() for n in (0, 1)] == [[18, 19, 23, 24], [1, 2, 3, 6, 7, 8, 11, 12, 13]]


def test_t3_in_the_next_cycle_only_two_centers_are_open(context) -> None:
    """Rows 0-3 and row 4 from column 2 on are closed; centers (4, 0) and (4, 1) exclude each other."""
    bought = window_mask(np.array([24, 7]), (5, 5), 1)
    later = Ripu(ties="id").propose(dataclasses.replace(t3_view(), bought=bought), context(9, unit="region"))
    assert len(later) == 1 and later.center[0] in (20, 21)


def test_t3_pixels(context) -> None:
    picks = Ripu(mode="pixel", k=1, ties="id").propose(t3_view(), context(4))
    # the last two tie
    assert picks.center[:2].tolist() == [24, 12] and set(picks.center[2:]) == {10, 2} and picks.radius_px == 0
    assert picks.utility / np.log(19) == pytest.approx([0.935746, 0.562131, 0.138629, 0.138629], abs=1e-5)


def test_a_pixel_budget_is_never_exceeded(context) -> None:
    """The first window costs 4, in its corner, the second 9."""
    assert [len(Ripu().propose(t3_view(), context(px))) for px in (9, 12, 13)] == [1, 1, 2]
    with pytest.raises(ConfigError, match=r"at least one region \(9 pixels\) an image and cycle, got 8 pixels"):
        Ripu().propose(t3_view(), context(8))


def test_radii_are_those_of_the_released_configs() -> None:
    assert [(s.k, s.radius_px) for s in (Ripu(), Ripu(mode="pixel"), Ripu(k=9))] == [(1, 1), (32, 0), (9, 9)]


def test_the_paper_uncertainty_of_pixels_is_the_windows(context) -> None:
    smoothed = Ripu(mode="pixel", k=1, window_mean=True, ties="id").propose(t3_view(), context(1))
    assert smoothed.utility[0] / np.log(19) == pytest.approx(0.194212 * np.log(19), abs=1e-5)


def test_equal_windows_are_chosen_by_seed(context) -> None:
    flat = DenseView("d", (40, 40), torch.full((3, 40, 40), 1 / 3))
    drawn = [Ripu().propose(flat, context(5, seed=s, unit="region")).center.tolist() for s in (0, 1)]
    assert drawn[0] != drawn[1]
    # down the leftmost column
    assert Ripu(ties="id").propose(flat, context(2, unit="region")).center.tolist() == [0, 3 * 40]


def test_broken_probabilities_are_named(context) -> None:
    with pytest.raises(ValueError, match="sample 'frame/7'"):
        Ripu().propose(DenseView("frame/7", (4, 4), torch.full((3, 4, 4), torch.nan)), context(1, unit="region"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "regions"}, "did you mean 'region'"),
        ({"k": 0}, "strategy.k: expected a whole number of pixels >= 1"),
        ({"k": 1.5}, "strategy.k"),
        ({"window_mean": True}, "mode=pixel"),
        ({"ties": "first"}, r"hash \| id"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ripu(**arguments)


@pytest.mark.parametrize(
    ("mode", "unit", "per_cycle", "pays"),
    [
        ("region", "pixel", 25, True),
        ("region", "pixel", 24, False),
        ("region", "pixel", 0.01, True),  # what a share pays is known for each image only
        ("region", "region", 1, True),
        ("pixel", "pixel", 1, True),
    ],
)
def test_a_budget_that_pays_no_region_is_refused(mode: str, unit: str, per_cycle: float, pays: bool) -> None:
    strategy, budget = Ripu(mode=mode, k=2), Budget(unit, 0, per_cycle, 1, "image")
    if pays:
        strategy.check_budget(budget)
    else:
        with pytest.raises(ConfigError, match="25 pixels"):
            strategy.check_budget(budget)
