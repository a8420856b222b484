"""The mixture read-out: of each detection, the four numbers of its own anchor and class."""

import numpy as np
import pytest
import torch

from al_lab.learners.readouts.look import Look
from al_lab.learners.readouts.mixture import box_mixture
from al_lab.models.detectors.branches.mixture import MixtureBranch
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.detectors.tiny import TinyDetector


def look(conf_min: float) -> Look:
    torch.manual_seed(0)
    network = TinyDetector(3, 64, (8, 8, 8, 8, 8), branches=["mixture"]).eval()
    images, valid, sizes = torch.randn(2, 3, 64, 64), torch.full((2, 2), 64), [(64, 64), (32, 80)]
    with torch.inference_mode():
        head = network.look(images, valid)
    found = network.detections(head, sizes, valid, Postprocess(conf_min=conf_min))
    return Look(network, images, head, found, sizes, valid)


def test_each_detection_has_its_own_numbers() -> None:
    seen = look(0.35)
    branch = seen.network.branch("mixture")
    assert isinstance(branch, MixtureBranch)
    with torch.inference_mode():
        all_anchors, rows = branch.read(seen.head.extra), box_mixture(seen, {})
    for image, (found, row) in enumerate(zip(seen.detections, rows, strict=True)):
        assert row["box_mixture"].shape == (len(found), 4)
        assert len(found)
        assert found.anchor is not None
        for anchor, label, values in zip(found.anchor, found.labels, row["box_mixture"], strict=True):
            pi, mu, v = (part[image, int(anchor)].numpy() for part in all_anchors[:3])
            p = (np.exp(mu) / np.exp(mu).sum(1, keepdims=True))[:, label + 1]
            of_class = [(pi * v[:, label + 1]).sum(), (pi * (p - (pi * p).sum()) ** 2).sum()]
            pi, mu, v = (part[image, int(anchor)].numpy() for part in all_anchors[3:])
            mean = (pi * mu).sum(1, keepdims=True)
            of_box = [(pi * v).sum(1).max(), (pi * (mu - mean) ** 2).sum(1).max()]
            assert values == pytest.approx([*of_class, *of_box], rel=1e-4, abs=1e-7)


def test_nothing_is_found_in_an_empty_image() -> None:
    with torch.inference_mode():
        rows = box_mixture(look(0.99), {})
    assert [row["box_mixture"].shape for row in rows] == [(0, 4), (0, 4)]
