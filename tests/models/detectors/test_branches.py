"""Heads beside a detector's own: what they change, what they don't, and what they give."""

import dataclasses

import pytest
import torch
from torch import Tensor

from al_lab.config.fitting import provides_of
from al_lab.core.errors import ConfigError
from al_lab.learners.module import _lr_groups
from al_lab.models.detectors.branches.branch import AnchorLayers, Branch, Maps, Site
from al_lab.models.detectors.branches.learning_loss import LearningLossBranch
from al_lab.models.detectors.branches.registry import BRANCHES
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.lite import LiteDetector
from al_lab.models.detectors.network import AnchorDetector, together
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.detectors.tiny import TinyDetector

SITE = Site(3, 4, "softmax", (2, 3), (4, 4))


def squeeze(**options: object) -> SqueezeDetector:
    return SqueezeDetector(3, input_px=64, weights=None, **options)


def tiny(**options: object) -> TinyDetector:
    return TinyDetector(3, input_px=64, widths=(8, 8, 8, 8, 8), **options)


def lite(**options: object) -> LiteDetector:
    return LiteDetector(3, input_px=64, **options)


@pytest.mark.parametrize("build", [tiny, squeeze, lite])
@pytest.mark.parametrize(
    ("name", "word", "said", "width"),
    [("learning_loss", "predicted_loss", "predicted_loss", (1,)), ("evidence", "box_evidence", "loss_hat", None)],
)
def test_a_branch_leaves_the_detector_as_it_is(build, name, word, said, width) -> None:
    networks = []
    for branches in ((), (name,)):
        torch.manual_seed(0)
        networks.append(build(branches=branches).eval())
    plain, more = networks
    images = torch.randn(2, 3, *plain.input_hw)
    with torch.no_grad():
        one, other = plain(images), more(images)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.deltas, other.deltas)
    assert set(plain.state_dict()) == {n for n in more.state_dict() if not n.startswith("branches.")}
    assert not one.extra and other.extra[said].shape == (2, *(width or (len(plain.priors), 1)))
    assert (*plain.provides, word) == more.provides
    target = f"{build(branches=()).__class__.__module__}.{type(plain).__name__}"
    for wanted in ([name], {name: None}):
        assert provides_of({"_target_": target, "branches": wanted}) == more.provides


def test_predictions_are_picked_and_taken_apart_with_what_branches_say() -> None:
    torch.manual_seed(0)
    network = tiny(branches=["learning_loss"]).eval()
    views = [torch.randn(2, 3, 64, 64) for _ in range(3)]
    with torch.no_grad():
        alone, joined = [network(v) for v in views], together(network, *views)
    for one, part in zip(alone, joined, strict=True):
        torch.testing.assert_close(one.extra["predicted_loss"], part.extra["predicted_loss"])
        torch.testing.assert_close(one.features, part.features)
    picked = alone[0].rows(torch.tensor([1]))
    assert torch.equal(picked.extra["predicted_loss"], alone[0].extra["predicted_loss"][1:])
    assert [len(v) for v in (picked.logits, picked.deltas, *picked.features)] == [1] * 5
    half = alone[0]._replace(extra={"x": torch.ones(2, 1, dtype=torch.bfloat16)}).in_full()
    assert half.extra["x"].dtype == half.logits.dtype == torch.float32


