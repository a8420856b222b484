"""ISD: vectors ISD-1..ISD-7."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.tiny import TinyDetector
from al_lab.objectives.consistency import foreground
from al_lab.objectives.csd import CSD
from al_lab.objectives.isd import ISD, partners
from al_lab.objectives.supervised import Supervised
from tests.objectives.heads import Row
from tests.objectives.test_csd import batch

LEFT = [[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]
RIGHT = [[0.2, 0.1, 0.7], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]
MIXED = [[0.2, 0.5, 0.3], [0.4, 0.5, 0.1], [0.3, 0.1, 0.6], [0.85, 0.1, 0.05]]


def _heads(**grad):
    network = Row(2, 4)
    zero = [0.0] * 4
    left = torch.tensor([[zero, [0.2, 0.1, 0, -0.1], zero, zero]])
    right = torch.tensor([[zero, zero, [0.5, 0, 0.1, 0.1], zero]])
    mixed = torch.tensor([[zero, [0.3, 0.1, 0.2, -0.1], [0.4, 0.2, 0.1, 0.1], zero]])
    return network, *(
        network.head(torch.tensor([p]), d, **grad) for p, d in ((LEFT, left), (RIGHT, right), (MIXED, mixed))
    )


def test_isd1_which_anchors_belong_to_which_type():
    _, left, right, _ = _heads()
    ml, mr = (foreground(head.logits, "softmax")[0] for head in (left, right))
    assert [(ml & mr).tolist(), (ml & ~mr).tolist(), (mr & ~ml).tolist()] == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
    ]


def test_isd2_to_isd5_the_three_losses():
    type_1, type_2a, type_2b = ISD.interpolation(*_heads(), torch.tensor(0.6))
    assert type_1.item() == pytest.approx(0.01359572, abs=1e-6)
    assert type_2a.item() == pytest.approx(0.09690113 + 0.0125, abs=1e-6)
    assert type_2b.item() == pytest.approx(0.12028443 + 0.0125, abs=1e-6)
    assert (0.1 * type_1 + type_2a + type_2b).item() == pytest.approx(0.24354513, abs=1e-6)


def test_who_learns_from_whom():
    network, left, right, mixed = _heads(requires_grad=True)
    type_1, type_2a, type_2b = ISD.interpolation(network, left, right, mixed, torch.tensor(0.6))
    (type_2a + type_2b).backward(retain_graph=True)
    assert left.logits.grad is None or left.logits.grad.abs().max() == 0  # fixed targets
    assert mixed.logits.grad[0, 1:3].abs().min(0).values.max() > 0
    type_1.backward()
    assert left.logits.grad[0, 0].abs().max() > 0
    assert right.logits.grad[0, 0].abs().max() > 0


def test_isd6_partners_are_half_a_batch_away_and_in_their_own_geometry(monkeypatch):
    assert partners(torch.arange(4)).tolist() == [2, 3, 0, 1]
    seen = {}

    def record(network, left, right, mixed, ratio):
        seen.update(left=left, right=right, mixed=mixed, ratio=ratio)
        return [left.logits.sum() * 0] * 3

    monkeypatch.setattr(ISD, "interpolation", staticmethod(record))
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32).eval(), batch([1, 0, 1, 0])
    ISD()(network, data, 50, 100)
    alone: HeadOutput = network(data.images.flip(-1))
    assert torch.allclose(seen["right"].logits[0], alone.logits[2], atol=1e-5)
    assert torch.allclose(seen["right"].deltas[0], alone.deltas[2], atol=1e-5)
    mixture = seen["ratio"] * data.images[0] + (1 - seen["ratio"]) * data.images[2].flip(-1)
    assert torch.allclose(seen["mixed"].logits[0], network(mixture[None]).logits[0], atol=1e-5)


def test_isd7_the_ratio():
    torch.manual_seed(0)
    draws = torch.stack([ISD().draw_ratio(torch.zeros(1)) for _ in range(4000)])
    assert draws.mean().item() == pytest.approx(0.5, abs=0.003)
    assert draws.std().item() == pytest.approx(0.03526728, rel=0.05)
    network, left, right, mixed = _heads()
    # lambda = 1: mu = L
    assert ISD.interpolation(network, left, right, left, torch.tensor(1.0))[0].item() == pytest.approx(0, abs=1e-9)


def test_isd_contains_csd():
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32), batch([1, 0, 1, 0])
    torch.manual_seed(1)
    whole = ISD(w1=0.0, w2=0.0, csd={"be_mask": "none"})(network, data, 50, 100)
    assert whole["loss"].item() == pytest.approx(CSD(be_mask="none")(network, data, 50, 100)["loss"].item(), rel=1e-5)


def test_the_loss_is_the_sum_of_its_parts_with_their_weights():
    torch.manual_seed(0)
    network, data = TinyDetector(3, input_px=32), batch([1, 0, 1, 0])
    objective = ISD(w1=0.3, w2=0.7, weight=2.0, csd={"be_mask": "none"}, ramp={"kind": "none"})
    found = objective(network, data, 50, 100)
    consistency = found["consistency_class"] + found["consistency_box"]
    mixed = 0.3 * found["type_1"] + 0.7 * (found["type_2a"] + found["type_2b"])
    assert found["type_1"] > 0
    plain = Supervised()(network, data, 50, 100)["loss"]
    assert (found["loss"] - plain).item() == pytest.approx(2 * (consistency + mixed).item(), rel=1e-4)


def test_an_odd_batch_is_refused():
    with pytest.raises(ConfigError, match="expected an even number of images a device, got 3"):
        ISD()(TinyDetector(3, input_px=32), batch([1, 0, 1]), 1, 10)


def test_who_may_be_mixed_with_whom():
    assert [ISD(pairs=pairs).shuffle_places for pairs in ("any", "alike")] == [True, False]
    with pytest.raises(ConfigError, match="any | alike"):
        ISD(pairs="mixed")
