"""EBAL: entropies, quotas and choices by the fact sheet's numbers."""

import numpy as np
import pytest

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Annotation, Candidates, Detections, ImageView, Query
from al_lab.strategies.rivals._two_pass import Rows
from al_lab.strategies.rivals.ebal import Ebal

SHEET = [(0, 0.5, [1, 0]), (0, 0.7, [0.8, 0.6]), (0, 0.9, [0, 1]), (1, 0.4, [0.6, 0.8])]


def view(i, boxes, num_classes=2):
    """Return a view of boxes (class, s, feature); features of any length."""
    boxes = sorted(boxes, key=lambda b: -b[1])
    s = np.array([b[1] for b in boxes], np.float32)
    places = np.tile(np.array([10.0, 10, 20, 20], np.float32), (len(boxes), 1))
    labels = np.array([b[0] for b in boxes], np.int64)
    found = Detections(places, s, labels, s[:, None].repeat(num_classes, 1), "sigmoid")
    features = np.array([b[2] for b in boxes], np.float32).reshape(len(boxes), 2)
    return ImageView(i, (200, 200), found, extras={"box_features": features})


def test_entropy_and_prototypes_are_the_sheets():
    strategy = Ebal()
    shown = view("a", [(c, s, [3 * v for v in f]) for c, s, f in SHEET])
    part = strategy.propose(shown, context_for(0, 0, "a", "image"))
    assert part.utility[0] == pytest.approx(1.691242, abs=1e-6) and part.info["num_classes"].tolist() == [2]
    classes, confidence, proto = strategy.rows_of(shown)
    assert classes.tolist() == [0, 1] and confidence == pytest.approx([0.9, 0.4])
    np.testing.assert_allclose(proto, [[0.680737, 0.319263], [0.6, 0.8]], atol=1e-6)
    plain = Ebal(same=1.0).propose(shown, context_for(0, 0, "a", "image"))
    assert plain.utility[0] == pytest.approx(2.302106, abs=1e-6)
    assert "3 of 4 detections" in strategy.explain(shown, None, ("x", "y"), 1.0).words


def test_a_sure_detection_has_an_entropy_and_an_empty_image_has_none():
    ctx = context_for(0, 0, "a", "image")
    assert 0 < Ebal().propose(view("a", [(0, 1.0, [1, 0])]), ctx).utility[0] < 1e-5
    assert Ebal().propose(view("a", []), ctx).utility[0] == 0
    assert [len(v) for v in Ebal().rows_of(view("a", []))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("classes", "amount", "quota"), [(20, 1000, 75), (20, 413, 30.975), (80, 2345, 43.96875), (3, 4, 2)]
)
def test_quotas_are_the_sheets(classes, amount, quota):
    strategy = Ebal()
    labels = {f"{k}": Annotation.make([[0, 0, 1, 1]] * (classes - k), [k] * (classes - k)) for k in range(classes)}
    strategy.learn(labels)
    pool = Pool(tuple(labels)).acquire([Query(i) for i in labels], -1)
    found = strategy.quotas(classes, pool, amount)
    assert set(found) == set(range(classes // 2, classes))  # class k has classes - k objects; 1.5 rare ones are 2
    assert set(found.values()) == {quota}


def test_a_whole_number_of_rare_classes_is_not_rounded_up():
    assert len(Ebal(alpha=0.55).quotas(20, Pool(()), 1000)) == 11


def choose(strategy, images, amount, order=None, seed=0, apart=None, labels=None):
    known = labels or {"labeled": Annotation.make([[0, 0, 1, 1]], [0])}
    ids = [*known, *(order or images)]
    pool = Pool(tuple(ids), apart=apart).acquire([Query(i) for i in known], -1)
    strategy.learn(known)
    parts = [strategy.propose(view(i, images[i]), context_for(seed, 0, i, "image")) for i in pool.unlabeled()]
    candidates, allowance = Candidates.concat(parts), Allowance("image", amount)
    listed = strategy.shortlist(candidates, pool, allowance, rng_for(seed, 0, "shortlist_features"))
    strategy.rows = (
        Rows.of_images({i: strategy.rows_of(view(i, images[i])) for i in listed}) if listed else Rows.concat([])
    )
    return [q.sample_id for q in strategy.select(candidates, pool, allowance, rng_for(seed, 0, "select"))]


def test_rare_classes_come_first_and_what_is_alike_is_passed_over():
    images = {
        "common": [(0, 0.5, [1, 0])] + [(0, 0.5, [0, 1])],  # largest entropy, no rare class
        "rare": [(1, 0.5, [1, 0])],
        "alike": [(1, 0.55, [1, 0.1])],
        "other": [(1, 0.6, [0, 1])],
        "empty": [],
    }
    assert choose(Ebal(beta=4), images, 2) == ["rare", "other"]
    assert choose(Ebal(beta=4), images, 5) == ["rare", "other", "common", "alike", "empty"]
    assert choose(Ebal(beta=4, intra=1.1, inter=-1), images, 3) == ["common", "rare", "alike"]  # top E
    assert choose(Ebal(beta=0), images, 3) == ["common", "rare", "alike"]  # nothing is meant for rare classes
    assert choose(Ebal(beta=0.1), images, 3) == ["rare", "common", "alike"]  # one fills the quota
    assert choose(Ebal(beta=4), images, 3, order=list(images)[::-1]) == choose(Ebal(beta=4), images, 3)


def test_images_of_a_group_stay_apart():
    images = {f"{k}": [(1, 0.5 + 0.04 * k, [np.cos(k), np.sin(k)])] for k in range(8)}
    apart = Apart({i: "g" for i in [*images, "labeled"]}, {i: int(i) for i in images} | {"labeled": 99}, min_gap=3)
    chosen = choose(Ebal(beta=4), images, 3, apart=apart)
    assert sorted(chosen) == ["0", "3", "6"]


def test_nothing_found_anywhere_buys_by_chance():
    images = {f"{k}": [] for k in range(9)}
    by_seed = [choose(Ebal(), images, 3, seed=s) for s in range(3)]
    assert all(len(set(c)) == 3 for c in by_seed) and len({tuple(c) for c in by_seed}) > 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"strategy\.alpha"):
        Ebal(alpha=0)
    with pytest.raises(ConfigError, match=r"strategy\.same"):
        Ebal(same=2)
