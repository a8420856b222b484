"""PAL from its text: the skeleton's numbers, what the regressions learn, and the penalty for likeness."""

import dataclasses
import logging

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Annotation, Candidates, Detections, ImageView, Query
from al_lab.strategies.detection._logistic import fit, sigma
from al_lab.strategies.detection.pal import Judge, Pal, guide

OBJECT = [10.0, 10, 20, 20]
ELSEWHERE = [40.0, 40, 50, 50]


def test_probabilities_and_entropies_of_known_weights():
    boxes = np.array([[0, 0, 1, 1, s, 0, n] for s, n in ((0.9, 6), (0.5, 2), (0.3, 1), (0.6, 8))], float)
    judge = Judge({0: np.array([3.0, 0.4, -2.5])}, np.zeros(3))
    assert judge.probability(boxes) == pytest.approx([0.930862, 0.450166, 0.231475, 0.924142], abs=1e-6)
    assert judge.uncertainty(boxes) == pytest.approx([0.251405, 0.688172, 0.541053, 0.268535], abs=1e-6)
    assert judge.uncertainty(boxes).sum() == pytest.approx(1.749165, abs=1e-6)
    assert Judge({}, None).probability(boxes).tolist() == [0.9, 0.5, 0.3, 0.6]
    assert Judge({1: np.ones(3)}, np.zeros(3)).probability(boxes).tolist() == [0.5] * 4


def test_the_regression_finds_the_weights_that_made_the_data():
    draw = np.random.default_rng(0)
    x = np.stack([draw.uniform(0, 1, 20_000), draw.integers(1, 9, 20_000)], 1)
    y = draw.random(20_000) < sigma(x @ [3.0, 0.4] - 2.5)
    assert fit(x, y, 1e-6) == pytest.approx([3.0, 0.4, -2.5], abs=0.15)
    p = sigma(x @ fit(x, y, 1e-6)[:2] + fit(x, y, 1e-6)[2])
    assert x.T @ (y - p) == pytest.approx([0, 0], abs=0.1)  # the likelihood's gradient
    assert fit(np.array([[0.1, 1], [0.9, 1]]), np.array([False, True]), 1.0)[1] == 0  # no spread, no weight
    assert np.isfinite(fit(np.array([[0.0], [1e-3]]), np.array([False, True]), 0.1)).all()  # separable


def view(i, boxes, counts=None):
    boxes = sorted(boxes, key=lambda b: -b[1])
    s = np.array([b[1] for b in boxes], np.float32)
    labels = np.array([b[2] for b in boxes], np.int64)
    places = np.array([b[0] for b in boxes], np.float32).reshape(-1, 4)
    found = Detections(places, s, labels, s[:, None], "sigmoid")
    counts = None if counts is None else np.array(counts)
    return ImageView(i, (60, 60), dataclasses.replace(found, pre_suppression_count=counts))


def world():
    """Labeled images on which class 0 is right at any confidence and class 1 wrong above .5 and right below."""
    views, labels = [], {}
    for k in range(40):
        s = 0.1 + 0.8 * (k % 20) / 20
        right = s < 0.5
        views.append(view(f"l{k:02d}", [(OBJECT, s, 0), (OBJECT if right else ELSEWHERE, s, 1), (ELSEWHERE, 0.06, 0)]))
        labels[f"l{k:02d}"] = Annotation.make([OBJECT, OBJECT], [0, 1])
    return views, labels


def choose(strategy, views, labels, amount, apart=None, seed=0):
    pool = Pool(tuple(v.sample_id for v in views), apart=apart).acquire([Query(i) for i in labels], -1)
    strategy.learn(labels)
    parts = [strategy.propose(v, context_for(seed, 0, v.sample_id, "image")) for v in views]
    return strategy.select(Candidates.concat(parts), pool, Allowance("image", amount), rng_for(seed, 0, "select"))


