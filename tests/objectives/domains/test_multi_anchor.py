"""MADA's second stage: the sheet's vectors, and that the loss is what the formula says."""

import pytest
import torch
import torch.nn.functional as F

from al_lab.core.errors import ConfigError
from al_lab.core.rng import Rng
from al_lab.data.loading.dense_batch import DenseBatch
from al_lab.models.segmenters.tiny import TinySegmenter
from al_lab.objectives.domains.multi_anchor import MultiAnchor, followed, harmonic_distance

ANCHORS = torch.tensor([[0.0, 0, 0, 0], [1, 1, 0, 0], [2, 0, 2, 0]])


def network() -> TinySegmenter:
    torch.manual_seed(0)
    return TinySegmenter(4, widths=(8, 8, 8), branch={"dim": 6, "estimator": "none"})


def batch(images: int = 2, seed: int = 1) -> DenseBatch:
    g = torch.Generator().manual_seed(seed)
    bought = torch.full((images, 24, 32), 255)
    bought[0] = 2
    return DenseBatch(
        torch.randn(2, 3, 24, 32, generator=g), torch.randint(0, 4, (2, 24, 32), generator=g),
        torch.randn(images, 3, 24, 32, generator=g), bought,
        ["source/0", "source/1"] + [f"t{k}" for k in range(images)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "distance", "weighted", "nearest", "moved"),
    [
        ([1, 0.5, 0, 0], 0.150286, 0.105200, 1, [1, 0.9995, 0, 0]),
        ([3, 3, 3, 3], 6.452206, 4.516544, 2, [2.001, 0.003, 2.001, 0.003]),
    ],
)
def test_the_sheets_vectors(x: list, distance: float, weighted: float, nearest: int, moved: list) -> None:
    g = torch.tensor([x], dtype=torch.float64)
    found, near = harmonic_distance(g, ANCHORS.double())
    assert found.item() == pytest.approx(distance, abs=1e-6) and 0.7 * found.item() == pytest.approx(weighted, abs=1e-6)
    assert near.tolist() == [nearest]
    after = followed(ANCHORS.double(), g, near, 0.999)
    assert after[nearest].tolist() == pytest.approx(moved)
    others = [k for k in range(3) if k != nearest]
    assert torch.equal(after[others], ANCHORS.double()[others])


def test_one_anchor_is_the_plain_distance_and_an_empty_place_is_none() -> None:
    g = torch.tensor([[1.0, 0.5, 0, 0], [3, 3, 3, 3]])
    one = ANCHORS[1:2]
    expected = (g - one).square().mean(1)
    torch.testing.assert_close(harmonic_distance(g, one)[0], expected)
    padded = torch.cat([torch.full_like(one, torch.nan), one])
    found, nearest = harmonic_distance(g, padded)
    torch.testing.assert_close(found, expected)
    assert nearest.tolist() == [1, 1]


def test_an_image_that_is_an_anchor_has_a_finite_gradient() -> None:
    g = ANCHORS[:1].clone().requires_grad_()
    harmonic_distance(g, ANCHORS)[0].sum().backward()
    assert torch.isfinite(g.grad).all()


def test_a_survey_with_one_anchor_is_the_mean_of_all_images() -> None:
    net, objective = network(), MultiAnchor(num_anchors=1, min_pixels=1)
    objective.attach(net)
    assert objective.wants_survey
    batches = [batch(2, seed) for seed in (1, 2)]
    objective.survey(net, batches, Rng(0))
    rows = torch.cat([objective.vectors(net, net(b.target_images)) for b in batches]).detach()
    torch.testing.assert_close(objective.target_anchors[0], rows.mean(0))
    assert not objective.wants_survey and not MultiAnchor(anchors=0).wants_survey


def test_the_loss_is_what_the_formula_says() -> None:
    net, data = network(), batch()
    objective = MultiAnchor(pseudo=0.5, anchors=0.3, num_anchors=2, min_pixels=1, ema=0.9)
    objective.attach(net)
    objective.survey(net, [data, batch(2, 5)], Rng(0))
    before = objective.target_anchors.clone()
    parts = objective(net, data, 0, 10)
    output = net(data.target_images)
    g = objective.vectors(net, output)
    distance, nearest = harmonic_distance(g, before)
    pseudo = F.cross_entropy(output.logits, output.logits.argmax(1))
    assert float(parts["anchors"]) == pytest.approx(float(distance.mean().detach()), rel=1e-5)
    assert float(parts["pseudo"]) == pytest.approx(float(pseudo.detach()), rel=1e-5)
    expected = parts["source_ce"] + parts["target_ce"] + parts["aux"] + 0.5 * parts["pseudo"] + 0.3 * parts["anchors"]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected), rel=1e-6)
    torch.testing.assert_close(objective.target_anchors, followed(before, g.detach(), nearest, 0.9))


def test_the_distance_trains_the_backbone_and_the_classifier_of_the_branch_does_not() -> None:
    net, data = network(), batch()
    data.target_labels.fill_(255)  # nothing but the distance has a gradient
    objective = MultiAnchor(pseudo=0, min_pixels=1, adaptation={"source_ce": 0, "aux": 0})
    objective.attach(net)
    objective.survey(net, [batch(4, 5)], Rng(0))
    objective(net, data, 0, 10)["loss"].backward()
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in net.backbone.parameters())
    only = MultiAnchor(pseudo=0, anchors=0, adaptation={"source_ce": 0, "target_ce": 0})
    net = network()
    only.attach(net)
    only(net, data, 0, 10)["loss"].backward()
    assert all(p.grad is None for p in net.backbone.parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"anchors": -1}, "objective.anchors"),
        ({"num_anchors": 0}, "objective.num_anchors"),
        ({"ema": 1.0}, "objective.ema"),
        ({"bought_ratio": 1.5}, "objective.bought_ratio"),
    ],
)
def test_what_is_no_value_is_named(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        MultiAnchor(**options)


def test_a_network_without_features_is_refused() -> None:
    plain = TinySegmenter(4, widths=(8, 8, 8))
    with pytest.raises(ConfigError, match="segmenter.branch=null"):
        MultiAnchor(adaptation={"aux": 0}).attach(plain)
