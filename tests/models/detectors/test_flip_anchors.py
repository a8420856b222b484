"""The symmetry of anchors: the permutation of §5.3, vectors L-7 to L-9, M-2."""

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.core.types import Detections
from al_lab.models.detectors.boxes import BoxCoder
from al_lab.models.detectors.flip import background, match_flipped, reflect
from al_lab.models.detectors.flip_anchors import corresponding_anchors
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.priors import SSD300_VOC, ssd_priors
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.strategies.detection.al_ssl import image_facts

LEVELS = (5776, 2166, 600, 150, 36, 4)


def head(priors, level_sizes=LEVELS):
    return HeadOutput(
        torch.zeros(1, len(priors), 3), torch.zeros(1, len(priors), 4), (), priors, (300, 300), level_sizes
    )


@pytest.fixture(scope="module")
def ssd():
    priors = ssd_priors(SSD300_VOC)
    return priors, corresponding_anchors(head(priors), BoxCoder())


def test_the_permutation_of_ssd300(ssd):
    _, pairs = ssd
    expected = {0: 148, 3: 151, 4: 144, 148: 0, 5776: 5884, 8692: 8700, 8693: 8701, 8728: 8728, 8731: 8731}
    assert {k: int(pairs.anchor[k]) for k in expected} == expected
    assert torch.equal(pairs.anchor[pairs.anchor], torch.arange(8732))
    assert int((pairs.anchor == torch.arange(8732)).sum()) == 160


def _sum_of_dx(ssd, center, width, anchor):
    """dx + dx' of two perfect predictions of one box."""
    priors, pairs = ssd
    boxes = torch.tensor(
        [[center - width / 2, 0.4, center + width / 2, 0.6], [1 - center - width / 2, 0.4, 1 - center + width / 2, 0.6]]
    )
    pair = torch.tensor([anchor, int(pairs.anchor[anchor])])
    return BoxCoder().encode(boxes.double(), priors[pair].double())[:, 0].tolist(), float(pairs.offset[anchor])


def test_l7_and_l8_the_offset_of_an_asymmetric_grid(ssd):
    (dx, dx_flipped), offset = _sum_of_dx(ssd, 0.30, 0.2, 40)  # map 0, column 10, anchor 0
    assert (dx, dx_flipped) == pytest.approx((2.0, -3.33333), abs=1e-5)
    assert offset == pytest.approx(-1.33333, abs=1e-5)
    (dx, dx_flipped), offset = _sum_of_dx(ssd, 0.45, 0.2, 7942 + 4 * 6 + 3)  # map 2, column 4, anchor 3
    assert (dx, dx_flipped) == pytest.approx((-1.14665965, -1.40147290), abs=1e-5)
    assert offset == pytest.approx(-2.54813254, abs=1e-5)
    assert ssd[1].offset[8692:].abs().max() < 1e-5  # maps 4 and 5 are symmetric


def test_a_grid_that_tiles_the_input_has_no_offset():
    network = TinyDetector(2, input_px=64)
    pairs = network.flip_anchors(network(torch.zeros(1, 3, 64, 64)))
    assert pairs.offset.abs().max() < 1e-5
    assert network.flip_anchors(network(torch.zeros(2, 3, 64, 64))) is pairs


def test_anchors_without_a_grid_are_refused():
    with pytest.raises(ConfigError, match="expected anchors on a regular grid"):
        corresponding_anchors(head(torch.rand(12, 4), (12,)), BoxCoder())


def test_l9_boxes_are_reflected():
    assert np.allclose(reflect(np.array([[0.1, 0.2, 0.4, 0.6]]), 1.0), [[0.6, 0.2, 0.9, 0.6]])
    assert reflect(np.array([[10.0, 20, 50, 60]]), 100).tolist() == [[50, 20, 90, 60]]


def test_m2_boxes_are_matched_by_overlap():
    boxes = np.array([[0.1, 0.2, 0.4, 0.6], [0.12, 0.22, 0.42, 0.62], [0.55, 0.5, 0.95, 0.9]], np.float32)
    flipped = np.array([[0.6, 0.2, 0.9, 0.6], [0.05, 0.52, 0.44, 0.88], [0.4, 0.05, 0.6, 0.15]], np.float32)
    probs = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    confidence, labels = probs[:, 1], np.zeros(3, np.int64)
    pairs = match_flipped(
        Detections(boxes, confidence, labels, probs), Detections(flipped, confidence, labels, probs), 1.0
    )
    assert pairs.flip_probs[0].tolist() == probs[0].tolist()
    assert pairs.flip_probs[1].tolist() == probs[0].tolist()  # box 0 is nearer to it, but it overlaps this one, too
    assert pairs.flip_probs[2].tolist() == probs[1].tolist()


@pytest.mark.parametrize(("activation", "seen", "least"), [("softmax", [0.1, 0.5, 0.4], 2.0), ("sigmoid", [0.8], 1.5)])
def test_an_object_that_vanishes_is_no_consistent_one(activation, seen, least):
    box, probs = np.array([[0, 0, 10, 10]], np.float32), np.array([seen], np.float32)
    found = Detections(box, probs.max(1), np.zeros(1, np.int64), probs, activation)
    elsewhere = Detections(box, probs.max(1), np.zeros(1, np.int64), probs, activation)
    for flipped in (Detections.none(len(seen), activation), elsewhere):
        pairs = match_flipped(found, flipped, 30)
        assert pairs.flip_probs.tolist() == [background(len(seen), activation).tolist()]
        assert image_facts(pairs)["inconsistency"] > least
    there = Detections(reflect(box, 30), elsewhere.confidence, elsewhere.labels, probs, activation)
    assert image_facts(match_flipped(found, there, 30))["inconsistency"] == 0
    nothing = match_flipped(Detections.none(len(seen), activation), elsewhere, 30)
    assert nothing.flip_probs.shape == (0, len(seen))


def test_of_several_partners_the_most_different_counts():
    box = np.array([[0, 0, 10, 10]], np.float32)
    found = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int64), np.array([[0.1, 0.9]], np.float32))
    probs = np.array([[0.5, 0.5], [0.2, 0.8]], np.float32)
    flipped = Detections(np.repeat(reflect(box, 20), 2, 0), probs[:, 1], np.zeros(2, np.int64), probs)
    assert match_flipped(found, flipped, 20).flip_probs.tolist() == [probs[0].tolist()]
