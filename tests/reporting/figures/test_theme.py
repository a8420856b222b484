import numpy as np
import pytest

from al_lab.reporting.figures.curves import Line, learning_curve
from al_lab.reporting.figures.segmentation import Shares, log_shares
from al_lab.reporting.figures.theme import color_of, marker_of, to_svg
from al_lab.reporting.judge.curves import Curve, band


def test_the_first_variant_keeps_its_strategys_color_and_the_others_differ():
    labels = ["al_ssl (csd)", "al_ssl (csd, tau=0.5)", "random (supervised)", "random (csd)", "mine"]
    strategies = [label.split(" ")[0] for label in labels]
    colors = [color_of(s, label, labels) for s, label in zip(strategies, labels, strict=True)]
    assert (colors[0], colors[2]) == (color_of("al_ssl"), color_of("random"))
    assert len(set(colors)) == 5
    assert marker_of("random", "random (supervised)", labels) == marker_of("random")


@pytest.mark.parametrize("name", [r"$\frac{x_{$", "US$ and A$"])
def test_a_dollar_sign_in_a_name_is_a_dollar_sign(name):
    curves = {name: Curve.make([1, 2, 4], [0.1, 0.2, 0.3]), "far": Curve.make([10, 1000, 90_000], [0.1, 0.2, 0.3])}
    lines = [Line(label, "random", band([curve]), {0: curve}) for label, curve in curves.items()]
    shares = [Shares(name, "#ffffff", "o", np.asarray([0.001, 1.0]))]
    for figure in (log_shares([name, "b"], shares), learning_curve(lines, {name: [0.5]}, name, "labels")):
        to_svg(figure, "x", name)  # draws
        ticks = [t.get_text() for axes in figure.axes for t in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert ticks and not any("mathdefault" in t for t in ticks)
