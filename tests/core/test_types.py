from pathlib import Path

import numpy as np
import pytest

from al_lab.core.documents import Entry, Source
from al_lab.core.errors import DataError
from al_lab.core.record.predictions import load_predictions, save_predictions
from al_lab.core.types import Annotation, Candidates, Detections, Region


def test_annotation_survives_json_to_the_bit():
    a = Annotation.make([[0.1, 1 / 3, 7, 9]], [2], [True])
    b = Annotation.from_json(Entry(a.to_json(), Source(Path("a.jsonl"), "labels")))
    assert np.array_equal(a.boxes_xyxy, b.boxes_xyxy) and b.difficult.tolist() == [True] and b.crowd.tolist() == [False]


@pytest.mark.parametrize(
    "make", [lambda: Annotation.make([[0, 0, 1, 1]], [1, 2]), lambda: Annotation.make([[0, 0, np.nan, 1]], [1])]
)
def test_annotation_refuses(make):
    with pytest.raises(DataError):
        make()


def test_non_finite_utility_is_refused_with_the_sample():
    with pytest.raises(DataError, match="'b'"):
        Candidates.images(["a", "b"], [0.0, np.nan])


def test_candidates_round_trip_and_concat(tmp_path):
    parts = [Candidates.pixels(i, (4, 5), [0, 19], [0.5, u], radius_px=1, H=u) for i, u in (("x/1", 0.25), ("y", 0.75))]
    both = Candidates.concat(parts)
    both.save(tmp_path / "c.npz")
    again = Candidates.load(tmp_path / "c.npz")
    assert (
        again.sample_ids == ("x/1", "y")
        and again.sample.tolist() == [0, 0, 1, 1]
        and again.info["H"].tolist() == [0.25, 0.75]
    )
    assert again.region_of(0).pixels.tolist() == [0, 1, 5, 6]
    assert again.region_of(3).pixels.tolist() == [13, 14, 18, 19]
    with pytest.raises(DataError, match="one kind"):
        Candidates.concat([parts[0], Candidates.images(["z"], [1.0])])


def test_predictions_round_trip(tmp_path):
    d = Detections(
        np.array([[0, 0, 2, 2]], np.float32),
        np.array([0.9], np.float32),
        np.array([1]),
        np.array([[0.05, 0.05, 0.9]], np.float32),
    )
    save_predictions(tmp_path / "p.npz", {"a": Detections.none(3), "b": d})
    again = load_predictions([tmp_path / "p.npz"])
    assert (
        len(again["a"]) == 0 and again["b"].boxes_xyxy.tolist() == [[0, 0, 2, 2]] and again["b"].labels.tolist() == [1]
    )


def test_some_boxes_keep_their_flipped_distributions():
    d = Detections(
        np.zeros((2, 4), np.float32),
        np.array([0.9, 0.1], np.float32),
        np.array([0, 1]),
        np.eye(2, dtype=np.float32),
        "softmax",
        np.array([[1, 2], [3, 4]], np.float32),
    )
    assert d.above(0.9).flip_probs.tolist() == [[1, 2]]
    assert d.rows(np.array([1, 0])).flip_probs.tolist() == [[3, 4], [1, 2]]
    assert Detections.none(3).rows(np.zeros(0, int)).flip_probs is None
    assert Detections.none(3).probs.shape == (0, 3)


def test_a_region_is_sorted_pixels_of_its_image():
    region = Region(np.array([0, 4, 5]), (2, 3))
    assert region.mask().tolist() == [[True, False, False], [False, True, True]]
    assert Region.from_mask(region.mask()).pixels.tolist() == [0, 4, 5]
    assert len(Region(np.zeros(0, np.int64), (2, 3))) == 0
    for pixels in ([-1, 2], [0, 6], [2, 1], [1, 1], [[0, 1]]):
        with pytest.raises(DataError, match="sorted unique pixel indices below 2x3"):
            Region(np.array(pixels), (2, 3))


def test_windows_at_the_border_are_clipped():
    candidates = Candidates.pixels("a", (3, 4), [0, 6, 11], [1.0, 1, 1], radius_px=1)
    assert candidates.region_of(0).pixels.tolist() == [0, 1, 4, 5]
    assert candidates.region_of(1).pixels.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert candidates.region_of(2).pixels.tolist() == [6, 7, 10, 11]
    assert Candidates.images(["a"], [1.0]).region_of(0) is None


def test_whole_images_round_trip(tmp_path):
    Candidates.images(["a", "b"], [0.5, 1.0], H=[1, 2]).save(tmp_path / "c.npz")
    again = Candidates.load(tmp_path / "c.npz")
    assert (again.sample_ids, again.center, again.size_hw, again.radius_px) == (("a", "b"), None, None, 0)
    assert again.utility.tolist() == [0.5, 1.0] and again.info["H"].tolist() == [1, 2]
