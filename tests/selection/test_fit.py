"""Which strategies can live on files."""

import pytest

from al_lab.config.build import build
from al_lab.config.fitting import fitting
from al_lab.config.options import option
from al_lab.core.errors import ConfigError
from al_lab.selection.fit import check_built, check_task
from tests.stubs import StubDense, StubDetection

BOXES = ("detections", "class_probs")


def test_what_remains():
    of_boxes = {"adapted_random", "entropy", "least_confidence", "margin", "power", "random"}
    assert set(fitting((), False)) == {"random"}
    assert set(fitting(BOXES, False)) == of_boxes
    assert set(fitting(BOXES, True)) == {*of_boxes, "pal"}
    assert set(fitting(("image_embedding",), False)) == {"random", "core_set"}
    assert set(fitting((*BOXES, "image_embedding"), False)) == {*of_boxes, "core_set", "shortlist"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("core_set", "files that hold image_embedding, got others; give --arrays FILE.npz .*what remains: .*entropy"),
        ("al_ssl", "files that hold flip_probs, got others; a campaign's detector can provide it; what remains"),
        ("mgral", "needs no more than predictions, got one with stages, or files, of its own; run a campaign"),
        (
            "pal",
            "expected labeled images, whose labels it learns from, got none; say which images are labeled: --labeled",
        ),
        ("ripu", "expected a strategy for detection, got one for segmentation; what remains"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(name, sentence):
    node = option("strategy", name)
    with pytest.raises(ConfigError, match=f"strategy={name}: .*{sentence}"):
        check_task(name, node, StubDetection(), BOXES, False)


def test_label_maps_and_unsaid_stages_are_refused():
    with pytest.raises(ConfigError, match="expected a dataset of boxes, got 'stub_dense', a segmentation dataset"):
        check_task("entropy", option("strategy", "entropy"), StubDense(), BOXES, False)
    strategy = build(option("strategy", "random"))
    check_built("random", strategy)
    strategy.stages = lambda: ["train", "select"]
    with pytest.raises(ConfigError, match="a strategy without stages of its own"):
        check_built("mine", strategy)
