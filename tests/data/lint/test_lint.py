"""A whole judgment: of a pool whose selection is made to be odd, and in words."""

import numpy as np
import pytest

from al_lab.core.types import Annotation
from al_lab.data.lint.copies import Copies, Copy
from al_lab.data.lint.lint import Subject, Target, lint, rates_of
from al_lab.data.lint.objects import Objects
from al_lab.data.lint.words import alarms, number, sentences
from al_lab.data.near_vectors import unit

CLASSES = ("car", "bus", "train")
N = 300


def objects(labels_of):
    return Objects.known([Annotation.make([[0, 0, 16, 16]] * len(labels), labels) for labels in labels_of])


@pytest.fixture(scope="module")
def pool():
    """Each image has a car; the first hundred have a bus, every third has a train."""
    return objects([[0, *[1] * (n < 100), *[2] * (n % 3 == 0)] for n in range(N)])


def judged(pool, rows, target=None, **changes):
    ids = [f"i{n}" for n in range(N)]
    subject = Subject(ids, np.asarray(rows), CLASSES, pool, **{"rates": (2.0, 7.0), **changes})
    return lint(subject, target or Target("the validation set"), changes.get("copies", Copies()))


BUSES = [n for n in range(60) if n % 3]  # 40 images, with buses and without trains


def test_what_is_shown_too_often_and_what_starves(pool):
    found = judged(
        pool, BUSES, Target("the validation set", "as it is labeled", objects([[0, 1], [0], [0, 2], [0, 2]]))
    )
    car, bus, train = found.classes
    assert (bus.images, bus.boxes, train.images) == (40, 40, 0)
    assert bus.share == 0.5 and bus.target_share == pytest.approx(1 / 7) and bus.times == pytest.approx(3.5)
    assert bus.random_images.mean == pytest.approx(40 / 3, abs=1) and bus.random_times == pytest.approx(1.4, abs=0.1)
    assert train.starves and not bus.starves and not car.starves
    said = " | ".join(sentences(found))
    assert "The selection shows bus 3.50 times as often as the validation set (random selections 1.4" in said
    assert "The selection shows train 0 times as often as the validation set (random" in said
    assert alarms(found) == [s for s in sentences(found) if s.startswith("train starves: 0 of 40 images show it; of a")]


def test_measures_by_hand(pool):
    target = Target("the validation set", "", objects([[0, 1], [0, 1]]))
    found = {m.key: m for m in judged(pool, BUSES, target).measures}
    assert set(found) == {"classes", "counts", "sides", "num_classes", "side"}
    assert (found["classes"].value, found["counts"].value, found["sides"].value) == (0, 0, 0)
    assert found["classes"].percentile == found["counts"].percentile == 100
    assert found["num_classes"].value == 2 and found["num_classes"].percentile == 0
    assert found["side"].value == pytest.approx(16, rel=0.2) and found["side"].unit == "px"


def test_cost_is_that_of_images_and_boxes(pool):
    boxes, minutes = judged(pool, BUSES).cost
    assert boxes.value == 80 and minutes.value == pytest.approx((40 * 2 + 80 * 7) / 60)
    assert boxes.mean == pytest.approx(40 * (1 + 1 / 3 + 1 / 3), rel=0.03)
    assert sentences(judged(pool, BUSES))[0].startswith("40 of 300 images with 80 boxes, about 11 minutes of labeling")
    assert rates_of({"seconds_per_box": 9, "seconds_per_image": "x"}) == (2.0, 9.0) and rates_of(None) == (2.0, 7.0)


def test_a_target_known_by_its_classes_alone_and_none_at_all(pool):
    found = judged(pool, BUSES, Target("the test set", "as it is labeled", class_C=np.array([2.0, 2, 0])))
    assert [m.key for m in found.measures] == ["classes", "num_classes", "side"] and found.target == "the test set"
    assert found.classes[2].times is None  # the test set has no train, so nothing is as often as there
    bare = judged(pool, BUSES)
    assert bare.target == "" and bare.classes[1].target_share is None and bare.classes[2].starves
    assert not [s for s in sentences(bare) if "as often" in s]


def test_random_selections_of_a_sample_are_of_these_images_only(pool):
    found = judged(pool, BUSES, sample=np.array([100, 101, 103]))  # none has a bus, none a train
    assert found.is_sample and found.num_pool == 3
    assert found.classes[1].random_images.mean == 0 and found.cost[0].mean == 40


def test_embeddings_count_where_there_are_some(pool):
    x_NE = unit(np.random.default_rng(0).normal(size=(N, 8)))
    x_NE[:5] = 0
    found = judged(None, [0, 7, 8, 9], Target("the validation set", unit_VE=x_NE[7:10]), unit_NE=x_NE)
    assert [m.key for m in found.measures] == ["mmd", "nearest"] and found.measures[1].value == pytest.approx(
        0, abs=1e-3
    )
    assert found.notes[0].startswith("1 of the chosen images have no embedding")
    assert sentences(found)[0].startswith("To the validation set: distance of embeddings as sets (MMD) ")
    alone = judged(None, [7, 8, 9], unit_NE=x_NE)
    assert [m.key for m in alone.measures] == ["mmd"] and "with the pool's" in alone.notes[0]
    assert sentences(alone)[0].startswith("To the pool: ") and alone.target == ""
    assert not judged(None, [0, 1], unit_NE=x_NE).measures


def test_copies_in_words():
    copies = Copies([Copy("i1", "i0", False, "bits"), Copy("i2", "old", True, "bits")], 40, 5, 9)
    found = lint(Subject([f"i{n}" for n in range(40)], np.arange(40), CLASSES), Target(""), copies)
    assert sentences(found) == alarms(found) == [
        "2 of 40 images are near copies: 1 of a better ranked one, 1 of a labeled one (looked at: fingerprints of 40 "
        "chosen and 5 of 9 labeled images)"
    ]  # fmt: skip
    assert found.to_json()["copies"][1] == {"id": "i2", "like": "old", "is_labeled": True, "what": "bits"}
    nobody = lint(Subject(["a"], np.arange(1), CLASSES), Target(""), Copies())
    assert sentences(nobody) == []


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (3.14159, "3.14"), (31.4159, "31.4"), (1234.5, "1,234")])
def test_numbers_have_as_many_digits_as_they_deserve(value, text):
    assert number(value) == text and number(value, "px") == f"{text} px"
