"""AL-SSL's acquisition: vectors AQ-1..AQ-8."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import Rng
from al_lab.core.strategy import ProposeContext
from al_lab.core.types import Candidates, Detections, ImageView, Query
from al_lab.models.detectors.flip import FlipRule, background
from al_lab.models.detectors.head import HeadOutput
from al_lab.strategies.detection.al_ssl import AlSsl, image_facts
from tests.objectives.heads import Row

P = [[0.05, 0.52, 0.22, 0.21], [0.05, 0.90, 0.03, 0.02], [0.55, 0.40, 0.03, 0.02], [0.30, 0.60, 0.05, 0.05]]
Q = [[0.05, 0.50, 0.24, 0.21], [0.60, 0.35, 0.03, 0.02], [0.05, 0.90, 0.02, 0.03], [0.05, 0.05, 0.30, 0.60]]
BOXES = [[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.8, 0.8], [0.1, 0.6, 0.4, 0.9], [0.52, 0.5, 0.82, 0.8]]


class Four(Row):
    """Four anchors with the fact sheet's boxes; its input is a square."""

    def pair(self, p, q) -> tuple[HeadOutput, HeadOutput]:
        deltas = self.code.encode(torch.tensor(BOXES), self.priors)[None]
        head = self.head(torch.tensor([p]), deltas)
        return head, self.head(torch.tensor([q]).flip(1), deltas.flip(1))


def look(p=P, q=Q, **rule) -> Detections:
    network = Four(3, 4)
    size = torch.tensor([network.input_hw])
    return FlipRule(**rule).compare(network, *network.pair(p, q), [(100, 100)], size)[0]


def test_aq1_the_image_of_the_fact_sheet():
    facts = image_facts(look())
    assert facts["count"] == 2  # a2 is unsure, a3 is suppressed by a1
    assert facts["entropy"] == pytest.approx(0.83003476, abs=1e-6)
    assert facts["inconsistency"] == pytest.approx(0.94307627, abs=1e-6)
    (candidate,) = AlSsl().propose(ImageView("a", (100, 100), flip_detections=look()), context()).utility
    assert candidate == pytest.approx(0.78278609, abs=1e-6)
    assert facts["box"] == pytest.approx([50, 50, 80, 80], abs=1e-3)
    assert (facts["box_label"], facts["box_probs"].tolist(), facts["box_flip_probs"].tolist()) == (
        0,
        pytest.approx(P[1]),
        pytest.approx(Q[1]),
    )


def context():
    return ProposeContext(None, "image", Rng(0, "x"))


@pytest.mark.parametrize(
    ("name", "p", "q", "h", "j"),
    [
        ("AQ-2 no box is sure enough", [[0.6, 0.2, 0.1, 0.1]] * 4, [[0.1, 0.7, 0.1, 0.1]] * 4, False, False),
        (
            "AQ-3 no contradiction",
            [P[1], *[[0.97, 0.01, 0.01, 0.01]] * 3],
            [P[1], *[[0.97, 0.01, 0.01, 0.01]] * 3],
            True,
            False,
        ),
        (
            "AQ-4 exactly one half counts",
            [[0.3, 0.5, 0.1, 0.1], *[[0.97, 0.01, 0.01, 0.01]] * 3],
            [[0.3, 0.1, 0.5, 0.1]] * 4,
            True,
            True,
        ),
        ("AQ-5 found in the flipped image only", [[0.97, 0.01, 0.01, 0.01]] * 4, [P[1]] * 4, False, False),
    ],
)
def test_aq2_to_aq5(name, p, q, h, j):
    facts = image_facts(look(p, q))
    assert (facts["entropy"] > 0, facts["inconsistency"] > 1e-9) == (h, j)
    utility = AlSsl().propose(ImageView("a", (100, 100), flip_detections=look(p, q)), context()).utility[0]
    assert (utility > 1e-9) == (h and j)


