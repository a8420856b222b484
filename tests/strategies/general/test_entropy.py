"""Vectors TV1 of the MGRAL fact sheet: column 0 is background here, so confidences are given."""

import dataclasses

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.core.types import DenseView
from al_lab.strategies.general.entropy import Entropy

TV1 = [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.05, 0.9, 0.05]]


@pytest.mark.parametrize(("how", "expected"), [("max", 1.054920), ("mean", 0.750379), ("sum", 2.251136)])
def test_softmax(how: str, expected: float, image_view, context) -> None:
    candidates = Entropy(aggregate=how, min_confidence=0).propose(image_view(TV1), context())
    assert candidates.utility[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("how", "expected"), [("max", 0.673012), ("mean", 0.536320), ("sum", 1.608959)])
def test_sigmoid_by_confidence(how: str, expected: float, image_view, context) -> None:
    view = image_view([[0.9], [0.6], [0.3]], "sigmoid")
    assert Entropy(aggregate=how, min_confidence=0).propose(view, context()).utility[0] == pytest.approx(
        expected, abs=1e-6
    )


def test_sigmoid_summed_over_classes(image_view, context) -> None:
    view = image_view([[0.9, 0.6]], "sigmoid")
    assert Entropy(sigmoid="classes").propose(view, context()).utility[0] == pytest.approx(
        0.325083 + 0.673012, abs=1e-6
    )


def test_unsure_boxes_below_the_threshold_do_not_count(image_view, context) -> None:
    assert Entropy(min_confidence=0.5).propose(image_view(TV1), context()).utility[0] == pytest.approx(
        0.394398, abs=1e-6
    )
    assert Entropy(min_confidence=0.95).propose(image_view(TV1), context()).utility[0] == 0.0


def test_pixels_are_the_least_sure_that_are_not_bought(dense_view, context) -> None:
    best = Entropy().propose(dense_view, context(2))
    assert best.center.tolist() == [2, 0]
    rest = Entropy().propose(
        dataclasses.replace(dense_view, bought=np.array([[False, False], [True, False]])), context(9)
    )
    assert rest.center.tolist() == [0, 3, 1]
    assert len(Entropy().propose(dataclasses.replace(dense_view, bought=np.ones((2, 2), bool)), context(9))) == 0


def test_whole_dense_images_have_their_mean(dense_view, context) -> None:
    per_pixel = Entropy().propose(dense_view, context(4)).utility
    assert Entropy().propose(dense_view, context()).utility[0] == pytest.approx(per_pixel.mean())


def test_equal_pixels_come_in_no_spatial_order_unless_asked(context) -> None:
    flat = DenseView("d", (32, 32), torch.full((3, 32, 32), 1 / 3))
    by_hash = Entropy().propose(flat, context(40)).center
    assert by_hash.tolist() != Entropy().propose(flat, context(40, seed=1)).center.tolist()
    assert by_hash.max() > 500
    assert Entropy(ties="id").propose(flat, context(40)).center.tolist() == list(range(40))


def test_a_nan_is_named_by_its_sample(context) -> None:
    broken = DenseView("frame/7", (2, 2), torch.full((3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match="frame/7"):
        Entropy().propose(broken, context(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"aggregate": "meen"}, "did you mean 'mean'"),
        ({"min_confidence": 1.5}, r"strategy.min_confidence: expected a number in \[0, 1\)"),
        ({"sigmoid": "both"}, r"confidence \| classes"),
        ({"ties": "first"}, r"hash \| id"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Entropy(**arguments)
