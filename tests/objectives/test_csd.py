"""CSD: vectors L-1..L-6 and B-1, the control, and what a flip-symmetric detector must cost: nothing."""

import pytest
import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch, Kind, pad_boxes
from al_lab.models.detectors.flip import FlipRule
from al_lab.models.detectors.head import HeadOutput, flatten_maps
from al_lab.models.detectors.network import AnchorDetector, together
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.consistency import flip_residual, foreground
from al_lab.objectives.csd import CSD
from al_lab.objectives.supervised import Supervised, Terms
from al_lab.strategies.detection.al_ssl import image_facts
from tests.objectives.heads import Row

L1 = [0.5, -0.2, 0.1, 0.3], [-0.4, -0.1, 0.2, 0.3]
L4 = [1, 0.5, -0.5, 0.2], [-0.8, 0.5, -0.3, 0.1]


@pytest.mark.parametrize(
    ("name", "deltas", "flipped", "value"),
    [
        ("L-1", *L1, 0.0075),
        ("L-2", [0.3, 0.4, -0.1, 0.2], [-0.3, 0.4, -0.1, 0.2], 0.0),
        ("L-3", [1.0, 0, 0, 0], [1.0, 0, 0, 0], 1.0),
        ("L-4", *L4, 0.0225),
    ],
)
def test_the_residual_of_a_flipped_box(name, deltas, flipped, value):
    assert flip_residual(torch.tensor([deltas]), torch.tensor([flipped])).item() == pytest.approx(value, abs=1e-7)


def test_l6_both_branches_learn():
    deltas, flipped = (torch.tensor([v], requires_grad=True) for v in L1)
    flip_residual(deltas, flipped).sum().backward()
    assert torch.allclose(deltas.grad, torch.tensor([[0.05, -0.05, -0.05, 0]]), atol=1e-7)
    assert torch.allclose(flipped.grad, torch.tensor([[0.05, 0.05, 0.05, 0]]), atol=1e-7)


def test_the_known_offset_is_subtracted():
    deltas, flipped = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[-10 / 3, 0, 0, 0]])
    assert flip_residual(deltas, flipped).item() == pytest.approx(0.44444, abs=1e-5)  # L-7
    assert flip_residual(deltas, flipped, torch.tensor([-4 / 3])).item() == pytest.approx(0, abs=1e-12)


def _b1(**grad):
    """Vector B-1 with the boxes of L-4 at its two anchors that count; the flipped image's anchors are in
    reverse order."""
    network = Row(2, 4)
    p = torch.tensor([[[0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.4, 0.35, 0.25]]])
    q = torch.tensor([[[0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.35, 0.25]]])
    nothing = [9.0, 9, 9, 9]
    deltas = torch.tensor([[L1[0], nothing, L4[0], nothing]])
    flipped = torch.tensor([[L1[1], [0.0] * 4, L4[1], [0.0] * 4]])
    return network, network.head(p, deltas, **grad), network.head(q.flip(1), flipped.flip(1), **grad)


def test_b1_the_batch_of_the_fact_sheet():
    network, head, flipped = _b1()
    assert foreground(head.logits, "softmax").tolist() == [[True, False, True, False]]
    assert foreground(flipped.logits.flip(1), "softmax").tolist() == [[True, True, True, False]]
    classes, boxes, count = CSD().consistency(network, head, flipped)
    assert (classes.item(), boxes.item(), count.item()) == pytest.approx((0.05453691, 0.015, 2), abs=1e-6)
    assert (classes + boxes).item() == pytest.approx(0.06953691, abs=1e-6)


@pytest.mark.parametrize(("mask", "count"), [("orig", 2), ("both", 2), ("none", 4)])
def test_which_anchors_count(mask, count):
    assert CSD(be_mask=mask).consistency(*_b1())[2].item() == count


def test_an_anchor_that_only_the_flipped_image_calls_foreground_does_not_count():
    network, head, flipped = _b1()
    assert CSD(be_mask="both").consistency(network, flipped, head)[2].item() == 2
    assert CSD(be_mask="orig").consistency(network, flipped, head)[2].item() == 3


