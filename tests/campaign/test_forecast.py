"""What a campaign will cost: arithmetic by hand, the published protocols, and a real run that took what was said."""

import json
import math
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from al_lab.campaign import forecast
from al_lab.campaign.forecast import Labels, Look, Training, device_seconds, labels, plan, variants, wall_seconds
from al_lab.campaign.forecast_speed import card_speed, rows_changes, side_by_side
from al_lab.campaign.forecast_tables import CARDS, Sizes, sizes_of
from al_lab.config.load import compose, validate
from al_lab.config.parts import Parts
from al_lab.core.budget import Budget
from al_lab.core.errors import LabError

HOUR = 3600
SIZES = Sizes(pool=100, test=10)
TRAINER = {"_target_": "al_lab.learners.settings.TrainSettings", "batch_size": 4, "max_iters": 50, "milestones": []}


class Seconds:
    """A second a step, two before the first one, a tenth an image."""

    def training_s(self, training: Training) -> float:
        return 2 + training.steps

    def look_s(self, images: int, passes: int = 0) -> float:
        return images * (1 + passes) / 10


@cache
def published(*overrides: str) -> Parts:
    return validate(compose(overrides))


def small(budget: Budget, strategy: str = "general.entropy.Entropy", **trainer: object) -> SimpleNamespace:
    config = {
        "trainer": TRAINER | trainer,
        "strategy": {"_target_": f"al_lab.strategies.{strategy}"},
        "dataset": {},
        "detector": {},
        "oracle": {"seconds_per_image": 1, "seconds_per_box": 2, "seconds_per_pixel": 3, "seconds_per_map": 4},
    }
    return SimpleNamespace(config=config, budget=budget)


def test_every_cycle_trains_and_tests_and_all_but_the_last_look_at_the_pool() -> None:
    parts = small(Budget(initial=10, per_cycle=20, cycles=2))
    assert plan(parts, SIZES) == [
        (0, (Training("training", 50),)),
        (0, (Look("test images", 10),)),
        (0, (Look("images of the pool", 90),)),
        (1, (Training("training", 50),)),
        (1, (Look("test images", 10),)),
        (1, (Look("images of the pool", 70),)),
        (2, (Training("training", 50),)),
        (2, (Look("test images", 10),)),
    ]


def test_a_second_look_is_at_the_list() -> None:
    parts = small(Budget(initial=10, per_cycle=20, cycles=1), "rivals.ppal.Ppal")
    parts.config["strategy"]["factor"] = 4.0
    assert plan(parts, SIZES)[2:4] == [(0, (Look("images of the pool", 90),)), (0, (Look("images of the list", 80),))]
    parts.config["strategy"]["factor"] = 9.0
    assert plan(parts, SIZES)[3] == (0, (Look("images of the list", 90),))
    parts = small(Budget(initial=10, per_cycle=20, cycles=1), "rivals.ebal.Ebal")
    assert plan(parts, SIZES)[3] == (0, (Look("images of the list", 90),))


def test_members_are_trainings_and_each_looks_as_each_pass_does() -> None:
    parts = small(Budget(initial=10, per_cycle=20, cycles=1), "rivals.ensemble.Ensemble")
    parts.config["strategy"]["members"] = 3
    assert plan(parts, SIZES)[2:4] == [(0, (Training("member", 50, 2),)), (0, (Look("images of the pool", 3 * 90),))]
    assert forecast.disk_bytes(parts, 7) == (3 + 1 + 3) * 7
    parts = small(Budget(initial=10, per_cycle=20, cycles=1), "rivals.mc_dropout.McDropout")
    parts.config["strategy"]["passes"] = 25
    assert plan(parts, SIZES)[2] == (0, (Look("images of the pool", 90, passes=25),))


