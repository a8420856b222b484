import numpy as np
import pytest

from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.judge import Judge, Line


def line(label, values, *references):
    return Line(label, {s: Curve.make([0, 10], [v, v]) for s, v in enumerate(values)}, references)


def page(lines=4, seeds=3, last=0.0):
    rng = np.random.default_rng(0)
    values = 0.01 * rng.normal(size=(lines, seeds)) + 0.3
    values[-1] += last
    return Judge((line("random", values[0]), *(line(f"s{k}", values[k], "random") for k in range(1, lines))))


def test_planned_contrasts_are_one_family_and_explored_ones_another():
    judge = page(4)
    assert [(p.ours, p.theirs) for p in judge.planned] == [("s1", "random"), ("s2", "random"), ("s3", "random")]
    assert [(p.ours, p.theirs) for p in judge.explored] == [("s1", "s2"), ("s1", "s3"), ("s2", "s3")]
    best = min(judge.planned, key=lambda p: p.contrast.p).contrast
    assert best.p_holm == pytest.approx(min(1, 3 * best.p))


def test_many_lines_can_be_told_apart_at_two_seeds():
    judge = page(10, 2, last=0.04)
    assert judge.against("s9", "random").verdict == "clearly better"
    assert judge.against("s9", "random").is_pooled and judge.against("s9", "random").freedom == 9
    assert Judge((judge.lines[0], judge.lines[-1])).against("s9", "random").verdict == "no clear difference"


def test_lines_that_vary_unlike_are_judged_by_their_own_seeds_and_the_page_says_so():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(5, 6))
    noise[4] *= 30
    judge = Judge((line("random", noise[0]), *(line(f"s{k}", noise[k], "random") for k in range(1, 5))))
    assert not any(p.contrast.is_pooled for p in judge.planned)
    assert "do not vary alike" in judge.error_note


def test_what_could_be_seen_shrinks_with_seeds():
    found = page(4).resolution
    assert found.visible(3) > found.visible(5) > found.visible(8) > 0
    assert found.chance(found.visible()) == pytest.approx(0.8, abs=1e-6)
    assert page(4, 1).resolution is None
