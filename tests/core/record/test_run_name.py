"""Names of runs: short, unique, and nothing that a shell, Hydra or a file system would read otherwise."""

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from al_lab.core.record.run_name import first_run_name, run_name

SETS = [
    {},
    {"a": "x/y"},
    {"a": "x-y"},
    {"a": "x y"},
    {"a": "1,b=2"},
    {"a": 1, "b": 2},
    {"a": "1", "b": "2,c"},
    {"a": "1-b-2"},
    {"experiment": "default"},
    {"experiment": "../up"},
    {"experiment": "a-1"},
    {"experiment": "a", "b": "c"},
    {"a": "b", "experiment": "c"},
    {"a": "x" * 200},
    {"a": "x" * 199 + "y"},
    {"a": "X"},
    {"a": "x"},
    {"a": [1, 2]},
    {"a": {"b": 1}},
    {"a": "1"},
    {"a": 1},
    {"a": 1.0},
    {"a": None},
    {"a": "null"},
    {"dataset.classes": ["-apple-", "$(pear)", "l'orange"]},
    {"a": "é"},
    {"a": ""},
]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "default"),
        ({"debug": "smoke"}, "debug-smoke"),
        ({"trainer.lr": 0.001}, "trainer.lr-0.001"),
        ({"trainer.lr": 0.001, "detector": "tiny", "experiment": "bccd"}, "bccd-detector-tiny-trainer.lr-0.001"),
        ({"objective.tau": None, "protocol": "none"}, "objective.tau-null-protocol-none"),
    ],
)
def test_a_name_says_the_overrides(overrides, name):
    assert run_name(overrides) == name


@pytest.mark.parametrize("naming", [run_name, first_run_name])
def test_names_never_collide(naming):
    assert len({naming(s) for s in SETS}) == len(SETS)


@pytest.mark.parametrize("overrides", SETS, ids=str)
def test_a_name_can_be_typed_and_pasted(overrides):
    name = run_name(overrides)
    assert len(name) <= 48
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)
    assert shlex.split(name) == [name]
    assert OverridesParser.create().parse_override(f"name={name}").value() == name


def test_no_two_plain_sets_share_a_name():
    """Every way to cut the same words into keys and values gives another name, or a hash."""
    sets = [{"a": "b", "c": "d"}, {"a-b": "c-d"}, {"a": "b-c-d"}, {"experiment": "a", "b": "c-d"}]
    names = [run_name(s) for s in sets]
    assert len(set(names)) == len(names)


def test_names_of_the_first_version_are_known():
    overrides = {"trainer.lr": 0.001, "detector": "tiny", "experiment": "bccd"}
    assert first_run_name(overrides) == "bccd,detector=tiny,trainer.lr=0.001"


def test_the_order_of_overrides_makes_no_other_name():
    one, two = {"a": "b c", "d": "e"}, {"d": "e", "a": "b c"}
    assert "--" in run_name(one) and run_name(one).rsplit("--")[1] == run_name(two).rsplit("--")[1]
