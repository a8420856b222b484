"""How uncertain an image is by the evidence behind its boxes, before any of them is suppressed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_lab.acquisition.boxes.evidence import image_uncertainty
from al_lab.core.fields import at_least, below_one, check_fields, flag
from al_lab.core.types import Detections
from al_lab.learners.readouts.look import Look
from al_lab.models.detectors.boxes import iou
from al_lab.models.detectors.postprocess import best_of_groups, boxes_at


@dataclass(frozen=True)
class EvidenceRule:
    """Which boxes of an image count; the arguments of `MehHua`, where they are explained."""

    object_conf: float = 0.3
    member_conf: float = 0.3
    member_iou: float = 0.5
    per_level: int = 1000
    as_released: bool = False

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                **dict.fromkeys(("object_conf", "member_conf", "member_iou"), below_one),
                "per_level": at_least(1),
                "as_released": flag,
            },
            "strategy",
        )


def box_evidence(look: Look, options: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return ``box_evidence`` () float64 of each image: the sum over its objects of what HUA gives them.

    Objects are detections; the boxes around one are those of any class and level, as they were before suppression.
    """
    rule, head, network = EvidenceRule(**options), look.head, look.network
    # a class, if the released code's switch does not say that background is one
    first = int(network.activation == "softmax" and not rule.as_released)
    probs_BPK = network.probs(head.logits)
    sure_BP, label_BP = probs_BPK[..., first:].max(-1)
    image, anchor = (sure_BP > rule.member_conf).nonzero(as_tuple=True)
    boxes = boxes_at(head, network, image, anchor, look.sizes_hw, look.valid_hw)
    alive = (boxes[:, 2:] > boxes[:, :2]).all(-1)  # not those in a batch's padding
    image, anchor, boxes = image[alive], anchor[alive], boxes[alive]
    num_levels = len(head.level_sizes)
    ends = torch.tensor(head.level_sizes, device=anchor.device).cumsum(0)
    level = torch.searchsorted(ends, anchor, right=True)
    kept = best_of_groups(
        image * num_levels + level, sure_BP[image, anchor], rule.per_level, num_levels * len(probs_BPK)
    )
    image, anchor, level, boxes = image[kept], anchor[kept], level[kept], boxes[kept]
    values = []
    for number, found in enumerate(look.detections):
        mine = image == number
        at = anchor[mine]
        values.append(
            image_uncertainty(
                probs_BPK[number, at],
                head.extra["loss_hat"][number, at, 0],
                level[mine],
                label_BP[number, at],
                _members(boxes[mine], found, rule),
                num_levels,
                "pairs" if rule.as_released else "once",
            )
        )
    return [{"box_evidence": value} for value in torch.stack(values).cpu().numpy()]


def _members(boxes: Tensor, found: Detections, rule: EvidenceRule) -> Tensor:
    """Return (N, O) bool: which box is around which object."""
    objects = torch.from_numpy(found.boxes_xyxy[found.confidence > rule.object_conf]).to(boxes)
    return iou(boxes, objects) > rule.member_iou
