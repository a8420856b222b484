from pathlib import Path

import numpy as np
import pytest
import yaml

from al_lab.core.budget import Allowance, Budget
from al_lab.core.errors import ConfigError
from al_lab.core.types import Query, Region


def test_fractions_are_of_the_pool():
    coco = Budget("image", 0.02, 0.02, 4)
    assert coco.initial_images(117_266) == 2345 and coco.allowance(3, 117_266).amount == 2345


def test_amounts_may_differ_by_cycle():
    assert [Budget("image", 1, [3, 5], 2).allowance(c, 10).amount for c in (0, 1)] == [3, 5]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"unit": "images"}, "budget.unit"),
        ({"initial": -1}, "budget.initial"),
        ({"per_cycle": 1.5}, "2 % is 0.02"),
        ({"initial": "all"}, "annotated"),
        ({"unit": "box", "per_cycle": 0.1}, "a number of boxes"),
        ({"unit": "pixel", "per_cycle": 0.1}, "set budget.scope=image"),
        ({"per_cycle": [1], "cycles": 2}, "a list of at least 2"),
        ({"scope": "image"}, "scope"),
    ],
)
def test_nonsense_is_refused(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        Budget(**kwargs)


def test_more_than_the_pool_is_refused_with_the_sum():
    with pytest.raises(ConfigError, match=r"5 \+ 3 cycles = 35"):
        Budget("image", 5, 10, 3).check_against(30)


def test_overspending_is_refused():
    query = Query("a", Region(np.arange(5), (2, 4)))
    Allowance("pixel", 5, per_image=True).check([query], "select")
    with pytest.raises(ConfigError, match="cost 10"):
        Allowance("pixel", 9).check([query, Query("b", query.region)], "select")
    with pytest.raises(ConfigError, match="at most 4 pixels an image.*one that cost 5"):
        Allowance("pixel", 0, per_image=True, share=0.5).check([query], "select")


def test_shares_are_of_each_image_and_rounded_up():
    """T10 of the segmentation sheet: 2.2 % and 5 % over five cycles, as pixels and as windows of side 3 and 19."""
    native, trained = (1024, 2048), (640, 1280)
    pixels, five = Budget("pixel", 0, 0.0044, 5, "image"), Budget("pixel", 0, 0.01, 5, "image")
    assert [b.allowance(4, 2975).in_image(hw) for hw in (native, trained) for b in (pixels, five)] == [
        9228,
        20972,
        3605,
        8192,
    ]
    regions = [Budget("region", 0, share, 5, "image").allowance(0, 2975) for share in (0.0044, 0.01)]
    assert [regions[0].in_image(native, 1), regions[1].in_image(native, 1), regions[0].in_image(native, 9)] == [
        1026,
        2331,
        26,
    ]
    assert Budget("pixel", 0, 0.07, 1, "image").allowance(0, 1).in_image((10, 10)) == 7
    counted = Budget("pixel", 0, 21, 5, "image").allowance(0, 2975)
    assert counted.in_image(native) == counted.in_image(trained) == 21


@pytest.mark.parametrize(
    ("name", "radius_px", "amount"),
    [
        ("40px", 0, 21),
        ("2.2pct", 0, 9228),
        ("5pct", 0, 20972),
        ("2.2pct_regions", 1, 1026),
        ("2.2pct_regions", 9, 26),
        ("5pct_regions", 1, 2331),
    ],
)
def test_published_budgets_on_cityscapes(name, radius_px, amount):
    node = yaml.safe_load((Path(__file__).parents[2] / "conf" / "budget" / f"{name}.yaml").read_text())
    assert node.pop("_target_") == "al_lab.core.budget.Budget"
    budget = Budget(**node)
    assert (budget.initial_images(2975), budget.cycles) == (0, 5)
    assert [budget.allowance(c, 2975).in_image((1024, 2048), radius_px) for c in range(5)] == [amount] * 5


def test_the_share_of_all_cycles():
    native = (1024, 2048)
    assert [Budget("pixel", 0, step, 5, "image").share_of(native) for step in (0.0044, 0.01)] == [0.022, 0.05]
    assert Budget("pixel", 0, 21, 5, "image").share_of(native) == pytest.approx(105 / 2**21, abs=1e-6)
    assert Budget("pixel", 0, [0.1, 50, 0.9], 2, "image").share_of((10, 10)) == 0.6


def test_shares_of_images_that_are_not_square():
    assert Budget("pixel", 0, [0.1, 50, 0.9], 2, "image").share_of((4, 25)) == 0.6
    regions = Budget("region", 0, 0.5, 1, "image").allowance(0, 1)
    assert (regions.in_image((4, 25)), regions.in_image((4, 25), 1)) == (50, 6)


def test_what_a_query_costs():
    some, whole = Query("a", Region(np.arange(5), (2, 4))), Query("a")
    assert [Allowance("image", 1).cost(q) for q in (whole, some)] == [1, 1]
    assert [Allowance("pixel", 1).cost(q) for q in (whole, some)] == [None, 5]
    assert [Allowance(unit, 1).cost(some) for unit in ("box", "region")] == [None, None]
