import numpy as np
import pytest

from al_lab.core.statistics.power import chance_to_see
from al_lab.reporting.judge.advice import advice_of, undecided, undecided_sentence
from al_lab.reporting.judge.curves import Curve
from al_lab.reporting.judge.judge import Judge, Line

SPENT = [100, 200, 300]


def curves(*heights):
    return {seed: Curve.make(SPENT, h) for seed, h in enumerate(heights)}


def test_the_next_purchase_is_as_large_as_the_last_and_the_pool_ends():
    found = curves([0.3, 0.4, 0.45], [0.31, 0.39, 0.46])
    advice = advice_of(found, seed=1)
    assert (advice.now, advice.later, advice.twice) == (300, 400, 600)
    assert 0 <= advice.gain.low < advice.gain.mean < advice.gain_twice.mean < advice.gain_twice.high
    assert advice.next_point.low < 0.46 + advice.gain.mean < advice.next_point.high
    near = advice_of(found, most=350)
    assert (near.later, near.twice) == (350, 350)
    assert "twice" not in near.sentence("entropy", "images")
    assert near.sentence("entropy", "images").startswith("Is it worth going on with entropy? The next 50 images are")
    assert advice_of(found, most=300) is None


def test_a_steep_curve_is_worth_it_and_a_flat_one_is_not():
    steep, flat = advice_of(curves([0.2, 0.3, 0.4])), advice_of(curves(*[[0.5, 0.5, 0.5]] * 4))
    assert (steep.word, flat.word) == ("likely", "unlikely") and steep.chance > 0.8 > 0.2 > flat.chance
    assert "is unlikely" in flat.sentence("random", "images")


@pytest.mark.parametrize("found", [{}, {0: Curve.make([100], [0.3])}, {0: Curve.make(SPENT, [30.0, 20.0, 10.0])}])
def test_nothing_is_said_without_a_curve(found):
    assert advice_of(found) is None


def judge(gain, noise, seeds=3):
    rng = np.random.default_rng(4)
    lines = {"random": 0.0, "entropy": gain, "margin": 0.0}
    made = [
        Line(
            n,
            curves(*(0.4 + g + noise * rng.normal() + np.asarray([0, 0.1, 0.15]) for _ in range(seeds))),
            ("random",) * (n != "random"),
        )
        for n, g in lines.items()
    ]
    return Judge(tuple(made))


def test_so_many_more_seeds_would_tell():
    planned = judge(0.03, 0.01).planned
    ((pair, more), *_) = [item for item in undecided(planned) if item[0].ours == "margin"]
    seeds, c = 3, pair.contrast
    assert (
        more is None or chance_to_see(c.difference, c.standard_error * 3**0.5, seeds + more, seeds + more - 1, 2) >= 0.8
    )
    said = "not even a hundred seeds would" if more is None else f"{more} more seeds would"
    words = undecided_sentence(planned)
    assert words.startswith("With what you have seen you can't tell apart ")
    assert f"margin from random ({100 * c.difference:+.1f} ± {100 * c.half:.1f} points): {said}" in words.replace(
        "−", "-"
    )


def test_what_is_clear_needs_no_more_seeds():
    planned = judge(0.3, 0.001, seeds=4).planned
    assert "entropy" not in {p.ours for p, _ in undecided(planned)}
    assert undecided_sentence([p for p in planned if p.ours == "entropy"]) == ""
