"""Dropout of channels: drawn once for a whole pass, on in training, and nothing else in the network changes."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from al_lab.config.build import build
from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.models.detectors.lite import LiteDetector
from al_lab.models.detectors.looks.dropout import DropChannels, one_draw
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.models.mm.mmdet_network import MMDetNetwork

CONF = Path(__file__).parents[4] / "conf" / "detector"
PASS = Rng(0, 3, "passes", 0)


def tiny(dropout=None, seed=0):
    torch.manual_seed(seed)
    return TinyDetector(2, input_px=32, widths=(8, 8, 16, 16, 16), dropout=dropout).eval()


@pytest.fixture
def images():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def logits(network, images, rng=PASS):
    with torch.no_grad(), one_draw(network, rng):
        return network(images).logits


def test_a_pass_is_one_network_whatever_batches_it_is_shown_in(images):
    network = tiny({"p": 0.3})
    together = logits(network, images)
    alone = torch.cat([logits(network, image[None]) for image in images.flip(0)]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert not torch.allclose(logits(network, images, Rng(0, 3, "passes", 1)), together)
    assert not torch.allclose(logits(network, images, Rng(1, 3, "passes", 0)), together)


def test_the_same_channels_are_dropped_from_all_images_and_places():
    drop = DropChannels(0.25, 400).eval()
    ones = torch.ones(3, 400, 2, 5)
    with one_draw(drop, PASS):
        left = drop(ones)
    assert sorted(set(left.flatten().tolist())) == [0, pytest.approx(4 / 3)]
    assert (left == left[:1, :, :1, :1]).all() and left.mean().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(drop(ones), ones)  # the pass is over


def test_outside_a_pass_nothing_is_dropped(images):
    plain, network = tiny(), tiny({"p": 0.5})
    assert plain.state_dict().keys() == network.state_dict().keys()
    assert torch.equal(plain(images).logits, network(images).logits)
    torch.testing.assert_close(logits(tiny({"p": 0.0}), images), plain(images).logits)
    torch.testing.assert_close(logits(plain, images), plain(images).logits)
    assert set(network.provides) - set(plain.provides) == {"box_mutual_information"}


def test_training_draws_for_each_image():
    drop, ones = DropChannels(0.25, 400).train(), torch.ones(3, 400, 2, 5)
    torch.manual_seed(0)
    left = drop(ones)
    assert (left == left[:, :, :1, :1]).all() and not (left == left[:1]).all()
    torch.manual_seed(0)
    assert torch.equal(drop(ones), left)


def test_a_copy_has_dropout_of_its_own(images):
    network = tiny({"p": 0.5})
    other = copy.deepcopy(network)
    before = network(images).logits
    with torch.no_grad(), one_draw(other, PASS):
        assert torch.equal(network(images).logits, before)
        assert not torch.allclose(other(images).logits, before)


def test_squeeze_has_it_behind_each_level():
    torch.manual_seed(0)
    network = SqueezeDetector(2, 96, weights=None, width=16, dropout={"p": 0.2, "where": "levels"}).eval()
    assert [d.channels for d in network.dropouts] == [16] * 4
    images = torch.randn(1, 3, 96, 96)
    assert not torch.allclose(logits(network, images), network(images).logits)


def test_retinanet_has_it_behind_each_convolution_of_its_class_tower(retina_r18):
    retina_r18["bbox_head"]["stacked_convs"] = 2
    torch.manual_seed(0)
    network = MMDetNetwork(3, retina_r18, (64, 64), resize="keep_ratio", dropout={"p": 0.3}).eval()
    assert [d.channels for d in network.dropouts] == [16, 16]
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain = network(images)
        with one_draw(network, PASS):
            dropped = network(images)
    assert torch.equal(plain.deltas, dropped.deltas) and not torch.allclose(plain.logits, dropped.logits)


def assert_trunk_is_shared(network, images):
    """Passes that go on from one trunk see what whole forwards see; the trunk is still what it was."""
    rngs = [PASS, Rng(0, 3, "passes", 1)]
    with torch.no_grad():
        trunk = network.trunk(images)
        for rng in (*rngs, *rngs):
            with one_draw(network, rng):
                found = network.onward(trunk, images)
            assert torch.equal(found.logits, logits(network, images, rng))


def test_passes_share_what_comes_before_dropout(images, retina_r18):
    assert_trunk_is_shared(tiny({"p": 0.3}), images)
    torch.manual_seed(0)
    assert_trunk_is_shared(
        SqueezeDetector(2, 96, weights=None, width=16, dropout={"p": 0.2}).eval(), torch.randn(1, 3, 96, 96)
    )
    assert_trunk_is_shared(LiteDetector(2, 64, width=16, dropout={"p": 0.2}).eval(), torch.randn(1, 3, 64, 64))
    assert_trunk_is_shared(
        MMDetNetwork(3, retina_r18, (64, 64), resize="keep_ratio", dropout={"p": 0.3}).eval(), torch.randn(1, 3, 64, 96)
    )


@pytest.mark.slow
def test_ssd300_has_it_behind_fc6_and_fc7():
    node = yaml.safe_load((CONF / "ssd300_voc.yaml").read_text()) | {"weights": None, "dropout": {"p": 0.1}}
    network = build(node, num_classes=3).eval()
    assert [d.channels for d in network.dropouts] == [1024, 1024]
    images = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        plain = network(images)
        with one_draw(network, PASS):
            dropped = network(images)
    assert_trunk_is_shared(network, images)
    of_conv4_3 = plain.level_sizes[0]
    assert torch.equal(plain.logits[:, :of_conv4_3], dropped.logits[:, :of_conv4_3])
    assert not torch.allclose(plain.logits[:, of_conv4_3:], dropped.logits[:, of_conv4_3:])


def test_a_place_that_is_none_is_refused(ssd_lite):
    with pytest.raises(ConfigError, match="detector.dropout: expected levels, got 'level'; did you mean 'levels'"):
        tiny({"where": "level"})
    with pytest.raises(ConfigError, match="knows where its dropout sits, got MMDetNetwork"):
        MMDetNetwork(3, ssd_lite, (320, 320), dropout={"p": 0.1})
    with pytest.raises(ConfigError, match=r"detector\.dropout\.p"):
        tiny({"p": 1.0})