def test_l5_nothing_selected_costs_nothing_and_moves_nothing():
    network = Row(2, 4)
    # a tie is no foreground
    heads = [network.head(torch.tensor([[[0.4, 0.4, 0.2]] * 4]), requires_grad=True) for _ in range(2)]
    classes, boxes, _ = CSD().consistency(network, *heads)
    (classes + boxes).backward()
    assert (classes.item(), boxes.item()) == (0, 0)
    assert all(head.logits.grad.abs().max() == 0 and head.deltas.grad.abs().max() == 0 for head in heads)


def test_the_gradient_reaches_both_branches_as_k8_says():
    network, head, flipped = _b1(requires_grad=True)
    CSD().consistency(network, head, flipped)[0].backward()
    assert torch.allclose(head.logits.grad[0, 0], torch.tensor([-0.1, 0.1, 0]) / 4, atol=1e-6)  # (p - q) / 2 / n
    assert torch.allclose(flipped.logits.grad[0, 3], torch.tensor([0.1, -0.1, 0]) / 4, atol=1e-6)
    assert head.logits.grad[0, 1].abs().max() == 0


def test_sigmoid_heads_are_yes_no_questions():
    network = Row(2, 2, "sigmoid")
    head = network.head(torch.tensor([[[0.6, 0.1], [0.4, 0.45]]]))
    flipped = network.head(torch.tensor([[[0.5, 0.5], [0.7, 0.2]]]))
    assert foreground(head.logits, "sigmoid").tolist() == [[True, False]]
    classes, _, count = CSD().consistency(network, head, flipped)
    logit = [torch.tensor(v).logit().item() for v in (0.6, 0.7, 0.1, 0.2)]
    assert classes.item() == pytest.approx(0.5 * (-0.1 * (logit[0] - logit[1]) - 0.1 * (logit[2] - logit[3])), abs=1e-6)
    assert count.item() == 1


class Symmetric(AnchorDetector):
    """Commutes with flipping: what it says of an image's flipped image is the flipped image of what it says, dx
    negated."""

    def __init__(self, activation: str = "softmax") -> None:
        super().__init__(3, (32, 32), activation=activation)
        self.classes, self.rest, self.odd = (
            nn.Conv2d(3, self.num_logits, 1),
            nn.Conv2d(3, 3, 1),
            nn.Conv2d(3, 1, 3, padding=1, bias=False),
        )
        self.register_buffer("priors", even_priors([(4, 4)], [0.2, 0.4], [[]]), persistent=False)

    def forward(self, images: Tensor) -> HeadOutput:
        x = nn.functional.avg_pool2d(images, 8)
        weight = self.odd.weight - self.odd.weight.flip(-1)
        dx = nn.functional.conv2d(x, weight, padding=1)
        deltas = torch.cat([dx, self.rest(x)], 1)
        logits, boxes = (
            flatten_maps([v.repeat(1, 2, 1, 1)], width)
            for v, width in ((self.classes(x), self.num_logits), (deltas, 4))
        )
        return HeadOutput(logits, boxes, (x,), self.priors, self.input_hw, (32,))

    def embedding(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0].mean((2, 3))


