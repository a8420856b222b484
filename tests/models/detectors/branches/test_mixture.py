"""Mixture density heads: what is decoded is the mixture, the network's own layers are gone, and components differ."""

from collections.abc import Callable

import pytest
import torch

from al_lab.acquisition.boxes.mixture import mixed
from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.branches.mixture import MixtureBranch
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.lite import LiteDetector
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector


def network() -> tuple[TinyDetector, MixtureBranch]:
    torch.manual_seed(0)
    built = TinyDetector(3, 64, branches=["mixture"])
    branch = built.branch("mixture")
    assert isinstance(branch, MixtureBranch)
    return built, branch


def test_what_is_decoded_is_the_mixture() -> None:
    built, branch = network()
    seen = built(torch.randn(2, 3, 64, 64))
    found = branch.read(seen.extra)
    wanted = mixed(found.class_weight[:, :, None], found.class_mean.softmax(-1).transpose(-1, -2))
    torch.testing.assert_close(seen.logits.softmax(-1), wanted)
    torch.testing.assert_close(seen.deltas, mixed(found.box_weight, found.box_mean))
    assert found.class_mean.shape == (2, len(built.priors), 4, 4)
    assert found.box_mean.shape == (2, len(built.priors), 4, 4)
    for weight in (found.class_weight, found.box_weight):
        torch.testing.assert_close(weight.sum(-1), torch.ones(weight.shape[:-1]))


@pytest.mark.parametrize(
    "build",
    [
        lambda: SqueezeDetector(3, 64, weights=None, branches=["mixture"]),
        lambda: LiteDetector(3, 64, branches=["mixture"]),
    ],
)
def test_the_small_detectors_of_photographs_have_it(build: Callable[[], AnchorDetector]) -> None:
    built = build()
    seen = built.eval().look(torch.randn(1, 3, *built.input_hw), torch.tensor([built.input_hw]))
    assert seen.logits.shape == (1, len(built.priors), 4)
    torch.testing.assert_close(seen.logits.exp().sum(-1), torch.ones(1, len(built.priors)))
    assert not len(built.class_heads)


def test_some_anchors_are_read_as_all_are() -> None:
    built, branch = network()
    extra = built(torch.randn(2, 3, 64, 64)).extra
    image, anchor = torch.tensor([1, 0, 1]), torch.tensor([5, 7, 0])
    for every, some in zip(branch.read(extra), branch.read(extra, (image, anchor)), strict=True):
        torch.testing.assert_close(every[image, anchor], some)


def test_it_takes_the_place_of_the_own_layers() -> None:
    built, _ = network()
    assert not len(built.class_heads)
    assert not len(built.box_heads)
    assert {"box_mixture", "anchors"} <= set(built.provides)
    built(torch.randn(1, 3, 64, 64)).logits.sum().backward()
    others = [p for name, p in built.named_parameters() if not name.startswith("branches.mixture.box")]
    assert all(p.grad is not None for p in others)


def test_only_the_first_components_means_begin_with_xaviers_weights() -> None:
    _, branch = network()
    layer = branch.box_layers.last[0]
    bound = layer.weight[0, 0].numel() * layer.weight.shape[1]
    weight = layer.weight.detach().unflatten(0, (4, 12, 4))  # cell's anchors; pi, mu, v of four components; coordinates
    assert layer.bias is not None
    assert not layer.bias.detach().unflatten(0, (4, 12, 4))[:, 4].any()  # mu of the first
    xavier, default = (6 / (bound + 16 * 9)) ** 0.5, bound**-0.5
    assert default < weight[:, 4].abs().max() <= xavier
    others = weight[:, [n for n in range(12) if n != 4]]
    assert others.abs().max() <= default


def test_a_head_of_questions_gets_background() -> None:
    site = Site(3, 3, "sigmoid", (8, 8), (2, 2), tower=1)
    maps = [torch.randn(1, 8, 4, 4), torch.randn(1, 8, 2, 2)]
    nothing = HeadOutput(torch.zeros(0), torch.zeros(0), (), torch.zeros(40, 4), (8, 8), (32, 8))
    seen = MixtureBranch(site, components=2)(nothing, Maps(maps))
    assert seen.logits.shape == (1, 40, 4)
    assert seen.deltas.shape == (1, 40, 4)
