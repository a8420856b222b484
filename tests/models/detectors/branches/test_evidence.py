"""The evidence head: what it predicts, and that the detector is as without it."""

import torch

from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.branches.evidence import EvidenceBranch
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.tiny import TinyDetector


def retina_site() -> Site:
    return Site(3, 3, "sigmoid", (8, 8), (2, 2), tower=2)


def head(num: int) -> HeadOutput:
    return HeadOutput(torch.zeros(1, num, 3), torch.zeros(1, num, 4), (), torch.zeros(num, 4), (8, 8), (num,))


def test_every_anchor_has_a_positive_prediction_that_moves_no_feature() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, 8, 4, 4, requires_grad=True), torch.randn(1, 8, 2, 2, requires_grad=True)]
    seen = EvidenceBranch(retina_site())(head(40), Maps(maps))
    assert seen.extra["loss_hat"].shape == (1, 40, 1)
    assert (seen.extra["loss_hat"] >= 1e-9).all()
    seen.extra["loss_hat"].sum().backward()
    assert all(m.grad is None for m in maps)


def test_a_head_of_questions_becomes_one_choice_without_background() -> None:
    assert EvidenceBranch(retina_site()).activation == "softmax_fg"
    assert TinyDetector(3, 64, branches=["evidence"]).activation == "softmax"


def test_its_learning_rate_never_drops() -> None:
    network = TinyDetector(3, 64, branches=["evidence"])
    assert {id(p) for p in network.branches.parameters()} == {id(p) for p in network.branch("evidence").steady()}


def test_the_detector_is_as_without_it() -> None:
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(3)
    plain = TinyDetector(3, 64)(images)
    torch.manual_seed(3)
    network = TinyDetector(3, 64, branches=["evidence"])
    seen = network(images)
    torch.testing.assert_close(seen.logits, plain.logits)
    torch.testing.assert_close(seen.deltas, plain.deltas)
    assert "box_evidence" in network.provides
    assert seen.extra["loss_hat"].shape == (*seen.logits.shape[:2], 1)
