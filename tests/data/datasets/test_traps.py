"""What verify names although every file can be read."""

import numpy as np
import pytest
from PIL import Image

from al_lab.config.checks import check_data
from al_lab.config.load import compose
from al_lab.config.parts import Parts
from al_lab.core.errors import DataError
from al_lab.data.datasets.voc_folder import VOCFolder

BOX = (5, 5, 20, 20)


def messages(dataset, severity):
    return [f.message for f in dataset.verify() if f.severity == severity]


@pytest.mark.parametrize("twin", ["Cat", "cat ", "c_at"])
def test_class_names_that_differ_only_in_case_or_blanks(voc_tree, twin):
    root = voc_tree({"a": [("cat", *BOX)], "b": [("dog", *BOX)]}, classes=())
    dataset = VOCFolder(str(root), classes=["cat", "dog", twin])
    assert messages(dataset, "warning") == [f"classes 'cat' and {twin!r} differ only in case, blanks or separators"]


def test_the_same_box_and_class_twice(voc_tree):
    root = voc_tree({"a": [("cat", *BOX), ("dog", *BOX), ("cat", *BOX), ("cat", *BOX)], "b": [("cat", *BOX)]})
    (found,) = messages(VOCFolder(str(root), test_split="none"), "warning")
    assert found.startswith("a: 2 objects are copies of another one")


def test_a_test_set_without_objects(voc_tree):
    objects = {"a": [("cat", *BOX)], "b": [], "c": [("dog", *BOX, True)]}
    root = voc_tree(objects, {"train": ["a"], "test": ["b", "c"]})
    (found,) = messages(VOCFolder(str(root)), "error")
    assert found == "expected at least one object in the test set, got none in 2 images"
    root = voc_tree(objects | {"b": [("cat", *BOX)]}, {"train": ["a"], "test": ["b", "c"]})
    assert not messages(VOCFolder(str(root)), "error")


def test_near_copies_across_a_split_are_named_and_within_the_pool_counted(voc_tree):
    root = voc_tree({i: [("cat", *BOX)] for i in "abcd"}, {"train": ["a", "b", "c"], "test": ["d"]})
    scene = Image.fromarray(np.random.default_rng(1).integers(0, 255, (5, 6, 3), np.uint8)).resize((60, 40))
    for name, quality in (("a", 95), ("b", 40), ("d", 60)):
        scene.save(root / "JPEGImages" / f"{name}.jpg", quality=quality)
    dataset = VOCFolder(str(root))
    named = messages(dataset, "warning")
    assert len(named) == 2 and all("looks like" in m and "(test)" in m for m in named)
    assert "1 pairs of pool images look the same (neighbouring frames, copies)" in messages(dataset, "info")


@pytest.mark.parametrize("lists", [{"train": "ab", "test": "c"}, None])
def test_what_would_stop_a_campaign_later_is_said_before_anything_is_created(voc_tree, tmp_path, lists):
    objects = {"a": [("cat", *BOX)], "b": [("dog", *BOX)], "c": []}
    root = voc_tree(objects, {k: list(v) for k, v in lists.items()} if lists else None)
    if lists is None:
        (root / "Annotations" / "b.xml").write_text("<annotation>")
        (root / "Annotations" / "c.xml").write_text("<annotation")
    command = ["dataset=folder", f"dataset.root={root}", "strategy=random", "debug=smoke", "budget.initial=1"]
    parts = Parts(compose([*command, "budget.per_cycle=1", "budget.cycles=1", "dataset.test_fraction=0"]))
    sentence = (
        r"got none in 1 images; choose another test set" if lists else r"b\.xml: b: .*and 1 more; al-lab data verify"
    )
    with pytest.raises(DataError, match=sentence):
        check_data(parts)
