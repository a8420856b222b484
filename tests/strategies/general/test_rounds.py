"""What five purchases in one image promise, whatever is bought: properties of section 14 of the segmentation fact
sheet."""

import dataclasses

import numpy as np
import pytest
import torch

from al_lab.config.checks import check_fields
from al_lab.config.parts import Parts
from al_lab.core.budget import Budget
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng, rng_for
from al_lab.core.strategy import ProposeContext, Strategy, take_best
from al_lab.core.types import Candidates, DenseView
from al_lab.strategies.general.core_set import CoreSet
from al_lab.strategies.general.entropy import Entropy
from al_lab.strategies.general.least_confidence import LeastConfidence
from al_lab.strategies.general.margin import Margin
from al_lab.strategies.general.random import Random
from al_lab.strategies.segmentation.density import Density
from al_lab.strategies.segmentation.ripu import Ripu
from tests.stubs import stub_config

SIZE_HW = (48, 64)
REGIONS: list[Strategy] = [Ripu(), Ripu(k=2), Random(), Random(radius_px=2), Entropy(), LeastConfidence(), Margin()]
PIXELS: list[Strategy] = [
    Density(),
    Density(scale="robust"),
    CoreSet(),
    Ripu(mode="pixel", k=2),
    Random(),
    Entropy(),
    LeastConfidence(),
    Margin(),
]


def name(strategy: object) -> str:
    return type(strategy).__name__ if isinstance(strategy, Strategy) else str(strategy)


def views_of_five_cycles() -> list[DenseView]:
    """A model that changes a little from cycle to cycle."""
    g = torch.Generator().manual_seed(1)
    logits, features = torch.randn(5, *SIZE_HW, generator=g), torch.randn(8, 12, 16, generator=g)
    return [
        DenseView(
            "frame",
            SIZE_HW,
            (logits + 0.3 * torch.randn(5, *SIZE_HW, generator=g)).mul(2).softmax(0),
            features + 0.3 * torch.randn(8, 12, 16, generator=g),
            {"error": torch.rand(12, 16, generator=g)},
        )
        for _ in range(5)
    ]


def buy(strategy: Strategy, budget: Budget) -> list[Candidates]:
    """What is bought in each cycle, as candidates in the order of the strategy, after the budget took its part."""
    bought, cycles = None, []
    for cycle, view in enumerate(views_of_five_cycles()):
        allowance = budget.allowance(cycle, 1)
        quota = allowance.in_image(SIZE_HW, strategy.radius_px)
        view = dataclasses.replace(view, bought=bought)
        proposed = strategy.propose(
            view, ProposeContext(quota, budget.unit, Rng(0, cycle, "score", "frame"), share=budget.share_of(SIZE_HW))
        )
        (query,) = strategy.select(proposed, Pool(("frame",)), allowance, rng_for(0, cycle, "select"))
        allowance.check([query], "test")
        mask = query.region.mask()
        assert bought is None or not (bought & mask).any()
        # nothing lost, no two overlap
        assert sum(len(proposed.region_of(n)) for n in range(len(proposed))) == mask.sum()
        bought = mask if bought is None else bought | mask
        cycles.append(proposed)
    return cycles


@pytest.mark.parametrize("strategy", PIXELS, ids=name)
def test_five_cycles_buy_five_times_the_pixels(strategy: Strategy) -> None:
    cycles = buy(strategy, Budget("pixel", 0, 0.006, 5, "image"))
    assert [len(c) for c in cycles] == [19] * 5
    assert len(np.unique(np.concatenate([c.center for c in cycles]))) == 95


@pytest.mark.parametrize("strategy", REGIONS, ids=name)
def test_windows_of_five_cycles_never_overlap(strategy: Strategy) -> None:
    cycles = buy(strategy, Budget("region", 0, 6, 5, "image"))
    center = np.stack(np.divmod(np.concatenate([c.center for c in cycles]), SIZE_HW[1]), 1)
    assert [len(c) for c in cycles] == [6] * 5 and {c.radius_px for c in cycles} == {strategy.radius_px}
    apart = np.abs(center[:, None] - center).max(2) + np.eye(30) * 99
    assert apart.min() > 2 * strategy.radius_px


def test_pixels_of_ripu_keep_their_distance_in_later_cycles() -> None:
    center = np.stack(
        np.divmod(
            np.concatenate([c.center for c in buy(Ripu(mode="pixel", k=3), Budget("pixel", 0, 6, 5, "image"))]),
            SIZE_HW[1],
        ),
        1,
    )
    assert (np.abs(center[:, None] - center).max(2) + np.eye(30) * 99).min() > 3


def test_windows_paid_by_pixel_stay_below_the_budget() -> None:
    spent = [
        sum(len(c.region_of(n)) for n in range(len(c)))
        for c in buy(Ripu(), Budget("pixel", 0, 0.0044 * 10, 5, "image"))
    ]
    assert all(136 - 9 < px <= 136 for px in spent)


def test_a_region_has_the_mean_of_its_pixels() -> None:
    view = views_of_five_cycles()[0]
    h = -(view.probs * view.probs.log()).sum(0)
    best = Entropy().propose(view, ProposeContext(4, "region", Rng(0)))
    for center, utility in zip(best.center, best.utility, strict=True):
        y, x = divmod(int(center), SIZE_HW[1])
        assert utility == pytest.approx(float(h[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean()), rel=1e-5)


def test_greedy_order_survives_a_smaller_budget() -> None:
    """Equal distances at the end of a selection are no reason to prefer a later pick."""
    view = views_of_five_cycles()[0]
    # every pixel lies on the first pick
    same = dataclasses.replace(view, features=view.features[:, :1, :1].expand(8, 12, 16))
    proposed = Density().propose(same, ProposeContext(20, "pixel", Rng(0)))
    assert (proposed.utility[1:] < 1e-9).all()
    (query,) = take_best(
        proposed, Pool(("frame",)), Budget("pixel", 0, 7, 5, "image").allowance(0, 1), rng_for(0, 0, "select")
    )
    assert query.region.pixels.tolist() == sorted(proposed.center[:7])


@pytest.mark.parametrize("strategy", ["segmentation.density.Density", "general.core_set.CoreSet"])
def test_feature_space_is_covered_image_by_image(strategy: str) -> None:
    config = stub_config({"_target_": f"al_lab.strategies.{strategy}"}, dense=True)
    check_fields(Parts(config))
    config["budget"]["scope"] = "pool"
    with pytest.raises(
        ConfigError,
        match=r"budget.scope: expected image, how strategy '\w+' counts pixels, got 'pool'; set budget.scope=image",
    ):
        check_fields(Parts(config))


def test_radii_are_whole_pixels() -> None:
    with pytest.raises(ConfigError, match=r"strategy.radius_px: expected a whole number of pixels >= 0, got 0.5"):
        Random(radius_px=0.5)
