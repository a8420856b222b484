import pytest

from al_lab.strategies.general.least_confidence import LeastConfidence


def test_boxes(image_view, context) -> None:
    strategy = LeastConfidence(min_confidence=0)
    assert strategy.propose(image_view([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]), context()).utility[0] == pytest.approx(
        0.6
    )
    assert strategy.propose(image_view([[0.05, 0.01], [0.2, 0.6]], "sigmoid"), context()).utility[0] == pytest.approx(
        0.4
    )


def test_pixels(dense_view, context) -> None:
    best = LeastConfidence().propose(dense_view, context(3))
    assert best.center.tolist() == [2, 0, 3]
    assert best.utility == pytest.approx([0.65, 0.5, 0.3])
