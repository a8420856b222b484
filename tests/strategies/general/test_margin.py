import pytest

from al_lab.strategies.general.margin import Margin


def test_boxes(image_view, context) -> None:
    strategy = Margin(aggregate="sum", min_confidence=0)
    assert strategy.propose(image_view([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]), context()).utility[0] == pytest.approx(
        0.5 + 1.0
    )
    assert strategy.propose(image_view([[0.9, 0.01], [0.2, 0.5]], "sigmoid"), context()).utility[0] == pytest.approx(
        0.2 + 1.0
    )


def test_pixels_on_a_decision_boundary_come_first(dense_view, context) -> None:
    best = Margin().propose(dense_view, context(3))
    assert best.center.tolist() == [2, 0, 3]
    assert best.utility == pytest.approx([1.0, 0.9, 0.5])