def test_epochs_grow_with_what_is_labeled_and_random_looks_at_nothing() -> None:
    parts = small(Budget(initial=10, per_cycle=20, cycles=1), "general.random.Random", max_iters=None, max_epochs=2)
    trainings = [item for _, group in plan(parts, SIZES) for item in group if isinstance(item, Training)]
    assert [t.steps for t in trainings] == [5, 15]
    assert not any(isinstance(i, Look) and i.what != "test images" for _, group in plan(parts, SIZES) for i in group)


def test_a_training_that_goes_on_makes_the_rest_of_its_steps() -> None:
    parts = small(Budget(cycles=2, initial=4), start="continue", stop_at=[10, 15, 40])
    assert [g[0].steps for _, g in plan(parts, SIZES) if isinstance(g[0], Training)] == [10, 5, 25]


def test_seconds_of_all_devices_and_until_the_end() -> None:
    groups = [
        (0, (Training("row", 8, 5),)),
        (0, (Look("test images", 30),)),
        (0, (Training("x", 3, 2, is_serial=True),)),
    ]
    assert device_seconds(groups, Seconds()) == 5 * 10 + 3 + 2 * 5
    assert wall_seconds(groups, Seconds(), 1) == device_seconds(groups, Seconds())
    assert wall_seconds(groups, Seconds(), 2) == 3 * 10 + 1.5 + 2 * 5
    assert wall_seconds([(0, (Training("base", 18), Training("row", 8, 2)))], Seconds(), 2) == 20


BOXES = Sizes(100, 0, None, 3.0)
SQUARES = Budget(unit="pixel", per_cycle=0.1, cycles=1, scope="image")


@pytest.mark.parametrize(
    ("budget", "sizes", "kind", "expected"),
    [
        (Budget(initial=10, per_cycle=20, cycles=2, test=5), BOXES, "detector", (55, 165, 0, 0, 385)),
        (Budget(initial=10, per_cycle=20, cycles=2), SIZES, "detector", (50, None, 0, 0, 50)),
        (Budget(unit="box", per_cycle=60, cycles=2), BOXES, "detector", (40, 120, 0, 0, 280)),
        (Budget(initial=10, per_cycle=20, cycles=2), SIZES, "segmenter", (50, None, 0, 50, 250)),
        (Budget(unit="pixel", per_cycle=5, cycles=2, scope="image"), SIZES, "segmenter", (0, None, 1000, 0, 3000)),
        (Budget(unit="pixel", per_cycle=5, cycles=2), SIZES, "segmenter", (0, None, 10, 0, 30)),
        (SQUARES, Sizes(2, 0, (10, 10)), "segmenter", (0, None, 20, 0, 60)),
    ],
)
def test_what_people_are_asked_for(budget: Budget, sizes: Sizes, kind: str, expected: tuple) -> None:
    parts = small(budget)
    parts.config |= {"detector": None, kind: {"_target_": "x"}}
    *counts, seconds = expected
    assert labels(parts, sizes) == Labels(*counts, hours=seconds / 3600)


def test_rows_that_are_measured_elsewhere_have_no_base() -> None:
    parts = published("strategy=mgral", "dataset=voc", "strategy.lut.split=test", "strategy.learning.max_fall_backs=0")
    assert {i.what for _, g in plan(parts, SIZES) for i in g if isinstance(i, Training)} == {
        "training",
        "row",
        "control",
    }


def test_gains_without_rows_take_a_base_and_a_look_and_own_batches_are_counted() -> None:
    parts = published("strategy=mgral", "dataset=voc", "strategy.lut.reward=gradient")
    first = [item for cycle, group in plan(parts, SIZES) for item in group if cycle == 0]
    assert [item.what for item in first if isinstance(item, Training)] == ["training", "row base"]
    assert [item.what for item in first if isinstance(item, Look)].count("images of the pool") == 2
    parts = published("strategy=mgral", "dataset=voc", "strategy.lut.online=4")
    counts = {i.what: i.count for c, g in plan(parts, SIZES) for i in g if c == 0 and isinstance(i, Training)}
    assert counts["batch of the agent (at most)"] == 4