@pytest.mark.parametrize("name", sorted(BRANCHES))
def test_a_checkpoint_with_a_branch_gives_the_same_without_its_objective(name: str, tmp_path) -> None:
    trained, fresh = tiny(branches=[name]).eval(), tiny(branches=[name]).eval()
    torch.save(trained.state_dict(), tmp_path / "weights")
    fresh.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = trained(images), fresh(images)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.deltas, other.deltas)
    assert set(one.extra) == set(other.extra)
    assert all(torch.equal(values, other.extra[key]) for key, values in one.extra.items())


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["learning_los"], "learning_loss"),
        (["learning_loss", "learning_loss"], "each once"),
        ({"learning_loss": {"taps": "raw"}}, "options among tap"),
        ({"learning_loss": {"tap": "middle"}}, "raw"),
    ],
)
def test_what_is_no_branch_is_refused(wanted, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny(branches=wanted)


def test_an_absent_branch_is_named() -> None:
    with pytest.raises(ConfigError, match=r"set detector.branches=\[learning_loss\]"):
        tiny().branch("learning_loss")
    assert isinstance(tiny(branches=["learning_loss"]).branch("learning_loss"), LearningLossBranch)


class Steady(Branch):
    """Adds one number to each logit, which keeps its learning rate."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.shift = torch.nn.Parameter(torch.zeros(1))

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`."""
        return head._replace(logits=head.logits + self.shift)

    def steady(self) -> list[torch.nn.Parameter]:
        """See `Branch.steady`."""
        return [self.shift]


def test_a_branch_may_keep_the_rate_of_a_parameter(monkeypatch) -> None:
    monkeypatch.setitem(BRANCHES, "steady", Steady)
    network: AnchorDetector = lite(frozen=0, branches=["steady", "learning_loss"])
    backbone, rest, steady = _lr_groups(network, torch.nn.Module())
    assert (backbone.factor, rest.factor, steady.factor) == (0.1, 1, 1)
    assert [g.is_steady for g in (backbone, rest, steady)] == [False, False, True]
    assert steady.params == [network.branches["steady"].shift]
    params = [id(p) for g in (backbone, rest, steady) for p in g.params]
    assert sorted(params) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    assert [g.is_steady for g in _lr_groups(lite(frozen=0), torch.nn.Module())] == [False, False]


def test_layers_of_anchors_are_shared_as_the_networks_own_are() -> None:
    levels = [torch.randn(2, 5, 4, 4), torch.randn(2, 5, 2, 2)]
    site = Site(3, 3, "sigmoid", (5, 5), (2, 2), tower=2)
    shared, own = AnchorLayers(site, 7, is_rare=True), AnchorLayers(dataclasses.replace(site, tower=0), 7)
    for layers in (shared, own):
        assert layers(levels).shape == (2, (16 + 4) * 2, 7)
    assert (len(shared.last), len(shared.tower), len(own.last), len(own.tower)) == (1, 4, 2, 0)
    assert shared.last[0].bias.sigmoid().tolist() == pytest.approx([0.01] * 14)
    assert not own.last[0].bias.any()
    one = shared(levels)[:, 32:]
    torch.testing.assert_close(one, shared([levels[1], levels[0]])[:, :8])  # the same layers, whatever the level


# --- learning loss ----------------------------------------------------------------------------------------------------


def taps() -> list[Tensor]:
    return [
        torch.tensor([[[[1.0, 2], [3, 4]], [[0, 1], [0, 1]]]]),
        torch.tensor([0.5, -1, 2]).reshape(1, 3, 1, 1),
    ]


def test_the_module_of_the_fact_sheet() -> None:
    module = LearningLossBranch(SITE, width=2)
    weights = [[[0.2, -0.4], [-0.1, 0.3]], [[1, 0.5, -0.25], [0.2, 0.1, 0.4]], [[0.3, -0.2, 0.5, 0.25]]]
    biases = [[0.1, 0.05], [0, 0.1], [0.05]]
    for layer, w, b in zip((*module.parts, module.last), weights, biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(b, dtype=torch.float32)
    assert module.predict(taps()).item() == pytest.approx(0.395, abs=1e-6)


@pytest.mark.parametrize(("tap", "expected"), [("raw", 1.0), ("neck", 3.0)])
def test_it_taps_before_the_norm_or_behind_it(tap: str, expected: float) -> None:
    module = LearningLossBranch(Site(3, 4, "softmax", (1,), (4,)), tap, width=1)
    for layer in (*module.parts, module.last):
        layer.weight.data.fill_(1), layer.bias.data.zero_()
    head = HeadOutput(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), (), torch.zeros(4, 4), (8, 8), (4,))
    maps = Maps([torch.full((1, 1, 1, 1), 3.0)], [torch.full((1, 1, 1, 1), 1.0)])
    assert module(head, maps).extra["predicted_loss"].item() == expected
    assert module(head, Maps(maps.levels)).extra["predicted_loss"].item() == 3


def test_what_is_detached_does_not_reach_the_network() -> None:
    network = tiny(branches=["learning_loss"])
    for is_detached in (False, True):
        network.zero_grad(set_to_none=True)
        network.branch("learning_loss").is_detached = is_detached
        network(torch.randn(2, 3, 64, 64)).extra["predicted_loss"].sum().backward()
        assert all((p.grad is None) == is_detached for p in network.levels.parameters())
        assert all(p.grad is not None for p in network.branches.parameters())


def test_predicted_losses_are_as_fine_under_half_precision() -> None:
    torch.manual_seed(0)
    module, maps = LearningLossBranch(SITE), [torch.randn(64, 2, 3, 3), torch.randn(64, 3, 2, 2)]
    with torch.no_grad():
        alone = module.predict(maps)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = module.predict(maps)
    assert torch.equal(alone, mixed) and len(mixed.unique()) == 64
