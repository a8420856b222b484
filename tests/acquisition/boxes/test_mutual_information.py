"""Golden vectors V1 to V4 of the fact sheet's sections 9 and 10, and what they are special cases of."""

import pytest
import torch

from al_lab.acquisition.boxes.mutual_information import Looks, mean_over_levels, member_entropy
from al_lab.acquisition.uncertainty import entropy

V1 = [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]]
V3 = [[0.1, 0.8, 0.1], [0.15, 0.7, 0.15], [0.1, 0.75, 0.15]]


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def looks_of(probs, activation, as_released=False):
    looks = Looks(activation, as_released)
    for one in probs:
        looks.add(one)
    return looks


def test_v1_softmax():
    passes = doubles(*V1)[:, None]
    looks = looks_of(passes, "softmax")
    assert entropy(looks.probs()).item() == pytest.approx(0.788117, abs=1e-6)
    assert entropy(passes).mean().item() == pytest.approx(0.713188, abs=1e-6)
    assert looks.mutual_information().item() == pytest.approx(0.074929, abs=1e-6)
    assert looks_of(passes, "softmax", as_released=True).mutual_information().item() == pytest.approx(
        0.074929, abs=1e-6
    )


def test_v2_sigmoid_adds_up_over_classes_and_the_released_half_does_not():
    passes = doubles([0.9, 0.1], [0.6, 0.2], [0.3, 0.3])
    by_class = [looks_of(passes[:, [c]], "sigmoid").mutual_information().item() for c in (0, 1)]
    assert by_class == pytest.approx([0.136692, 0.021619], abs=1e-6)
    assert looks_of(passes, "sigmoid").mutual_information().item() == pytest.approx(0.158311, abs=1e-6)
    assert looks_of(passes, "sigmoid", as_released=True).mutual_information().item() == pytest.approx(
        0.069766, abs=1e-6
    )


def test_v3_of_two_priors_the_image():
    mi = looks_of(torch.stack([doubles(*V1), doubles(*V3)], 1), "softmax").mutual_information()
    assert mi.tolist() == pytest.approx([0.074929, 0.005590], abs=1e-6)
    assert mi.max().item() == pytest.approx(0.074929, abs=1e-6)
    assert mean_over_levels(mi, torch.tensor([0, 0])) == pytest.approx(0.040259, abs=1e-6)


def test_levels_weigh_alike_however_many_detections_they_have():
    values = doubles(0.3, 0.1, 0.2, 0.9)
    assert mean_over_levels(values, torch.tensor([4, 0, 0, 4])) == pytest.approx((0.15 + 0.6) / 2)
    assert mean_over_levels(values[:0], torch.tensor([], dtype=torch.int64)) == 0


def test_v4_members_of_blad():
    means = [member_entropy(doubles(*s)) for s in ([0.65, 0.40], [0.30], [])]
    assert means == pytest.approx([0.660230, 0.610864, 0], abs=1e-6)
    assert sum(means) / 3 == pytest.approx(0.423698, abs=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_looks_that_agree_have_none_and_their_order_does_not_matter(activation):
    p = torch.rand(5, 7, 4, generator=torch.Generator().manual_seed(0)).double()
    p = p / p.sum(-1, keepdim=True)
    same = looks_of([p[0]] * 25, activation).mutual_information()
    assert same.abs().max() < 1e-12
    mi = looks_of(p, activation).mutual_information()
    torch.testing.assert_close(looks_of(p.flip(0), activation).mutual_information(), mi)
    assert (mi > 0.01).all()


def test_what_was_added_stays_as_it_was():
    p = torch.tensor([[0.2, 0.8]])
    looks = looks_of([p, p], "softmax")
    assert p.tolist() == [[pytest.approx(0.2), pytest.approx(0.8)]] and looks.count == 2
    with pytest.raises(ValueError, match="at least one look"):
        Looks("softmax").probs()
