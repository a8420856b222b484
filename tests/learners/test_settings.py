"""Lengths and learning rates, exactly as the papers state them."""

import re

import pytest

from al_lab.core.errors import ConfigError
from al_lab.learners.settings import Schedule, TrainSettings


def changes(schedule: Schedule) -> dict[int, float]:
    """Return the steps at which the rate changes, with the new rate."""
    rates = [schedule.lr_at(step) for step in range(schedule.total_steps)]
    return {n: rate for n, rate in enumerate(rates) if n == 0 or rate != rates[n - 1]}


def test_the_ssd_recipe_divides_by_ten_at_80k_and_100k() -> None:
    # Fact sheet 1.7: 120k iterations, 1e-3, x0.1 at 80k and 100k.
    schedule = TrainSettings(batch_size=32, max_iters=120_000, lr=1e-3, milestones=[80_000, 100_000]).schedule(2000)
    assert schedule.total_steps == 120_000
    assert changes(schedule) == pytest.approx({0: 1e-3, 80_000: 1e-4, 100_000: 1e-5})


@pytest.mark.parametrize(
    ("images", "steps", "drop"), [(1000, 9375, 7500), (1007, 9441, 7553), (10_000, 93_750, 75_000)]
)
def test_epochs_become_steps_of_the_endless_stream(images: int, steps: int, drop: int) -> None:
    # 300 epochs of batch 32 with the drop after 240: ceil(300 n / 32), ceil(240 n / 32).
    schedule = TrainSettings(batch_size=32, max_epochs=300, lr=1e-3, milestones=[240]).schedule(images)
    assert schedule.total_steps == steps
    assert changes(schedule) == pytest.approx({0: 1e-3, drop: 1e-4})


def test_a_training_shorter_than_one_batch_has_one_step() -> None:
    assert TrainSettings(batch_size=32, max_epochs=1).schedule(3).total_steps == 1


def test_rounding_of_fractions_adds_no_step() -> None:
    # 0.1 * 30 is 3.0000000000000004 in binary.
    assert TrainSettings(batch_size=1, max_epochs=0.1).schedule(30).total_steps == 3


def test_warm_up_rises_linearly_and_ends_at_the_full_rate() -> None:
    schedule = TrainSettings(batch_size=1, max_iters=10, lr=1.0, warmup_iters=4, warmup_ratio=0.2).schedule(1)
    assert [schedule.lr_at(n) for n in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_warm_up_by_a_power_equals_the_golden_vector() -> None:
    """PM's: ((it + 1) / 1000)^4."""
    schedule = TrainSettings(batch_size=1, max_iters=2000, lr=1e-3, warmup_iters=1000, warmup_power=4).schedule(1)
    assert [schedule.lr_at(n) for n in (0, 499, 999, 1000)] == pytest.approx([1e-15, 6.25e-5, 1e-3, 1e-3])


def test_poly_falls_to_zero_at_the_horizon() -> None:
    schedule = TrainSettings(batch_size=1, max_iters=4, lr=2.0, decay="poly", poly_power=0.5).schedule(1)
    assert [schedule.lr_at(n) for n in range(5)] == pytest.approx([2.0, 2 * 0.75**0.5, 2 * 0.5**0.5, 1.0, 0.0])


def test_stop_at_is_in_the_unit_of_the_length_and_may_differ_by_cycle() -> None:
    settings = TrainSettings(batch_size=4, max_epochs=10, stop_at=[1, 2.5])
    assert [settings.stop_step(cycle, 8, 3) for cycle in (0, 1)] == [2, 5]
    assert TrainSettings(batch_size=4, max_iters=10, stop_at=7).stop_step(3, 8, 3) == 7
    assert settings.stop_step(0, 8, 0) == 5  # the only training is the last one
    with pytest.raises(ConfigError, match=r"trainer.stop_at: expected an entry for cycle 2, got 2 entries"):
        settings.stop_step(2, 8, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_epochs": 3, "max_iters": 30}, "expected exactly one of max_epochs and max_iters, got both"),
        ({"max_iters": None}, "expected exactly one of max_epochs and max_iters, got neither"),
        ({"max_iters": 0}, "trainer.max_iters: expected a whole number >= 1, or null, got 0"),
        ({"batch_size": 0}, "trainer.batch_size: expected a whole number >= 1, got 0"),
        ({"optimizer": "adam"}, "trainer.optimizer: expected sgd | adamw, got 'adam'; did you mean 'adamw'?"),
        ({"decay": "step"}, "trainer.decay: expected multistep | poly | cosine, got 'step'"),
        ({"start": "wieghts"}, "did you mean 'weights'?"),
        ({"precision": 16}, "trainer.precision: expected auto | 32 | 16-mixed | bf16-mixed, got '16'"),
        ({"lr": float("nan")}, "trainer.lr: expected a finite number > 0, got nan"),
        ({"grad_clip": 0}, "trainer.grad_clip: expected a finite number > 0, or null, got 0"),
        ({"milestones": [20, 10]}, "trainer.milestones: expected rising numbers below max_iters=30, got [20, 10]"),
        ({"milestones": [30]}, "trainer.milestones: expected rising numbers below max_iters=30, got [30]"),
    ],
)
def test_a_wrong_recipe_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainSettings(**({"batch_size": 2, "max_iters": 30} | wrong))
