"""Branches on mmdet's RetinaNet and SSD: what the heads become, and one step of their losses."""

from typing import Any

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, pad_boxes
from al_lab.objectives.branches.evidential import Evidential
from al_lab.objectives.branches.mial import MultipleInstance
from al_lab.objectives.branches.mixture_density import MixtureDensity

pytest.importorskip("mmdet")
from al_lab.models.mm.mmdet_network import MMDetNetwork  # noqa: E402


def step(network: MMDetNetwork, objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    boxes = [torch.tensor([[12.0, 20, 90, 120], [60, 10, 110, 60]]), torch.tensor([[5.0, 5, 70, 100]])]
    sizes = torch.full((2, 2), 128)
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    padded = pad_boxes(boxes, [torch.tensor([0, 2]), torch.tensor([1])])
    batch = Batch(pixels, ["a", "b"], *padded, torch.ones(2, dtype=torch.long), sizes, sizes)
    parts: dict[str, torch.Tensor] = objective(network, batch, 0, 1)
    parts["loss"].backward()
    return parts


@pytest.mark.parametrize(
    ("which", "activation", "columns"), [("retina_r18", "softmax_fg", 3), ("ssd_lite", "softmax", 4)]
)
def test_evidence(which: str, activation: str, columns: int, request: pytest.FixtureRequest) -> None:
    network = MMDetNetwork(3, request.getfixturevalue(which), (128, 128), branches=["evidence"])
    assert network.activation == activation
    objective = Evidential()
    objective.attach(network)
    parts = step(network, objective)
    assert torch.isfinite(parts["loss"])
    assert parts["loss_evidence"] > 0
    seen = network.eval().look(torch.zeros(1, 3, 128, 128), torch.tensor([[128, 128]]))
    assert seen.logits.shape[-1] == columns
    found = network.detections(seen, [(128, 128)], torch.tensor([[128, 128]]))[0]
    assert found.activation == activation
    torch.testing.assert_close(torch.from_numpy(found.probs.sum(1)), torch.ones(len(found)))


@pytest.mark.parametrize("which", ["retina_r18", "ssd_lite"])
def test_mixture(which: str, request: pytest.FixtureRequest) -> None:
    network = MMDetNetwork(3, request.getfixturevalue(which), (128, 128), branches=["mixture"])
    assert network.activation == "softmax"
    assert not list(network.detector.bbox_head.parameters())
    parts = step(network, MixtureDensity())
    assert torch.isfinite(parts["loss"])
    assert all(p.grad is not None for p in network.branches.parameters())
    with pytest.raises(ConfigError, match="last class layers are known"):
        network.class_layers()


def test_a_single_class_is_refused(retina_r18: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="two classes or more"):
        Evidential().attach(MMDetNetwork(1, retina_r18, (128, 128), branches=["evidence"]))


@pytest.mark.parametrize(("which", "own"), [("retina_r18", ("cls_convs", "retina_cls")), ("ssd_lite", ("cls_convs",))])
def test_two_heads_learn_in_their_phases(which: str, own: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    """In the phase of both classifiers nothing else has a gradient, in the other one they have none."""
    network = MMDetNetwork(3, request.getfixturevalue(which), (128, 128), branches=["two_heads"])
    objective = MultipleInstance()
    objective.attach(network)
    prefixes = (*(f"detector.bbox_head.{name}." for name in own), "branches.two_heads.second.")
    found = [torch.tensor([[12.0, 20, 90, 120]]), torch.tensor([[60.0, 10, 110, 60]]), torch.zeros(0, 4)]
    boxes, labels = pad_boxes(found, [torch.zeros(len(b)) for b in found])
    sizes, kind = torch.full((3, 2), 128), torch.tensor([1, 1, 0])
    batch = Batch(torch.randn(3, 3, 128, 128), ["a", "b", "c"], boxes, labels, kind, sizes, sizes)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    classifiers = {name for name in trained if name.startswith(prefixes)}
    assert classifiers and any("second" in name for name in classifiers)
    assert not any("reg" in name or "instances" in name for name in classifiers)
    for step, learn in ((0, trained), (7, trained - classifiers), (9, classifiers)):
        network.zero_grad(set_to_none=True)
        objective(network, batch, step, 26)["loss"].backward()
        assert {name for name, p in network.named_parameters() if p.grad is not None} == learn
    head = network.eval().look(torch.zeros(1, 3, 128, 128), torch.tensor([[128, 128]]))
    assert head.extra["logits2"].shape == head.logits.shape and head.extra["instances"].shape == head.logits.shape
