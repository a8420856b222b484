"""MC-dropout: V3 as an image, and which detections count."""

import dataclasses

import numpy as np
import pytest

from al_lab.core.errors import ConfigError
from al_lab.core.types import Detections, ImageView
from al_lab.strategies.rivals.mc_dropout import McDropout

V3 = {"box_mutual_information": np.array([0.074929, 0.005590], np.float32), "box_level": np.array([0, 0])}


@pytest.fixture
def view(image_view):
    """Two detections, .9 and .4 sure."""
    return dataclasses.replace(image_view([[0.1, 0.9, 0], [0.6, 0, 0.4]]), extras=V3)


def utility(strategy, view, context):
    return strategy.propose(view, context()).utility.item()


def test_v3_max_and_mean(view, context):
    assert utility(McDropout(), view, context) == pytest.approx(0.074929, abs=1e-6)
    assert utility(McDropout(aggregate="mean"), view, context) == pytest.approx(0.040259, abs=1e-6)


def test_levels_weigh_alike(view, context):
    two = dataclasses.replace(
        view, extras={"box_mutual_information": np.array([0.3, 0.1], np.float32), "box_level": np.array([5, 2])}
    )
    assert utility(McDropout(aggregate="mean"), two, context) == pytest.approx(0.2)


def test_only_detections_that_are_sure_enough_count(view, context):
    assert utility(McDropout(min_confidence=0.95), view, context) == 0
    kept = dataclasses.replace(view, extras=V3 | {"box_mutual_information": np.array([0.1, 0.5], np.float32)})
    assert utility(McDropout(min_confidence=0.5), kept, context) == pytest.approx(0.1)
    assert utility(McDropout(), kept, context) == pytest.approx(0.5)


def test_nothing_found_is_worth_nothing_and_a_view_without_passes_is_an_error(view, context):
    assert utility(McDropout(), ImageView("a", (9, 9), Detections.none(3)), context) == 0
    with pytest.raises(TypeError, match="box_mutual_information"):
        utility(McDropout(), dataclasses.replace(view, extras={}), context)


def test_it_says_what_the_passes_disagree_about(view, context):
    reason = McDropout().explain(view, context(), ("cat", "dog"), 0.07)
    assert reason.words == "of 2 boxes the looks disagree most about cat 0.90: 0.075 nats"
    assert reason.parts["mean"] == pytest.approx(0.040259, abs=1e-6)
    assert McDropout(min_confidence=0.95).explain(view, context(), ("cat", "dog"), 0).parts == {"boxes": 0}


def test_settings_that_say_nothing_are_refused():
    assert McDropout(4, as_released=True).view_options() == {"passes": {"count": 4, "as_released": True}}
    with pytest.raises(ConfigError, match=r"strategy\.passes"):
        McDropout(passes=1)
    with pytest.raises(ConfigError, match=r"strategy\.aggregate"):
        McDropout(aggregate="sum")
