"""How a detector's predictions become detections: its settings."""

from dataclasses import dataclass
from typing import Literal

from al_lab.core.fields import at_least, below_one, check_fields, optional, share
from al_lab.core.types import Activation as Activation

Resize = Literal["fixed", "keep_ratio"]


@dataclass(frozen=True)
class Postprocess:
    """How raw predictions become detections.

    Attributes:
        conf_min: a box enters with a class only if that class's probability is above this.
        nms_iou: within a class, boxes overlapping a more confident one by more than this go.
        max_per_class: most confident boxes per image and class that enter NMS; None = all.
        max_per_level: most confident (box, class) pairs per image and feature level that enter NMS; None = all.
        max_per_image: detections kept per image over all classes, after NMS; None = all.
        clip: clip boxes to the image before NMS and drop those left empty.
        count_suppressed: also count the boxes that NMS merges into each detection (detectors with anchors).
    """

    conf_min: float = 0.01
    nms_iou: float = 0.45
    max_per_class: int | None = 200
    max_per_level: int | None = None
    max_per_image: int | None = None
    clip: bool = False
    count_suppressed: bool = False

    def __post_init__(self) -> None:
        check_fields(
            vars(self),
            {
                "conf_min": below_one,
                "nms_iou": share,
                **dict.fromkeys(("max_per_class", "max_per_level", "max_per_image"), optional(at_least(1))),
            },
            "detector.postprocess",
        )