def batch(kinds, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = len(kinds)
    boxes = [torch.tensor([[4.0, 4, 20, 24], [12, 8, 30, 30]]) if kind else torch.zeros(0, 4) for kind in kinds]
    labels = [torch.tensor([0, 2]) if kind else torch.zeros(0, dtype=torch.long) for kind in kinds]
    sizes = torch.full((n, 2), size)
    return Batch(
        torch.randn(n, 3, size, size, generator=generator),
        [str(k) for k in range(n)],
        *pad_boxes(boxes, labels),
        torch.tensor(kinds),
        sizes,
        sizes,
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("residual", ["legacy", "geom_corrected"])
def test_a_detector_that_commutes_with_flipping_costs_nothing(activation, residual):
    torch.manual_seed(0)
    parts = CSD(ramp={"kind": "none"}, be_mask="none", cons_loc=residual)(Symmetric(activation), batch([1, 0]), 5, 10)
    assert parts["num_consistent"] == 64
    assert parts["consistency_class"].item() == pytest.approx(0, abs=1e-9)
    assert parts["consistency_box"].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_detector_that_commutes_with_flipping_is_not_inconsistent(activation):
    torch.manual_seed(0)
    network, pixels = Symmetric(activation), 3 * torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        heads = together(network, pixels, pixels.flip(-1))
    found = FlipRule(count_thresh=0.2).compare(network, *heads, [(32, 32)] * 2, torch.tensor([[32, 32]] * 2))
    facts = [image_facts(detections) for detections in found]
    assert min(f["count"] for f in facts) > 0
    assert all(f["entropy"] > 0 and f["inconsistency"] == pytest.approx(0, abs=1e-9) for f in facts)


def _gradient(objective, network, data, step=0):
    network.zero_grad()
    objective(network, data, step, 100)["loss"].backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("control", [{"weight": 0.0}, {}])
def test_without_weight_the_gradient_is_the_supervised_one(control):
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32), batch([1, 0, 1, 0])
    expected = _gradient(Supervised(), network, data)
    assert torch.allclose(_gradient(CSD(**control), network, data, step=0), expected, atol=1e-5)  # w(0) = 0
    if not control:
        assert not torch.allclose(_gradient(CSD(be_mask="none"), network, data, step=50), expected, atol=1e-3)


def test_pl5_pseudo_labels_have_positives_only(monkeypatch):
    terms = Terms(torch.tensor([0.6, 0.9]), torch.tensor([3.9, 5.7]), torch.zeros(2), torch.tensor([2, 3]))
    monkeypatch.setattr(Supervised, "terms", lambda self, network, head, targets: terms)
    network = TinyDetector(3, input_px=32)
    pseudo = Supervised()(network, batch([Kind.LABELED, Kind.PSEUDO]), 0, 1)
    assert pseudo["loss_class"].item() == pytest.approx(1.08, abs=1e-6)
    everything = CSD(weight=0.0, pl_loss="all")(network, batch([Kind.LABELED, Kind.PSEUDO]), 0, 1)
    assert everything["loss_class"].item() == pytest.approx(11.1 / 5, abs=1e-6)
    assert Supervised()(network, batch([1, 1]), 0, 1)["loss_class"].item() == pytest.approx(11.1 / 5, abs=1e-6)


def test_what_a_pseudo_label_does_not_name_is_not_pushed_down():
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32), batch([Kind.PSEUDO])
    head = network(data.images)
    head.logits.retain_grad()
    Supervised().of_head(network, head, data)["loss"].backward()
    moved = head.logits.grad.abs().sum(-1) > 0
    labeled = network(data.images)
    labeled.logits.retain_grad()
    Supervised().of_head(network, labeled, batch([1]))["loss"].backward()
    assert 0 < moved.sum() < (labeled.logits.grad.abs().sum(-1) > 0).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cons_cls": "kl"}, "objective.cons_cls"),
        ({"be_mask": "either"}, "objective.be_mask"),
        ({"cons_loc": "corrected"}, "geom_corrected"),
        ({"labeled_ratio": 0}, "labeled_ratio"),
        ({"tau": 1.5}, "tau"),
        ({"weight": -1}, "weight"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CSD(**arguments)


def test_the_loss_is_the_supervised_one_plus_w_times_both_means():
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32), batch([1, 0])
    parts = CSD(weight=2.0, ramp={"kind": "none"}, be_mask="none")(network, data, 5, 10)
    of_labels = Supervised()(network, data, 5, 10)
    means = parts["consistency_class"] + parts["consistency_box"]
    assert means > 1e-4
    assert parts["weight"] == 2
    torch.testing.assert_close(parts["loss"] - of_labels["loss"], 2 * means, rtol=1e-3, atol=1e-5)
