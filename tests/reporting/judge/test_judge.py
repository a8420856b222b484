import numpy as np
import pytest

from al_lab.benchmarks.verdicts import pages, seen
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


def test_lines_of_a_page_tell_each_others_error():
    judge = page(10, 3, last=0.06)
    assert judge.against("s9", "random").verdict == "clearly better"
    assert judge.against("s9", "random").is_pooled and 2 < judge.against("s9", "random").freedom < 7
    assert all(p.contrast.is_pooled for p in judge.explored)
    pair = Judge((judge.lines[0], judge.lines[-1])).against("s9", "random")
    assert not pair.is_pooled and pair.freedom == 2


def test_a_reference_that_varies_more_counts_and_the_page_says_so():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=(6, 6))
    noise[0] *= 30
    judge = Judge((line("random", noise[0]), *(line(f"s{k}", noise[k], "random") for k in range(1, 6))))
    assert "that of random itself, from its 6 seeds, and that of the lines, 5 of them together" in judge.error_note
    times = float(judge.error_note.partition("random varies ")[2].partition(" times")[0])
    assert 15 < times < 60
    widths = [p.contrast.half for p in judge.planned]
    assert min(widths) > 10 * max(p.contrast.half for p in judge.explored)


def test_what_could_be_seen_shrinks_with_seeds():
    found = page(4).resolution
    assert found.visible(3) > found.visible(5) > found.visible(8) > 0
    assert found.chance(found.visible()) == pytest.approx(0.8, abs=1e-6)
    assert page(4, 1).resolution is None


@pytest.mark.parametrize(("lines", "seeds"), [(10, 3), (4, 5)])
def test_what_a_page_says_could_be_seen_is_seen_eight_times_in_ten(lines, seeds):
    made = pages(np.random.default_rng(5), 40, seeds, np.ones(lines))
    visible = [
        Judge((line("random", p[0]), *(line(f"s{k}", v, "random") for k, v in enumerate(p[1:])))).resolution.visible()
        for p in made
    ]
    assert 0.72 < seen(300, seeds, lines, float(np.median(visible))) < 0.88
