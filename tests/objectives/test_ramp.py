"""The weight of the unsupervised loss: §5.7."""

import pytest

from al_lab.core.errors import ConfigError
from al_lab.objectives.ramp import Ramp

TABLE = {
    0: 0,
    1: 0.00674005,
    8000: 0.06005467,
    16000: 0.28650480,
    24000: 0.73161563,
    32000: 1,
    100000: 1,
    105000: 0.45783336,
    110000: 0.04393693,
    115000: 8.8382631e-4,
    119999: 3.7313e-6,
}


@pytest.mark.parametrize(("step", "weight"), TABLE.items())
def test_the_ramp_of_120000_iterations(step, weight):
    assert Ramp()(step, 120_000) == pytest.approx(weight, rel=1e-4, abs=1e-8)


def test_a_short_training_has_the_same_shape():
    assert [Ramp()(step, 1200) for step in (80, 160, 1100)] == pytest.approx(
        [Ramp()(100 * step, 120_000) for step in (80, 160, 1100)]
    )


def test_the_other_kinds():
    assert Ramp(kind="up_only")(119_999, 120_000) == 1
    assert Ramp(kind="up_only")(16_000, 120_000) == Ramp()(16_000, 120_000)
    assert Ramp(kind="none")(0, 10) == 1


@pytest.mark.parametrize(
    ("arguments", "message"), [({"kind": "up_and_down"}, "up_down"), ({"up": 0.9, "down": 0.5}, "0 < up <= down <= 1")]
)
def test_a_wrong_ramp_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Ramp(**arguments)


@pytest.mark.parametrize("arguments", [{"up": 0.0}, {"up": -0.1}, {"down": 1.1}])
def test_parts_of_a_ramp_lie_in_the_training(arguments):
    with pytest.raises(ConfigError, match="0 < up <= down <= 1"):
        Ramp(**arguments)


def test_a_ramp_may_go_down_as_soon_as_it_is_up():
    assert [Ramp(up=0.5, down=0.5)(step, 10) for step in (5, 10)] == pytest.approx([1, 3.7267e-6], rel=1e-4)
    assert Ramp(up=1.0, down=1.0)(10, 10) == 1
