"""From an mmdet model dict to an mmdet module, and from the same dict to our settings."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import BoxCoder, Matching
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.mm.registry import build_module, init_weights

log = logging.getLogger(__name__)
_OUR_LOSSES = ("FocalLoss", "CrossEntropyLoss", "L1Loss", "SmoothL1Loss")


@dataclass(frozen=True)
class Inputs:
    """What a model wants to be fed with: mean and deviation of RGB in 0..255, channels turned round or not, padding."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_bgr: bool
    pad_divisor: int


def inputs_of(model: dict[str, Any]) -> Inputs:
    """Take the ``data_preprocessor`` out of a model dict and return what it says."""
    node = model.pop("data_preprocessor", None) or {}
    is_bgr = not node.get("bgr_to_rgb", True)
    mean, std = (
        tuple(node.get(k) or v)[:: -1 if is_bgr and node.get(k) else 1]
        for k, v in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    return Inputs(mean, std, is_bgr, int(node.get("pad_size_divisor") or 1))


def build_detector(model: dict[str, Any], num_classes: int) -> nn.Module:
    """Build and initialize the module an mmdet dict describes.

    Args:
        model: plain dict, see `mm_registry.plain`.
        num_classes: replaces the dict's own number.

    Raises:
        ConfigError: if mmdet can't build it, or if it is no single-stage detector with anchors and box deltas.
    """
    where = f"detector.model ({model.get('type')})"
    if not isinstance(model.get("bbox_head"), dict) or "backbone" not in model:
        raise ConfigError(
            explain(
                expected="mmdet's dict of a single-stage detector, with backbone and bbox_head",
                got=f"keys {', '.join(sorted(model))}",
                where=where,
                do="MMDetDetector takes two stages and queries (see conf/detector/dino.yaml); or choose e.g. RetinaNet",
            )
        )
    detector: Any = build_module(
        {**model, "bbox_head": {**model["bbox_head"], "num_classes": num_classes}}, "mmdet", where
    )
    _check(detector, where)
    init_weights(detector)
    if not hasattr(detector.bbox_head, "loss_cls"):
        detector.bbox_head.loss_cls = None  # mmdet's predict reads it, SSDHead never sets it
    return detector


def _check(detector: nn.Module, where: str) -> None:
    from mmdet.models.detectors import SingleStageDetector
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    head = getattr(detector, "bbox_head", None)
    coder = getattr(head, "bbox_coder", None)
    reasons = [
        (not isinstance(detector, SingleStageDetector), "it is not a SingleStageDetector"),
        (
            not isinstance(getattr(head, "prior_generator", None), AnchorGenerator),
            "its head has points or queries, not anchors",
        ),
        (
            type(coder) is not DeltaXYWHBBoxCoder,
            f"its boxes are coded by {type(coder).__name__}, not DeltaXYWHBBoxCoder",
        ),
        (any(getattr(coder, "means", ())), "its box coder has means other than 0"),
        (bool(getattr(coder, "add_ctr_clamp", False)), "its box coder clamps centers"),
    ]
    for bad, reason in reasons:
        if bad:
            raise ConfigError(
                explain(
                    expected="a single-stage detector with anchors and box deltas",
                    got=f"{type(detector).__name__}: {reason}",
                    where=where,
                    do="choose e.g. RetinaNet or SSD; MMDetDetector takes others (see conf/detector/atss.yaml)",
                )
            )
    for name in ("loss_cls", "loss_bbox"):
        kind = type(getattr(head, name, None)).__name__
        if kind not in (*_OUR_LOSSES, "NoneType"):
            log.warning(
                "%s: %s=%s has no effect; the training loss is the one of the objective config", where, name, kind
            )


def coder_of(head: Any) -> BoxCoder:
    """Return our coder with the variances of mmdet's."""
    x, y, w, h = (float(v) for v in head.bbox_coder.stds)
    return BoxCoder((x, y, w, h), abs(math.log(16 / 1000)))


def matching_of(train_cfg: Mapping[str, Any] | None) -> Matching:
    """Return our matching with the thresholds of a `MaxIoUAssigner`."""
    assigner = (train_cfg or {}).get("assigner")
    if assigner is None:
        return Matching()
    if assigner.get("type") != "MaxIoUAssigner":
        log.warning(
            "detector.model: assigner %s has no effect; anchors are matched by IoU 0.5/0.4", assigner.get("type")
        )
        return Matching(0.5, 0.4, True, True)
    return Matching(
        float(assigner["pos_iou_thr"]),
        float(assigner["neg_iou_thr"]),
        bool(assigner.get("match_low_quality", True)),
        bool(assigner.get("gt_max_assign_all", True)),
    )


def settings_of(test_cfg: Mapping[str, Any] | None) -> Postprocess:
    """Return our post-processing settings with the numbers of ``test_cfg``.

    Raises:
        ConfigError: if it asks for another suppression than greedy NMS.
    """
    cfg = test_cfg or {}
    kind = cfg.get("nms", {}).get("type", "nms")
    if kind != "nms":
        raise ConfigError(
            explain(
                expected="greedy NMS (type nms)",
                got=repr(kind),
                where="detector.model.test_cfg.nms",
                do="set type: nms; other kinds are not implemented",
            )
        )
    per_level, per_image = int(cfg.get("nms_pre", -1)), int(cfg.get("max_per_img", -1))
    return Postprocess(
        float(cfg.get("score_thr", 0.0)),
        float(cfg.get("nms", {}).get("iou_threshold", 0.5)),
        None,
        per_level if per_level > 0 else None,
        per_image if per_image > 0 else None,
        clip=True,
    )
