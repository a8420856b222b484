import numpy as np
import pytest

from al_lab.core.budget import Allowance, Budget
from al_lab.core.errors import ConfigError
from al_lab.core.types import Query, Region


def test_fractions_are_of_the_pool():
    coco = Budget("image", 0.02, 0.02, 4)
    assert coco.initial_images(117_266) == 2345 and coco.allowance(3, 117_266).amount == 2345


def test_amounts_may_differ_by_cycle():
    assert [Budget("image", 1, [3, 5], 2).allowance(c, 10).amount for c in (0, 1)] == [3, 5]


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"unit": "images"}, "budget.unit"), ({"initial": -1}, "budget.initial"), ({"per_cycle": 1.5}, "2 % is 0.02"),
    ({"initial": "all"}, "annotated"),
    ({"unit": "box", "per_cycle": 0.1}, "a number of boxes"), ({"per_cycle": [1], "cycles": 2}, "2 amounts"), ({"scope": "image"}, "scope")])
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