def candidates():
    h, j = np.array([0.9, 0.8, 0.5, 0.3, 0.1, 0]), np.array([0.1, 0.3, 0.5, 2, 3, 0])
    return Candidates.images([f"i{k}" for k in range(6)], h * j, entropy=h, inconsistency=j, draw=np.linspace(0, 1, 6))


@pytest.mark.parametrize(
    ("options", "bought"),
    [
        ({}, [3, 4]),
        ({"score": "prefilter", "prefilter_m": 3}, [2, 1]),
        ({"score": "entropy"}, [0, 1]),
        ({"score": "inconsistency"}, [4, 3]),
        ({"score": "prefilter", "prefilter_m": 3000}, [4, 3]),
    ],
)
def test_aq6_and_aq8_the_same_candidates_are_ranked_by_any_rule(options, bought):
    found = candidates()
    pool = Pool(found.sample_ids)
    queries = AlSsl(**options, ties="id").select(found, pool, Allowance("image", 2), Rng(0, "select"))
    assert [q.sample_id for q in queries] == [f"i{k}" for k in bought]


def test_the_prefilter_keeps_as_many_as_the_released_code_does():
    assert inspect.signature(AlSsl).parameters["prefilter_m"].default == 3000


def test_the_prefilter_counts_open_images_alone():
    found = candidates()
    pool = Pool(found.sample_ids).acquire([Query("i0"), Query("i1")], 0)
    strategy = AlSsl(score="prefilter", prefilter_m=2, ties="id")
    queries = strategy.select(found, pool, Allowance("image", 2), Rng(0, "select"))
    assert [q.sample_id for q in queries] == ["i3", "i2"]  # the two surest to be unsure of those that are left
    assert all(q.utility > 0 for q in queries)


def test_who_passes_the_prefilter_among_equals_is_drawn():
    h, j = np.ones(12), np.arange(1.0, 13)
    found = Candidates.images([f"i{k:02d}" for k in range(12)], h * j, entropy=h, inconsistency=j, draw=j)
    pool = Pool(found.sample_ids)

    def bought(ties: str, seed: int) -> tuple[str, ...]:
        strategy = AlSsl(score="prefilter", prefilter_m=3, ties=ties)
        return tuple(q.sample_id for q in strategy.select(found, pool, Allowance("image", 3), Rng(seed, "select")))

    assert {bought("id", seed) for seed in range(5)} == {("i02", "i01", "i00")}
    assert len({bought("hash", seed) for seed in range(5)}) > 1


def test_aq7_the_scale_of_the_entropy_changes_nothing():
    found = candidates()
    scaled = dataclasses.replace(found, info={**found.info, "entropy": found.info["entropy"] * 3.0445})
    picks = [
        [q.sample_id for q in AlSsl().select(c, Pool(found.sample_ids), Allowance("image", 5), Rng(0, "s"))]
        for c in (found, scaled)
    ]
    assert picks[0] == picks[1]


def test_boxes_may_correspond_by_overlap():
    by_overlap = look(matching="iou")
    assert len(by_overlap) == 2
    # The flipped image shows its own boxes, sure ones only; here none of them lies where a reflected box should.
    nothing = background(by_overlap.probs.shape[1], "softmax")
    is_background = (by_overlap.flip_probs == nothing).all(1).tolist()
    assert is_background in ([True, True], [True, False], [False, True])


def test_sigmoid_heads():
    probs = np.array([[0.6, 0.3]], np.float32)
    found = Detections(
        np.array([[0, 0, 9, 9]], np.float32),
        probs[:, 0],
        np.zeros(1, np.int64),
        probs,
        "sigmoid",
        np.array([[0.2, 0.3]], np.float32),
    )
    facts = image_facts(found)
    entropy = sum(-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.6, 0.3)) / (2 * np.log(2))
    assert facts["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert facts["inconsistency"] == pytest.approx(0.5 * 0.4 * (np.log(0.6 / 0.4) - np.log(0.2 / 0.8)), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": "products"}, "product"),
        ({"matching": "anchor"}, "index"),
        ({"count_thresh": 1.0}, "count_thresh"),
        ({"prefilter_m": 0}, "prefilter"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AlSsl(**arguments)
