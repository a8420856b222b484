"""The evidence read-out against the paper's sums, one image, object, level and class after the other."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from scipy.special import digamma

from al_lab.core.errors import ConfigError
from al_lab.learners.readouts.evidence import EvidenceRule, box_evidence
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.tiny import TinyDetector

SIZES = [(64, 64), (128, 96), (64, 64)]


def look(activation: str = "softmax", spread: float = 2.5) -> Look:
    torch.manual_seed(0)
    network = TinyDetector(3, 64, (8, 8, 8, 8, 8), branches=["evidence"]).eval()
    network.activation = activation
    num = len(network.priors)
    logits = torch.randn(3, num, network.num_logits) * spread
    logits[2] = torch.tensor([9.0] + [0.0] * (network.num_logits - 1))  # an image of one class everywhere, or of none
    head = HeadOutput(
        logits,
        torch.randn(3, num, 4),
        (),
        network.priors,
        (64, 64),
        network.level_sizes,
        {"loss_hat": torch.rand(3, num, 1)},
    )
    valid = torch.full((3, 2), 64)
    found = network.detections(head, SIZES, valid)
    return Look(network, torch.zeros(3, 3, 64, 64), head, found, SIZES, valid)


def reference(seen: Look, image: int, rule: EvidenceRule) -> float:
    """Do it the slow way."""
    network, head, found = seen.network, seen.head, seen.detections[image]
    first = int(network.activation == "softmax" and not rule.as_released)
    probs = network.probs(head.logits[image])
    sure, label = probs[:, first:].max(1)
    height, width = seen.sizes_hw[image]
    boxes = network.code.decode(head.deltas[image], head.priors) * torch.tensor([width, height, width, height])
    objects = torch.from_numpy(found.boxes_xyxy[found.confidence > rule.object_conf])
    cells: dict[tuple[int, int, int], list[float]] = {}
    overlap = torchvision.ops.box_iou(boxes, objects).tolist()
    hat, rows = head.extra["loss_hat"][image, :, 0].tolist(), probs.double().numpy()
    start = 0
    for level, size in enumerate(head.level_sizes):
        anchors = [a for a in range(start, start + size) if sure[a] > rule.member_conf]
        anchors = sorted(anchors, key=lambda a: -sure[a])[: rule.per_level]
        pairs = [(a, o) for a in anchors for o in range(len(objects)) if overlap[a][o] > rule.member_iou]
        counted = [a for a, _ in pairs] if rule.as_released else list({a for a, _ in pairs})
        mean = np.mean([hat[a] for a in counted]) if counted else 0.0
        for a, o in pairs:
            alpha, p = 25 * mean / (hat[a] + 1e-7) * rows[a], rows[a]
            u = -(p * np.log(p)).sum() + (p * (digamma(alpha + 1) - digamma(alpha.sum() + 1))).sum()
            cells.setdefault((o, level, int(label[a])), []).append(u)
        start += size
    value = 0.0
    for o in range(len(objects)):
        of_levels: dict[int, float] = {}
        for (number, level, _), values in cells.items():
            if number == o:
                of_levels[level] = of_levels.get(level, 0.0) + float(np.mean(values))
        value += max(of_levels.values(), default=0.0)
    return value


@pytest.mark.parametrize("activation", ["softmax", "softmax_fg"])
@pytest.mark.parametrize(
    "options",
    [
        {"object_conf": 0.9, "member_conf": 0.8},
        {"object_conf": 0.9, "per_level": 20, "member_iou": 0.3},
        {"as_released": True, "object_conf": 0.9, "member_conf": 0.8},
    ],
)
def test_equals_the_slow_reference(activation: str, options: dict[str, Any]) -> None:
    seen = look(activation)
    found = [float(row["box_evidence"]) for row in box_evidence(seen, options)]
    wanted = [reference(seen, image, EvidenceRule(**options)) for image in (0, 1)]
    assert found[:2] == pytest.approx(wanted, rel=1e-5)
    assert min(wanted) > 0


def test_an_image_without_objects_is_worth_nothing() -> None:
    seen = look()
    assert not len(seen.detections[2])
    assert box_evidence(seen, {})[2]["box_evidence"] == 0


def test_a_threshold_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy.member_iou"):
        EvidenceRule(member_iou=1.5)
