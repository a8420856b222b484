"""PPAL: weights, utilities and choices by the fact sheet's numbers, and the two passes."""

import math

import numpy as np
import pytest

from al_lab.acquisition.diversity.k_medoids import k_medoids
from al_lab.core.budget import Allowance
from al_lab.core.errors import ConfigError
from al_lab.core.pool import Pool
from al_lab.core.rng import rng_for
from al_lab.core.strategy import context_for
from al_lab.core.types import Candidates, Detections, ImageView, Query
from al_lab.strategies.rivals._two_pass import Rows
from al_lab.strategies.rivals.ppal import Ppal, class_weights

IDS = tuple(f"{k:02d}" for k in range(14))


def view(i, boxes, difficulty=(0.25, 0.75), size_hw=(200, 200)):
    """Return a view of boxes (class, s, width, height)."""
    boxes = sorted(boxes, key=lambda b: -b[1])
    s = np.array([b[1] for b in boxes], np.float32)
    places = np.array([[10, 10, 10 + w, 10 + h] for _, _, w, h in boxes], np.float32).reshape(-1, 4)
    found = Detections(places, s, np.array([b[0] for b in boxes], np.int64), s[:, None].repeat(2, 1), "sigmoid")
    return ImageView(i, size_hw, found, extras={"class_difficulty": np.array(difficulty, np.float32)})


def utility(*boxes, **options):
    return Ppal(**options).propose(view("a", boxes), context_for(0, 0, "a", "image")).utility[0]


def test_class_weights_are_the_sheets():
    assert math.expm1(1 / 0.3) == pytest.approx(27.031625, abs=1e-6)
    found = class_weights(np.array([0, 0.1, 0.25, 0.5, 0.75, 1]), 0.3, 0.2)
    assert found == pytest.approx([1, 1.078551, 1.122923, 1.160514, 1.183448, 1.2], abs=1e-6)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0.9, 40, 30), 0.365043),
        ((0, 0.5, 16, 16), 0),  # the root of its area is 16
        ((0, 0.5, 17, 16), 0.778351),
        ((1, 0.2, 100, 19), 0),  # 5.263 : 1
        ((1, 0.2, 100, 21), 0.592200),
        ((1, 0.049, 50, 50), 0),
        ((0, 0.05, 30, 30), 0.222917),
    ],
)
def test_a_box_counts_as_in_the_sheet(box, expected):
    assert utility(box) == pytest.approx(expected, abs=1e-6)


def test_an_image_is_the_sum_of_its_boxes():
    boxes = [(0, 0.9, 40, 30), (0, 0.5, 16, 16), (0, 0.5, 17, 16), (1, 0.2, 100, 19), (1, 0.2, 100, 21)]
    assert utility(*boxes, (1, 0.049, 50, 50), (0, 0.05, 30, 30)) == pytest.approx(1.958512, abs=1e-6)
    assert utility() == 0
    assert utility((0, 0.5, 300, 17)) == 0  # 190 : 17 within the image
    assert utility((0, 0.5, 16, 16), min_side_px=0) == pytest.approx(0.778351, abs=1e-6)
    assert "hard" not in Ppal().explain(view("a", boxes), None, ("x", "y"), 1.0).words
    assert Ppal().explain(view("a", boxes), None, ("x", "y"), 1.0).parts["boxes"] == 3


def choose(strategy, ids=IDS, amount=3, seed=0, labeled=IDS[:2]):
    """Let it list and look at images whose one or two boxes follow from their ids."""
    pool = Pool(tuple(ids)).acquire([Query(i) for i in labeled], -1)
    shown = {i: view(i, [(int(i) % 2, 0.1 + 0.05 * (int(i) % 8), 60, 60)]) for i in ids}
    parts = [strategy.propose(shown[i], context_for(seed, 0, i, "image")) for i in pool.unlabeled()]
    candidates, allowance = Candidates.concat(parts), Allowance("image", amount)
    listed = strategy.shortlist(candidates, pool, allowance, rng_for(seed, 0, "shortlist_features"))
    vectors = np.random.default_rng(0).normal(size=(len(IDS), 5))
    rows = {}
    for i in listed:
        extras = {"box_features": vectors[[IDS.index(i)]].astype(np.float32)}
        found = shown[i].detections
        rows[i] = strategy.rows_of(ImageView(i, (200, 200), found, extras=extras))
    strategy.rows = Rows.of_images(rows)
    return listed, strategy.select(candidates, pool, allowance, rng_for(seed, 0, "select"))


def test_the_list_has_the_largest_utilities_and_the_medoids_are_bought():
    listed, chosen = choose(Ppal(factor=2))
    every, _ = choose(Ppal(factor=99))
    assert len(listed) == 6 and listed == every[:6] and len(every) == 12
    bought = {q.sample_id for q in chosen}
    assert len(bought) == 3 and bought <= set(listed)
    assert [q.utility for q in chosen] == sorted((q.utility for q in chosen), reverse=True)


def test_the_choice_is_that_of_k_medoids_whatever_the_pools_order():
    strategy = Ppal()
    _, chosen = choose(strategy)
    turned = Ppal()
    assert {q.sample_id for q in choose(turned, ids=IDS[::-1])[1]} == {q.sample_id for q in chosen}
    ids = [strategy.rows.ids[n] for n in np.argsort(rng_for(0, 0, "select").tie_keys(strategy.rows.ids))]
    rows = strategy.rows.of(ids)
    unit = rows.feature.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unlike = np.where(rows.label[:, None] == rows.label, 1 - unit @ unit.T, 2.0)
    s = rows.confidence.astype(float)[:, None]
    unlike = (unlike * s / (s + 1e-5) + (unlike * s / (s + 1e-5)).T) / 2
    first = int(rng_for(0, 0, "select").generator("first center").integers(len(ids)))
    assert {q.sample_id for q in chosen} == {ids[n] for n in k_medoids(unlike, 3, first)}


def test_no_more_than_there_are_are_bought():
    listed, chosen = choose(Ppal(), amount=99)
    assert len(listed) == len(chosen) == 12


def test_the_two_passes_are_the_released_codes():
    first, second = Ppal().view_options(), Ppal(as_released=True).closer_options()
    assert first["detections"] == {"conf_min": 0.0, "nms_iou": 0.6, "max_per_image": 200, "nms_pre": 3000}
    assert second["detections"] == {"conf_min": 0.05, "nms_iou": 0.5, "max_per_image": 100, "nms_pre": 1000}
    assert second["box_features"] == {"sampling": "released"}
    with pytest.raises(ConfigError, match=r"strategy\.factor"):
        Ppal(factor=0.5)
    with pytest.raises(TypeError, match="box_features"):
        Ppal().rows_of(view("a", []))