def test_mgrals_table_on_voc_takes_what_was_counted_by_hand() -> None:
    """214 to 226 trainings a cycle; a row takes 7 hours on an A100, 1.5 on an H100, and 5 with one core to feed it."""
    parts = published("strategy=mgral", "dataset=voc", "runtime.num_workers=1")
    groups = plan(parts, sizes_of(parts))
    counts = [sum(t.count for c, g in groups for t in g if isinstance(t, Training) and c == n) - 1 for n in (0, 1)]
    assert counts == [226, 214]
    row = next(t for _, g in groups for t in g if isinstance(t, Training) and t.what == "row")
    a100, h100 = (card_speed(parts, card) for card in CARDS)
    assert a100 is not None and h100 is not None
    assert h100.training_s(row) / HOUR == pytest.approx(5.1, abs=0.1)
    assert [s.fed()[1].training_s(row) / HOUR for s in (a100, h100)] == pytest.approx([7, 1.5], rel=0.02)
    cores, _ = h100.fed()
    assert 7 <= cores <= 11  # for the supervised trainings; rows are three times as much work


def test_rows_from_scratch_to_compare_with_are_counted_once() -> None:
    small = ("strategy=mgral", "dataset=voc", "strategy.lut.mode=finetune")
    parts = published(*small, "strategy.lut.length=0.5", "strategy.lut.against_scratch=8")
    found = [(c, i) for c, g in plan(parts, SIZES) for i in g if isinstance(i, Training) and "to compare" in i.what]
    assert [(c, i.count, i.steps) for c, i in found] == [(0, 8, 120_000)]


def test_rows_come_beside_their_base_where_they_do_not_start_from_it() -> None:
    parts = published("strategy=mgral", "dataset=voc")
    ways = {name: plan(way, SIZES) for name, (_, way) in variants(parts).items()}
    assert {i.what for _, g in ways.pop("gradients, no rows") for i in g if isinstance(i, Training)} == {
        "training",
        "row base",
    }
    halved = [i for c, g in ways.pop("halved at a rung") for i in g if isinstance(i, Training) and c == 0]
    rows = {name: next(g for _, g in groups if any(i.what == "row" for i in g)) for name, groups in ways.items()}
    assert [item.what for item in rows["rows from scratch"]] == ["row base", "row"]
    assert [item.what for item in rows["finetuned rows"]] == ["row"]
    steps = {name: next(i.steps for i in group if i.what == "row") for name, group in rows.items()}
    assert steps == {"rows from scratch": 120_000, "finetuned rows": 60_000, "stopped early": 30_000}
    counts = {i.what: (i.count, i.steps) for i in halved if "rung" in i.what or "half" in i.what}
    assert counts == {
        "row to its rung": (200, 30_000),
        "row from its rung to the end": (8, 90_000),
        "row of the better half, to the end": (96, 90_000),
    }
    for words, _ in variants(parts).values():  # what the page advises composes
        assert validate(compose(["strategy=mgral", "dataset=voc", *words.split()]))


@pytest.mark.parametrize(
    "overrides",
    [
        ("strategy=mgral", "dataset=coco"),
        ("strategy=al_ssl", "dataset=voc"),
        ("strategy=al_ssl", "dataset=coco"),
        ("strategy=ll4al", "dataset=voc"),
        ("strategy=mial", "dataset=coco"),
        ("strategy=meh_hua", "dataset=voc"),
        ("strategy=pm", "dataset=coco"),
        ("strategy=mc_dropout", "dataset=voc"),
        ("strategy=random", "dataset=voc", "detector=retinanet_r50_voc"),
        ("strategy=density", "dataset=gtav_cityscapes"),
        ("strategy=density", "dataset=synthia_cityscapes", "segmenter=deeplab_v3plus"),
    ],
)
def test_every_published_protocol_has_its_hours(overrides: tuple[str, ...]) -> None:
    parts = published(*overrides)
    sizes = sizes_of(parts)
    assert sizes.origin == "the official counts"
    speeds = [card_speed(parts, card) for card in CARDS]
    groups = plan(parts, sizes)
    seconds = [device_seconds(groups, speed) for speed in speeds if speed is not None]
    assert len(seconds) == len(CARDS)
    assert all(math.isfinite(s) and s > HOUR / 3 for s in seconds)


