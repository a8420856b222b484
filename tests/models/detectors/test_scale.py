"""Which anchors see the same in an image and in the same image at half the size."""

import logging

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.models.detectors.boxes import to_corners
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.priors import SSD300_VOC, ssd_priors
from al_lab.models.detectors.scale import halve, same_anchors, scale_pairs
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.sed import SED
from tests.objectives.heads import Row


def predict(network, *size):
    with torch.no_grad():
        return network.eval()(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("size", [(64, 96), (96, 160), (160, 352)])
def test_retinanets_anchors_double_from_level_to_level(retina_r18, size):
    pytest.importorskip("mmdet")
    from al_lab.models.mm.mmdet_network import MMDetNetwork

    network = MMDetNetwork(3, retina_r18, (64, 96), resize="keep_ratio")
    full = predict(network, *size)
    half = predict(network, *halve(torch.zeros(1, 3, *size), network).shape[2:])
    pairs = scale_pairs(full, half, 0.999)
    assert half.input_hw == (size[0] // 2, size[1] // 2)
    assert half.level_sizes[:-1] == full.level_sizes[1:]
    assert pairs.half.tolist() == list(range(sum(half.level_sizes[:-1])))
    assert pairs.full.tolist() == list(range(full.level_sizes[0], sum(full.level_sizes)))
    assert pairs.stretch.tolist() == [1, 1, 1, 1]
    assert torch.allclose(half.priors[pairs.half], full.priors[pairs.full], atol=1e-6)


def test_a_fixed_input_holds_the_half_size_image_in_its_corner():
    network = TinyDetector(2, input_px=96)
    image = torch.arange(96.0 * 96).view(1, 1, 96, 96).repeat(1, 3, 1, 1)
    canvas = halve(image, network)
    assert canvas.shape == image.shape
    assert canvas[0, 0, 3, 5] == image[0, 0, 6:8, 10:12].mean()
    assert canvas[:, :, 48:].abs().max() == canvas[:, :, :, 48:].abs().max() == 0
    head = predict(network, 96, 96)
    pairs = scale_pairs(head, head, 0.5)
    # Maps of 12, 6 and 3 with four anchors a cell: rows and columns 0..5 of the first, 0..2 of the second.
    first = torch.arange(576).view(12, 12, 4)[:6, :6].reshape(-1)
    second = 576 + torch.arange(144).view(6, 6, 4)[:3, :3].reshape(-1)
    assert pairs.half.tolist() == [*first.tolist(), *second.tolist()]
    assert pairs.full.tolist() == list(range(576, 756))
    assert torch.allclose(2 * head.priors[pairs.half, :2], head.priors[pairs.full, :2], atol=1e-6)
    assert pairs.stretch.tolist() == [2, 2, 2, 2]


def test_ssd300_has_partners_where_its_anchors_overlap():
    sizes, priors = (5776, 2166, 600, 150, 36, 4), ssd_priors(SSD300_VOC)
    head = HeadOutput(torch.zeros(1, len(priors), 3), torch.zeros(1, len(priors), 4), (), priors, (300, 300), sizes)
    pairs = scale_pairs(head, head, 0.5)
    level = torch.repeat_interleave(torch.arange(6), torch.tensor(sizes))
    assert torch.equal(level[pairs.half] + 1, level[pairs.full])
    assert (level[pairs.half] == 0).sum() == 19 * 19 * 4  # four of the six shapes of the second level
    a, b = to_corners(priors[pairs.half]) * 2, to_corners(priors[pairs.full])
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).prod(1)
    assert (inner / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner)).min() >= 0.5
    assert torch.allclose(a[:1444, :2] + a[:1444, 2:], b[:1444, :2] + b[:1444, 2:], atol=1e-4)


def test_odd_sides_are_padded():
    network = TinyDetector(2, input_px=32)
    network.resize = "keep_ratio"
    assert halve(torch.ones(1, 3, 33, 40), network).shape == (1, 3, 17, 20)
    assert halve(torch.ones(1, 3, 33, 40), network)[0, 0, 16, 0] == 0.5


def test_every_anchor_sees_what_it_sees():
    head = Row(2, 4).head(torch.full((1, 4, 3), 1 / 3))
    pairs = same_anchors(head)
    assert pairs.half.tolist() == pairs.full.tolist() == [0, 1, 2, 3]


def test_one_level_has_no_partners_and_says_so(caplog):
    network = Row(2, 4)
    head = network.head(torch.full((1, 4, 3), 1 / 3))
    objective = SED()
    with caplog.at_level(logging.WARNING):
        assert len(objective.pairs(network, head, head).half) == 0
        objective.pairs(network, head, head)
    assert caplog.text.count("L_scale is 0") == 1


def test_anchors_without_a_grid_are_refused():
    priors = torch.rand(12, 4)
    priors[:4, 1] = 0.1
    priors[4:, 1] = 0.2
    priors[:3, 0] = 0.1
    head = HeadOutput(torch.zeros(1, 12, 3), torch.zeros(1, 12, 4), (), priors, (32, 32), (12,))
    with pytest.raises(ConfigError, match="expected anchors on a regular grid"):
        scale_pairs(head, head, 0.5)
