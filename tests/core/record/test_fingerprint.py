"""What may change when a run goes on, and names that never collide."""

import copy

import pytest

from al_lab.core.record.fingerprint import config_difference, fingerprint

CONFIG = {
    "dataset": {"_target_": "D", "root": "/a", "cache_dir": None, "image_dir": "JPEGImages"},
    "detector": {"weights": "/a/vgg.pth"},
    "seed": 0,
    "name": "x",
    "restart": False,
    "trainer": {"lr": 0.1, "milestones": [1, 2], "on_divergence": {"retries": 2}},
    "budget": {"cycles": 3, "per_cycle": [5, 5, 5]},
    "oracle": {"_target_": "O", "folder": None},
    "runtime": {"outputs_dir": "outputs"},
    "executor": {"workers": 2},
    "tracker": {"project": "p"},
    "choices": {"executor": "local"},
}


def changed(path: str, value: object) -> dict:
    config = copy.deepcopy(CONFIG)
    node = config
    *parents, last = path.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runtime.outputs_dir", "elsewhere"),
        ("executor.workers", 64),
        ("tracker.project", "q"),
        ("dataset.root", "/b"),
        ("dataset.cache_dir", "/c"),
        ("oracle.folder", "/to_label"),
        ("detector.weights", "/b/vgg.pth"),
        ("detector.wait", True),
        ("detector.train_minutes", 30),
        ("name", "y"),
        ("restart", True),
        ("trainer.on_divergence.retries", 3),
        ("trainer.on_divergence.lr_scale", 0.5),
        ("choices.executor", "slurm"),
    ],
)
def test_machine_and_path_keys_never_refuse(path, value):
    assert config_difference(CONFIG, changed(path, value)) == []
    assert fingerprint(CONFIG) == fingerprint(changed(path, value))


@pytest.mark.parametrize(("group", "key"), [("strategy", "path"), ("trainer", "init")])
def test_a_list_to_replay_and_a_checkpoint_are_known_by_their_content(tmp_path, group, key):
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
    a, b, c = (CONFIG | {group: CONFIG.get(group, {}) | {key: str(tmp_path / name)}} for name in "abc")
    assert config_difference(a, b) == []
    assert config_difference(a, c)


def test_no_checkpoint_to_begin_with_is_as_before_there_could_be_one():
    assert (
        fingerprint(CONFIG)
        == fingerprint(changed("trainer.init", None))
        != fingerprint(changed("trainer.init", "m.ckpt"))
    )


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("trainer.lr", 0.2, "trainer.lr: was 0.1, now 0.2"),
        ("trainer.momentum", 0.9, "trainer.momentum: was (absent), now 0.9"),
        ("seed", 1, "seed: was 0, now 1"),
        ("oracle._target_", "P", "oracle._target_: was 'O', now 'P'"),
        ("dataset.image_dir", "images", "dataset.image_dir: was 'JPEGImages', now 'images'"),
        ("dataset.image_dir", "b/JPEGImages", "dataset.image_dir: was 'JPEGImages', now 'b/JPEGImages'"),
    ],
)
def test_any_other_change_refuses_and_is_shown(path, value, line):
    assert config_difference(CONFIG, changed(path, value)) == [line]
    assert fingerprint(CONFIG) != fingerprint(changed(path, value))


def test_a_run_may_grow_but_not_shrink():
    grown = changed("budget.cycles", 4)
    grown["budget"]["per_cycle"] = [5, 5, 5, 9]
    assert config_difference(CONFIG, grown) == []
    assert fingerprint(CONFIG) == fingerprint(grown)
    assert len(config_difference(grown, CONFIG)) == 2
    assert config_difference(CONFIG, changed("budget.per_cycle", [5, 6, 5, 9])) == [
        "budget.per_cycle: was [5, 5, 5], now [5, 6, 5, 9]"
    ]


def test_a_later_key_at_its_former_behaviour_is_as_its_absence(monkeypatch):
    monkeypatch.setattr("al_lab.core.record.fingerprint._LATER", {"budget.initial_by": "random"})
    old = {"budget": {"per_cycle": 10}}
    same, other = ({"budget": {"per_cycle": 10, "initial_by": value}} for value in ("random", "cold_start"))
    assert config_difference(old, same) == [] and fingerprint(old) == fingerprint(same)
    assert config_difference(old, other) == ["budget.initial_by: was (absent), now 'cold_start'"]
    assert fingerprint(old) != fingerprint(other)


@pytest.mark.parametrize(
    ("per_cycle", "cycles", "alpha"),
    [(0.0044, 5, 20), (0.01, 5, 10), ([0.01, 0.04], 2, 10), (21, 5, 20), (0.0044, 5, 7)],
)
def test_alpha_as_the_budget_gives_it_is_null(per_cycle, cycles, alpha):
    configs = [
        {"strategy": {"alpha": value}, "budget": {"per_cycle": per_cycle, "cycles": cycles}} for value in (None, alpha)
    ]
    assert (config_difference(*configs) == []) == (fingerprint(configs[0]) == fingerprint(configs[1])) == (alpha != 7)
    assert fingerprint({"strategy": {}, "budget": {}}) != fingerprint({"strategy": {"alpha": None}, "budget": {}})


def test_an_objective_of_rows_that_came_later_decides_nothing_where_rows_have_another():
    def rows(objective, weight=1.0):
        nodes = {"isd": {"weight": 1.0}, "negative": {"negative": weight}}
        return {"strategy": {"lut": {"objective": objective, "objectives": nodes}}}

    before = {"strategy": {"lut": {"objective": "isd", "objectives": {"isd": {"weight": 1.0}}}}}
    assert config_difference(before, rows("isd")) == [] and fingerprint(before) == fingerprint(rows("isd"))
    assert config_difference(rows("negative"), rows("negative", 2.0)) == [
        "strategy.lut.objectives.negative.negative: was 1.0, now 2.0"
    ]


def test_a_long_value_is_shown_in_part():
    (line,) = config_difference({"a": "x" * 200}, {"a": "y"})
    assert line == f"a: was '{'x' * 78}…, now 'y'"
