"""Small mmdet detectors, and mmdet's own loss and predict for them."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

RETINA_R18: dict[str, Any] = {
    "_scope_": "mmdet",
    "type": "RetinaNet",
    "data_preprocessor": {
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "pad_size_divisor": 32,
    },
    "backbone": {
        "type": "ResNet",
        "depth": 18,
        "base_channels": 8,
        "num_stages": 4,
        "out_indices": [0, 1, 2, 3],
        "frozen_stages": 1,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "norm_eval": True,
        "style": "pytorch",
    },
    "neck": {
        "type": "FPN",
        "in_channels": [8, 16, 32, 64],
        "out_channels": 16,
        "start_level": 1,
        "add_extra_convs": "on_input",
        "num_outs": 5,
    },
    "bbox_head": {
        "type": "RetinaHead",
        "num_classes": 80,
        "in_channels": 16,
        "stacked_convs": 1,
        "feat_channels": 16,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "octave_base_scale": 4,
            "scales_per_octave": 3,
            "ratios": [0.5, 1.0, 2.0],
            "strides": [8, 16, 32, 64, 128],
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    },
    "train_cfg": {
        "assigner": {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": 0.5,
            "neg_iou_thr": 0.4,
            "min_pos_iou": 0,
            "ignore_iof_thr": -1,
        },
        "sampler": {"type": "PseudoSampler"},
        "allowed_border": -1,
        "pos_weight": -1,
        "debug": False,
    },
    "test_cfg": {
        "nms_pre": 1000,
        "min_bbox_size": 0,
        "score_thr": 0.05,
        "nms": {"type": "nms", "iou_threshold": 0.5},
        "max_per_img": 100,
    },
}
SSD_NORM = {"type": "BN", "eps": 0.001, "momentum": 0.03}
SSD_LITE: dict[str, Any] = {
    "_scope_": "mmdet",
    "type": "SingleStageDetector",
    "data_preprocessor": {
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "pad_size_divisor": 1,
    },
    "backbone": {"type": "MobileNetV2", "widen_factor": 0.25, "out_indices": [4, 7], "norm_cfg": SSD_NORM},
    "neck": {
        "type": "SSDNeck",
        "in_channels": [24, 1280],
        "out_channels": [24, 1280, 64, 32, 32, 32],
        "level_strides": [2, 2, 2, 2],
        "level_paddings": [1, 1, 1, 1],
        "l2_norm_scale": None,
        "use_depthwise": True,
        "norm_cfg": SSD_NORM,
        "act_cfg": {"type": "ReLU6"},
    },
    "bbox_head": {
        "type": "SSDHead",
        "in_channels": [24, 1280, 64, 32, 32, 32],
        "use_depthwise": True,
        "norm_cfg": SSD_NORM,
        "act_cfg": {"type": "ReLU6"},
        "anchor_generator": {
            "type": "SSDAnchorGenerator",
            "scale_major": False,
            "strides": [16, 32, 64, 107, 160, 320],
            "ratios": [[2, 3]] * 6,
            "min_sizes": [48, 100, 150, 202, 253, 304],
            "max_sizes": [100, 150, 202, 253, 304, 320],
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
    },
    "train_cfg": {
        "assigner": {
            "type": "MaxIoUAssigner",
            "pos_iou_thr": 0.5,
            "neg_iou_thr": 0.5,
            "min_pos_iou": 0.0,
            "ignore_iof_thr": -1,
            "gt_max_assign_all": False,
        },
        "sampler": {"type": "PseudoSampler"},
        "smoothl1_beta": 1.0,
        "allowed_border": -1,
        "pos_weight": -1,
        "neg_pos_ratio": 3,
        "debug": False,
    },
    "test_cfg": {
        "nms_pre": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.45},
        "min_bbox_size": 0,
        "score_thr": 0.02,
        "max_per_img": 200,
    },
}


@pytest.fixture
def retina_r18() -> dict[str, Any]:
    """RetinaNet with a narrow ResNet-18."""
    return copy.deepcopy(RETINA_R18)


@pytest.fixture
def ssd_lite() -> dict[str, Any]:
    """SSDLite with a narrow MobileNetV2."""
    return copy.deepcopy(SSD_LITE)


class Peer:
    """mmdet's own loss and predict on the network inside an `MMDetNetwork`, for one batch of images."""

    def __init__(
        self, network: Any, images: Tensor, valid_hw: list[tuple[int, int]], sizes_hw: list[tuple[int, int]]
    ) -> None:
        self.network, self.images = network, images
        divisor = network.pad_divisor
        self.metas = [
            {
                "img_shape": hw,
                "ori_shape": size,
                "scale_factor": (hw[1] / size[1], hw[0] / size[0]),
                "pad_shape": tuple(-(-side // divisor) * divisor for side in hw),
            }
            for hw, size in zip(valid_hw, sizes_hw, strict=True)
        ]

    def maps(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return mmdet's raw maps."""
        return self.network.detector.bbox_head(self.network.detector.extract_feat(self.images))

    def loss(self, boxes: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mmdet's class and box loss."""
        from mmengine.structures import InstanceData

        truth = [InstanceData(bboxes=b, labels=v) for b, v in zip(boxes, labels, strict=True)]
        losses = self.network.detector.bbox_head.loss_by_feat(*self.maps(), truth, self.metas)
        return tuple(torch.stack([v.reshape(()) for v in losses[k]]).sum() for k in ("loss_cls", "loss_bbox"))  # type: ignore[return-value]

    def predict(self) -> list[Any]:
        """Return mmdet's detections in pixels of the original images."""
        with torch.no_grad():
            return self.network.detector.bbox_head.predict_by_feat(
                *self.maps(), batch_img_metas=self.metas, rescale=True
            )


@pytest.fixture
def peer() -> type[Peer]:
    """mmdet's numbers for the same weights."""
    return Peer
