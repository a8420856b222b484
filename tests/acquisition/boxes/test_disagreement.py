"""MI-AOD's disagreement and multiple instance weights: the fact sheet's numbers."""

import pytest
import torch

from al_lab.acquisition.boxes.disagreement import (
    classes_seen,
    image_probs,
    instance_weights,
    mean_of_largest,
    mean_square_gap,
)
from al_lab.objectives.branches.mial import disagreement

F1 = torch.tensor([[[2.0, -1], [0, 1], [-2, 0.5]]])
F2 = torch.tensor([[[1.0, -1], [1, -1], [-2, 2]]])
MIL = torch.tensor([[[1.0, 0], [0, 0], [0, 2]]])
G1, G2 = torch.tensor([[[1.0, 1], [0, -2]]]), torch.tensor([[[0.0, 2], [0, -1]]])
MIL2 = torch.tensor([[[0.0, 1], [2, 0]]])


def close(found: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_gap_of_an_image_is_that_of_its_most_disputed_anchors() -> None:
    gaps = mean_square_gap(F1.sigmoid(), F2.sigmoid())
    close(gaps, [[0.011211, 0.133470, 0.033369]])
    close(mean_of_largest(gaps, 2), [0.083420])
    close(mean_of_largest(gaps, 10_000), [0.059350])
    both = torch.cat([gaps, mean_square_gap(G1.sigmoid(), G2.sigmoid())], 1)
    close(mean_of_largest(both, 3), [0.068248])
    close(mean_of_largest(both, 5), [0.045433])


def test_weights_probabilities_and_the_game_of_one_level() -> None:
    weights = instance_weights(MIL, (F1 + F2) / 2, (3,))
    close(weights, [[[0.262662, 0.096628], [0.147801, 0.147801], [0.041138, 0.303970]]])
    close(image_probs(weights, (3,)), [[0.451601, 0.548399]])
    p, q = F1.sigmoid(), F2.sigmoid()
    close(0.5 * disagreement(p, q, weights, "min"), [0.055077])
    close(0.5 * disagreement(p, q, weights, "max"), [0.194923])


def test_levels_compete_for_the_image_and_add_to_the_game() -> None:
    sizes = (3, 2)
    first, second, mil = torch.cat([F1, G1], 1), torch.cat([F2, G2], 1), torch.cat([MIL, MIL2], 1)
    weights = instance_weights(mil, (first + second) / 2, sizes)
    close(weights[:, 3:], [[[0.155645, 0.423088], [0.371051, 0.050216]]])
    close(image_probs(weights, sizes), [[0.526696, 0.548399]])
    close(0.5 * disagreement(first.sigmoid(), second.sigmoid(), weights, "min"), [0.081786])


def test_softmax_heads_with_background_and_without() -> None:
    background = torch.tensor([0.0, 0, 1]).reshape(1, 3, 1)
    first, second = torch.cat([F1, background], -1), torch.cat([F2, background], -1)
    p, q = first.softmax(-1), second.softmax(-1)
    mean = (first + second) / 2
    whole = instance_weights(torch.cat([MIL, torch.zeros(1, 3, 1)], -1), mean, (3,))
    close(image_probs(whole, (3,)), [[0.342284, 0.446277, 0.211439]])
    close(0.5 * disagreement(p, q, whole, "min"), [0.042646])
    own = instance_weights(MIL, mean[..., :2], (3,))
    close(0.5 * disagreement(p[..., :2], q[..., :2], own, "min"), [0.074762])


def test_what_both_see_on_average_is_an_images_pseudo_label() -> None:
    close(((F1.sigmoid() + F2.sigmoid()) / 2).amax(1), [[0.805928, 0.751628]])
    assert classes_seen(F1, F2).tolist() == [[1, 1]]
    assert classes_seen(F1 - 9, F2 - 9).tolist() == [[0, 0]]
    y = image_probs(instance_weights(MIL, (F1 + F2) / 2, (3,)), (3,))
    for target, expected in (([[1.0, 1]], 0.697854), ([[1.0, 0]], 0.794956)):
        t = torch.tensor(target)
        found = -(t * y.log() + (1 - t) * (1 - y).log()).mean()
        assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_weight_is_no_way_for_a_gradient_to_the_classifiers() -> None:
    logits, mil = F1.clone().requires_grad_(), MIL.clone().requires_grad_()
    weights = instance_weights(mil, logits, (3,))
    image_probs(weights, (3,))[0, 0].backward()
    assert logits.grad is None and mil.grad is not None
    gap = disagreement(logits.sigmoid(), F2.sigmoid(), instance_weights(mil, logits, (3,)), "min")
    mil.grad = None
    gap.sum().backward()
    assert mil.grad is None and logits.grad.any()
