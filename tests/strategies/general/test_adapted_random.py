import numpy as np

from al_lab.core.budget import Allowance
from al_lab.core.pool import Apart, Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, Detections, ImageView
from al_lab.strategies.general.adapted_random import AdaptedRandom


def view(i, labels, confidence=0.8):
    s = np.full(len(labels), confidence, np.float32)
    probs = np.zeros((len(labels), 3), np.float32)
    probs[np.arange(len(labels)), labels] = s
    return ImageView(
        i, (9, 9), Detections(np.zeros((len(labels), 4), np.float32), s, np.array(labels, int), probs, "sigmoid")
    )


def choose(strategy, views, amount, seed=0, apart=None):
    pool = Pool(tuple(v.sample_id for v in views), apart=apart)
    parts = [strategy.propose(v, context_for(seed, 0, v.sample_id, "image")) for v in views]
    queries = strategy.select(Candidates.concat(parts), pool, Allowance("image", amount), rng_for(seed, 0, "select"))
    return [q.sample_id for q in queries]


# 60 images of class 0, 3 of class 1, 2 of class 2, 10 of nothing
KINDS = (("a", 60, [0, 0]), ("b", 3, [1]), ("c", 2, [2]), ("n", 10, []))
VIEWS = [view(f"{kind}{k}", labels) for kind, count, labels in KINDS for k in range(count)]


def test_each_class_has_as_many_as_there_are():
    for seed in range(5):
        kinds = [i[0] for i in choose(AdaptedRandom("classes"), VIEWS, 9, seed)]
        assert len(kinds) == 9 and kinds.count("b") == 3 and kinds.count("c") == 2 and kinds.count("a") >= 3
    assert choose(AdaptedRandom("classes"), VIEWS, 9, 0) != choose(AdaptedRandom("classes"), VIEWS, 9, 1)


def test_unsure_boxes_are_not_seen():
    faint = [view(v.sample_id, v.detections.labels.tolist(), 0.2) for v in VIEWS]
    kinds = [i[0] for s in range(5) for i in choose(AdaptedRandom("classes"), faint, 9, s)]
    assert kinds.count("b") + kinds.count("c") < 15


def test_members_of_a_group_are_not_taken_together():
    apart = Apart({v.sample_id: "rare" if v.sample_id[0] in "bc" else v.sample_id for v in VIEWS})
    kinds = [i[0] for i in choose(AdaptedRandom("classes"), VIEWS, 9, apart=apart)]
    assert len(kinds) == 9 and kinds.count("b") + kinds.count("c") == 1


def test_images_are_drawn_in_proportion_to_their_boxes():
    views = [view("many", [0] * 6, 0.5), view("one", [0], 1.0), view("none", [])]
    first = [choose(AdaptedRandom("boxes", floor=0.5), views, 1, seed)[0] for seed in range(900)]
    share = np.array([first.count(i) for i in ("many", "one", "none")]) / 900
    assert np.abs(share - np.array([3, 1, 0.5]) / 4.5).max() < 0.06


def test_reasons():
    ctx = context_for(0, 0, "x", "image")
    shown = AdaptedRandom("classes").explain(view("x", [2, 0, 0]), ctx, ("cat", "dog", "owl"), 0.0)
    assert shown.words.endswith("it shows cat, owl") and abs(shown.parts["expected"] - 2.4) < 1e-6
    assert "2.4 boxes" in AdaptedRandom("boxes").explain(view("x", [2, 0, 0]), ctx, ("cat", "dog", "owl"), 0.0).words
