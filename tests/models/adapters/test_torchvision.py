"""torchvision's detectors behind our interface: its own losses and detections, whole distributions, clear refusals."""

from typing import Any

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError, WeightsError
from al_lab.data.loading.batch import Batch
from al_lab.models.adapters.torchvision_detector import TorchvisionDetector, _Padded

SIZES = [(100, 120), (96, 60)]
VALID = torch.tensor([[80, 96], [96, 64]])
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SSD = "ssdlite320_mobilenet_v3_large"


def batch(side: int = 96) -> Batch:
    """Two images of different size in one padded input."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))
    for image, (h, w) in zip(images, VALID.tolist(), strict=True):
        image[:, h:], image[:, :, w:] = 0, 0
    boxes = torch.tensor([[[5.0, 5, 60, 70], [20, 30, 50, 60]], [[10, 10, 40, 40], [0, 0, 0, 0]]])
    kind = torch.tensor([1, 1])
    return Batch(images, ["a", "b"], boxes, torch.tensor([[0, 1], [2, 0]]), kind, torch.tensor(SIZES), VALID)


def build(model: str, **options: Any) -> TorchvisionDetector:
    torch.manual_seed(0)
    return TorchvisionDetector(3, model, (96, 96), options=options)


def theirs(network: TorchvisionDetector, images: torch.Tensor) -> list[dict[str, np.ndarray]]:
    """What torchvision's own forward finds, in pixels of the original images."""
    with torch.no_grad():
        found = network.network.eval()(_Padded(images, VALID))
    scales = [[w / v[1], h / v[0]] * 2 for (h, w), v in zip(SIZES, VALID.tolist(), strict=True)]
    return [
        {k: v.numpy() * (np.array(scale, np.float32) if k == "boxes" else 1) for k, v in one.items()}
        for one, scale in zip(found, scales, strict=True)
    ]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (SMALL, {"box_detections_per_img": 20}),
        (SSD, {"detections_per_img": 40}),
        pytest.param("fcos_resnet50_fpn", {"score_thresh": 0.0, "topk_candidates": 50}, marks=pytest.mark.slow),
        pytest.param("retinanet_resnet50_fpn", {"score_thresh": 0.0, "topk_candidates": 50}, marks=pytest.mark.slow),
    ],
)
def test_loss_and_detections_are_torchvisions(model: str, options: dict[str, Any]) -> None:
    network, data = build(model, **options).train(), batch()
    if network.kind == "FCOS":  # from random weights half its boxes are empty: torchvision returns them, we don't
        torch.nn.init.constant_(network.network.head.regression_head.bbox_reg.bias, 8.0)
    first = 1 if network.activation == "softmax" else 0
    targets = [
        {"boxes": data.boxes[0], "labels": data.labels[0] + first},
        {"boxes": data.boxes[1, :1], "labels": data.labels[1, :1] + first},
    ]
    torch.manual_seed(3)  # proposals and anchors are sampled
    ours = network.loss(data)
    torch.manual_seed(3)
    parts = network.network(_Padded(data.images, VALID), targets)
    torch.testing.assert_close(ours["loss"], sum(parts.values()))
    ours["loss"].backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.network.backbone.parameters())
    network.eval()
    with torch.inference_mode():
        seen = network.look(data.images, VALID)
        found = network.detections(seen, SIZES, VALID)
    assert sum(len(f) for f in found) > 10
    for mine, other in zip(found, theirs(network, data.images), strict=True):
        np.testing.assert_allclose(mine.confidence, other["scores"], rtol=1e-4, atol=1e-6)
        far = (np.abs(mine.boxes_xyxy[:, None] - other["boxes"]).max(-1) > 0.01) | (
            mine.labels[:, None] + first != other["labels"]
        )
        assert (~far).any(1).mean() >= 0.95  # equally sure boxes may stand in either order where the list ends
        assert mine.probs.shape[1] == 3 + first
        np.testing.assert_allclose(mine.probs[np.arange(len(mine)), mine.labels + first], mine.confidence)
        if first:
            np.testing.assert_allclose(mine.probs.sum(1), 1, rtol=1e-5)


def test_embeddings_of_images_and_boxes() -> None:
    network, data = build(SMALL, box_score_thresh=0.0, box_detections_per_img=5).eval(), batch()
    with torch.inference_mode():
        seen = network.look(data.images, VALID)
        found = network.detections(seen, SIZES, VALID)
        of_boxes = network.box_embeddings(seen, found, SIZES, VALID / 96)
        assert network.embedding(seen.features).shape == (2, 256)
    assert [tuple(rows.shape) for rows in of_boxes] == [(5, 256), (5, 256)]
    assert not torch.equal(of_boxes[0][0], of_boxes[0][1])


def test_a_flipped_image_is_flipped_within_its_own_part() -> None:
    network, data = build(SMALL).eval(), batch()
    with torch.inference_mode():
        seen, flipped = network.look_flipped(data.images, VALID)
        mirror = torch.zeros_like(data.images)
        for row, (h, w) in enumerate(VALID.tolist()):
            mirror[row, :, :h, :w] = data.images[row, :, :h, :w].flip(-1)
        again = network.look(mirror, VALID)
    assert torch.equal(flipped.features[0], again.features[0])
    assert network.flip_width(seen, SIZES[0], (80, 96)) == 120


def test_a_backbone_and_a_whole_detector_come_from_files(tmp_path: Any) -> None:
    from torchvision.models import mobilenet_v3_large

    classifier = mobilenet_v3_large()
    torch.save(classifier.state_dict(), tmp_path / "backbone.pth")
    network = TorchvisionDetector(
        3, SMALL, (96, 96), weights=str(tmp_path / "backbone.pth"), norm="frozen", frozen=["body.0", "body.1"]
    )
    body = network.network.backbone.body
    assert torch.equal(body["0"][0].weight, classifier.features[0][0].weight)
    assert not body["0"][0].weight.requires_grad and body["4"].block[0][0].weight.requires_grad
    assert not [m for m in network.network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    torch.save(build(SMALL).network.state_dict(), tmp_path / "whole.pth")
    other = TorchvisionDetector(7, SMALL, (96, 96), weights=str(tmp_path / "whole.pth"))
    known = build(SMALL).network
    assert torch.equal(other.network.rpn.head.cls_logits.weight, known.rpn.head.cls_logits.weight)
    assert other.network.roi_heads.box_predictor.cls_score.out_features == 8
    with pytest.raises(WeightsError, match="a checkpoint of this FasterRCNN"):
        TorchvisionDetector(3, "fasterrcnn_resnet50_fpn_v2", (96, 96), weights=str(tmp_path / "whole.pth"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "fasterrcnn_resnet18"}, "one of torchvision's detectors: fasterrcnn_mobilenet"),
        ({"model": "maskrcnn_resnet50_fpn"}, "got 'maskrcnn_resnet50_fpn'"),
        ({"model": SMALL, "options": {"box_nms": 0.4}}, "box_nms"),
        ({"model": SMALL, "frozen": ["body.stem"]}, "expected a part of the backbone, got 'body.stem'"),
        ({"model": SMALL, "norm": "group"}, "detector.norm"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchvisionDetector(3, input_hw=(96, 96), **arguments)
