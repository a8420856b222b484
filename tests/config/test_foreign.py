"""Models that are trained elsewhere: what is left to them, and what is refused."""

import logging

import pytest

from al_lab.config.foreign import warn_of_idle
from al_lab.config.load import compose, validate
from al_lab.core.errors import ConfigError

BOXES = "adapted_random, entropy, least_confidence, margin, pal, power, random"


def test_objective_and_recipe_of_the_protocol_are_left_out():
    config = compose(["detector=predictions", "strategy=entropy"])
    assert (config["objective"], config["choices"]["objective"], config["choices"]["trainer"]) == (None, None, "own")
    assert config["trainer"]["start"] == "scratch"
    validate(config)
    assert compose(["strategy=entropy"])["choices"]["trainer"] == "tiny"


def test_a_command_says_how_it_begins():
    config = compose(["detector=command_yolo", "detector.start=weights", "strategy=random"])
    assert config["trainer"]["start"] == "weights"
    validate(config)


def test_what_has_no_effect_is_said(caplog):
    words = ["detector=predictions", "trainer.lr=3", "objective=csd", "trainer=own", "strategy=random"]
    with caplog.at_level(logging.WARNING):
        warn_of_idle(words, compose(words[:1]))
        warn_of_idle(words, compose(["detector=tiny"]))
    assert [r.message.split(" has no effect")[0] for r in caplog.records] == ["trainer.lr=3", "objective=csd"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["strategy=mgral", "detector.embeddings=true"],
            "expected a strategy that lives on what a model predicts: adapted_random, core_set, .*got 'mgral'",
        ),
        (["strategy=al_ssl"], rf"provides flip_probs .*which provides detections, class_probs.*what remains: {BOXES}"),
        (["strategy=core_set"], rf"provides image_embedding .*what remains: {BOXES}"),
        (["strategy=entropy", "strategy.sigmoid=classes"], "expected whole class distributions.*distributions=true"),
        (["strategy=entropy", "runtime.devices=2"], "runtime.devices with detector=predictions: expected 1, got 2"),
    ],
)
def test_what_it_cannot_give_is_refused_with_what_remains(words, sentence):
    with pytest.raises(ConfigError, match=sentence):
        validate(compose(["detector=predictions", *words]))


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=core_set", "detector.embeddings=true"],
        ["strategy=shortlist", "detector.embeddings=true"],
        ["strategy=pal"],
        ["strategy=entropy", "strategy.sigmoid=classes", "detector.distributions=true"],
    ],
)
def test_what_is_promised_is_believed(words):
    validate(compose(["detector=predictions", *words]))


def test_a_segmenters_label_maps_leave_few_strategies():
    words = ["segmenter=predictions", "dataset=streets", "budget=streets"]
    validate(compose([*words, "strategy=entropy"]))
    validate(compose([*words, "strategy=ripu", "budget.unit=region"]))
    with pytest.raises(ConfigError, match=r"provides class_probs .*what remains: random\)"):
        validate(compose([*words, "strategy=entropy", "segmenter.maps=labels"]))
    with pytest.raises(ConfigError, match="provides image_embedding"):
        validate(compose([*words, "strategy=core_set"]))