def test_heads_and_passes_cost_what_was_counted() -> None:
    plain, mixed = (
        card_speed(published(f"strategy={name}", "dataset=voc", *more), CARDS[0])
        for name, more in (("random", ("protocol=mc_dropout",)), ("pm", ()))
    )
    assert plain is not None and mixed is not None
    assert mixed.training_s(Training("", 100)) / plain.training_s(Training("", 100)) >= 1
    assert mixed.look_s(10) / plain.look_s(10) == pytest.approx(82.16 / 62.75)
    assert plain.look_s(10, passes=25) / plain.look_s(10) == pytest.approx(1 + 25 * 7.11 / 62.75)
    assert mixed.network.params == 52_349_576  # a checkpoint is larger, too
    assert mixed.network.with_branches({"mixture": {"components": 8}}) is None


def test_two_trainings_on_a_card_wait_for_their_images_together() -> None:
    fed = card_speed(published("strategy=mgral", "dataset=voc", "runtime.num_workers=16"), CARDS[1])
    starved = card_speed(published("strategy=mgral", "dataset=voc", "runtime.num_workers=1"), CARDS[1])
    assert fed is not None and starved is not None
    rows = [(0, (Training("row", 1000, 4, "rows"),))]
    for speed, gain in ((fed, 1.0), (starved, 2.0)):
        work, wall = side_by_side(rows, speed, 2, 2)
        assert work == pytest.approx(device_seconds(rows, speed) / gain)
        assert wall == pytest.approx(wall_seconds(rows, speed, 2) / gain)
    alone = [(0, (Training("training", 1000),))]
    assert side_by_side(alone, fed, 2, 2)[1] == pytest.approx(wall_seconds(alone, fed, 2))


def test_a_dataset_that_is_changed_is_not_taken_for_the_published_one() -> None:
    with pytest.raises(LabError, match="VOCdevkit"):
        sizes_of(published("strategy=random", "dataset=voc", "dataset.pool=[VOC2007/trainval]"))


def test_a_network_of_no_table_has_no_hours() -> None:
    assert card_speed(published("strategy=density", "dataset=streets"), CARDS[0]) is None
    assert rows_changes(published("strategy=density", "dataset=streets").config) == {}


@pytest.mark.slow
def test_a_run_takes_what_was_measured_within_30_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds of this process, which other processes of the machine do not change."""
    from al_lab.campaign import loop
    from al_lab.campaign.forecast_measure import measure

    command = [
        "strategy=entropy", "dataset=shapes", "dataset.num_pool=60", "dataset.num_val=4", "dataset.num_test=30",
        "budget.initial=20", "budget.per_cycle=10", "budget.cycles=1", "trainer.max_iters=120", "executor=inline",
        f"runtime.data_dir={tmp_path / 'data'}", f"runtime.outputs_dir={tmp_path / 'outputs'}",
    ]  # fmt: skip
    parts = validate(compose([*command, "name=measured"]))
    speed = measure(parts, tmp_path / "estimate", seconds=5, clock=time.process_time)
    said = device_seconds(plan(parts, sizes_of(parts)), speed)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=time.process_time))
    run_dir = tmp_path / "outputs" / "run"
    loop.run_campaign(validate(compose([*command, "name=measured"])), run_dir)
    stages = [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()]
    took = sum(s["seconds"] for s in stages if s.get("stage") in ("train", "evaluate", "score"))
    assert said == pytest.approx(took, rel=0.3)
    assert speed.weights > 4 * 540_912
    assert forecast.disk_bytes(parts, speed.weights) == 5 * speed.weights
