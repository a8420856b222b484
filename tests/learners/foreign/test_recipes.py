"""Every option of conf/ whose model is trained elsewhere: a new yaml is tested without writing a test."""

import pytest

from al_lab.config.build import build
from al_lab.config.foreign import is_foreign
from al_lab.config.options import option, options
from al_lab.learners.foreign.process import command_words
from tests.stubs import StubDense, StubDetection

FOREIGN = [
    (group, name) for group in ("detector", "segmenter") for name in options(group) if is_foreign(option(group, name))
]


@pytest.mark.parametrize(("group", "name"), FOREIGN)
def test_an_option_says_every_key_and_can_be_built(group, name):
    node = option(group, name)
    plain = option(group, "command" if "train" in node else "predictions")
    assert set(node) == set(plain)
    given = {key: "program" if value == "???" else value for key, value in node.items()}
    dataset = StubDetection() if group == "detector" else StubDense()
    model = build(given, num_classes=3, dataset=dataset)
    if "train" not in node:
        return
    places = {"data": "/d", "labels": "/l", "out": "/o", "checkpoint": "/m", "device": "cpu", "images": "/i"}
    for words in (command_words(model.train, {**places, "seed": 1, "init": "w"}), command_words(model.predict, places)):
        assert words and not any("{" in word and "}" in word and "(" not in word for word in words)


def test_there_are_recipes():
    assert {name for group, name in FOREIGN if name.startswith("command_")} >= {"command_torchvision", "command_yolo"}