def test_it_asks_where_the_regressions_are_unsure():
    views, labels = world()
    views += [view("sure", [(OBJECT, 0.9, 0)]), view("border", [(OBJECT, 0.5, 1)]), view("wrong", [(OBJECT, 0.88, 1)])]
    strategy = Pal(class_weights="equal", similarity=0)
    queries = choose(strategy, views, labels, 3)
    assert [q.sample_id for q in queries][0] == "border"  # by the confidence alone "sure" and "wrong" would be alike
    judge = strategy._judge
    s = np.array([[*OBJECT, c, label, 1] for c, label in ((0.9, 0), (0.5, 1), (0.88, 1), (0.15, 1))], float)
    p = judge.probability(s)
    assert p[0] > 0.9 and 0.3 < p[1] < 0.7 and p[2] < 0.2 < 0.8 < p[3]
    words = strategy.explain(views[-2], context_for(0, 0, "border", "image"), ("cat", "dog"), 0.0).words
    assert words.startswith("1 detections; of dog 0.50 the chance to be true is 0.")


def test_merged_boxes_count_where_they_are_known():
    views, labels = [], {}
    for k in range(60):
        many = k % 2
        views.append(view(f"l{k:02d}", [(OBJECT if many else ELSEWHERE, 0.5, 0)], counts=[9 if many else 1]))
        labels[f"l{k:02d}"] = Annotation.make([OBJECT], [0])
    strategy = Pal()
    choose(strategy, [*views, view("u", [(OBJECT, 0.5, 0)], counts=[5])], labels, 1)
    one, nine = strategy._judge.probability(np.array([[*OBJECT, 0.5, 0, 1], [*OBJECT, 0.5, 0, 9]], float))
    assert one < 0.2 < 0.8 < nine


def test_rare_classes_weigh_more():
    views, labels = world()
    labels = {i: Annotation.make([OBJECT] * 9 + [OBJECT], [0] * 9 + [1]) for i in labels}
    twins = [view("rare", [(ELSEWHERE, 0.5, 1)]), view("often", [(ELSEWHERE, 0.5, 0)])]
    strategy = Pal(similarity=0)
    queries = {q.sample_id: q.utility for q in choose(strategy, [*views, *twins], labels, 2)}
    doubt = strategy._judge.uncertainty(np.array([[*ELSEWHERE, 0.5, c, 1] for c in (1, 0)], float))
    ratio = (queries["rare"] / doubt[0]) / (queries["often"] / doubt[1])
    assert ratio == pytest.approx(np.sqrt((1 + 360) / (1 + 40)))


def test_likeness_is_penalized():
    profile = np.array([[2.0, 0], [1.9, 0], [0, 1.2], [0, 0]])
    utility = profile.sum(1)
    assert [n for n, _ in guide(utility, profile, 4, 0.0)] == [0, 1, 2, 3]
    picks = guide(utility, profile, 3, 0.5)
    assert picks == [(0, 2.0), (2, 1.2), (1, pytest.approx(0.95))]
    assert [n for n, _ in guide(utility, profile, 9, 1.0, near=lambda n: np.array([n, (n + 1) % 4]))] == [0, 2]


def test_without_labels_the_confidence_is_the_probability(caplog):
    views = [view("half", [(OBJECT, 0.5, 0)]), view("most", [(OBJECT, 0.7, 0)]), view("l", [(OBJECT, 0.9, 0)])]
    with caplog.at_level(logging.WARNING):
        queries = choose(Pal(similarity=0), views, {"l": Annotation.make([OBJECT], [0])}, 2)
    assert [(q.sample_id, q.utility) for q in queries][0] == ("half", pytest.approx(np.log(2)))
    assert "1 detections on 1 labeled images, all of one kind" in caplog.text


def test_groups_and_many_boxes():
    views, labels = world()
    views += [view(f"u{k}", [(OBJECT, 0.5, 1)] * (k + 1)) for k in range(6)]
    apart = Apart({v.sample_id: "one" if v.sample_id in ("u4", "u5") else v.sample_id for v in views})
    chosen = [q.sample_id for q in choose(Pal(similarity=0, max_boxes=5), views, labels, 2, apart)]
    assert chosen[0] in ("u4", "u5") and chosen[1] == "u3"
