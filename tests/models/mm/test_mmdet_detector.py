"""mmdet's two-stage, dense and query detectors behind our interface: its own losses and detections, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import Batch
from al_lab.models.detectors.settings import Postprocess

pytest.importorskip("mmdet")
from al_lab.models.mm import mmcv_ext  # noqa: E402
from al_lab.models.mm.mmdet_detector import MMDetDetector, _samples  # noqa: E402

BACKBONE = {"depth": 18, "base_channels": 8, "norm_eval": False, "frozen_stages": -1}
FPN = {"backbone": BACKBONE, "neck": {"in_channels": [8, 16, 32, 64]}}
FEW = {"test_cfg": {"max_per_img": 20}, "num_queries": 20, "encoder": {"num_layers": 1}, "decoder": {"num_layers": 2}}
MODELS = {
    "atss": ("atss/atss_r50_fpn_1x_coco.py", FPN),
    "rtmdet": ("rtmdet/rtmdet_tiny_8xb32-300e_coco.py", {}),
    "gfl": ("gfl/gfl_r50_fpn_1x_coco.py", FPN),
    "fcos": ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", FPN),
    "faster_rcnn": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", FPN),
    "cascade_rcnn": ("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", FPN),
    "dino": (
        "dino/dino-4scale_r50_8xb2-12e_coco.py",
        {"backbone": BACKBONE, "neck": {"in_channels": [16, 32, 64]}, "dn_cfg": {"group_cfg": {"num_dn_queries": 10}}}
        | FEW,
    ),
    "detr": ("detr/detr_r50_8xb2-150e_coco.py", {"backbone": BACKBONE, "neck": {"in_channels": [64]}} | FEW),
}
QUICK = ("atss", "dino")
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS]
VALID = torch.tensor([[96, 128], [90, 100]])
SIZES = [(96, 128), (90, 100)]


def build(name: str, **options: Any) -> MMDetDetector:
    torch.manual_seed(0)
    config, changes = MODELS[name]
    return MMDetDetector(3, (96, 128), config=config, model=changes, **options)


def batch() -> Batch:
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(7))
    images[1, :, 90:], images[1, :, :, 100:] = 0, 0
    boxes = torch.tensor([[[5.0, 5, 60, 70], [20, 30, 50, 60]], [[10, 10, 40, 40], [0, 0, 0, 0]]])
    kind = torch.tensor([1, 1])
    return Batch(images, ["a", "b"], boxes, torch.tensor([[0, 1], [2, 0]]), kind, torch.tensor(SIZES), VALID)


def lowered(network: MMDetDetector) -> None:
    """Lower the least confidence of mmdet's and of ours alike: a fresh network is sure of nothing."""
    head = getattr(network.detector, "roi_head", None) or network.detector.bbox_head
    if network._kind != "queries":
        head.test_cfg.score_thr = 0.0
    old = network.postprocess
    network.postprocess = Postprocess(
        0.0, old.nms_iou, old.max_per_class, old.max_per_level, old.max_per_image, clip=True
    )


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_detections_are_mmdets(name: str) -> None:
    network, data = build(name).train(), batch()
    truth = [{"boxes": data.boxes[n, :k], "labels": data.labels[n, :k]} for n, k in enumerate((2, 1))]
    torch.manual_seed(3)  # proposals are sampled, and DINO adds noise to boxes
    ours = network.loss(data)
    torch.manual_seed(3)
    theirs, _ = network.detector.parse_losses(
        network.detector.loss(network._inputs(data.images), _samples(data.images, VALID, truth))
    )
    torch.testing.assert_close(ours["loss"], theirs, rtol=1e-4, atol=1e-4)
    ours["loss"].backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.detector.backbone.parameters())
    network.eval()
    lowered(network)
    with torch.inference_mode():
        found = network.detections(network.look(data.images, VALID), SIZES, VALID)
        samples = network.detector.predict(network._inputs(data.images), _samples(data.images, VALID), rescale=False)
    assert sum(len(f) for f in found) > 10
    for mine, sample in zip(found, samples, strict=True):
        other = sample.pred_instances
        count = min(len(mine), len(other.scores))
        assert count > 5
        np.testing.assert_allclose(mine.confidence[:count], other.scores.numpy()[:count], rtol=1e-3, atol=1e-5)
        far = (np.abs(mine.boxes_xyxy[:count, None] - other.bboxes.numpy()).max(-1) > 0.05) | (
            mine.labels[:count, None] != other.labels.numpy()
        )
        assert (~far).any(1).mean() > 0.95
        first = int(network.activation == "softmax")
        assert mine.probs.shape[1] == 3 + first
        np.testing.assert_allclose(mine.probs[np.arange(len(mine)), mine.labels + first], mine.confidence)


def test_more_queries_than_places_are_refused_with_the_size_that_is_enough() -> None:
    config, changes = MODELS["dino"]
    with pytest.raises(ConfigError, match=r"224 x 224 pixels, got 96 x 128, whose maps have 256 places.* 900 queries"):
        MMDetDetector(3, (96, 128), config=config, model=changes | {"num_queries": 900})
    narrow = MMDetDetector(3, (96, 640), config=config, model=changes | {"num_queries": 180}, resize="keep_ratio")
    with pytest.raises(ConfigError, match="got 32 x 256, whose maps have 172 places"):
        narrow.look(torch.zeros(1, 3, 32, 256), torch.tensor([[32, 256]]))


def test_deformable_attention_needs_no_kernel() -> None:
    """What a compiled op would compute on a card, and its gradients, from mmcv's own form in PyTorch."""
    mmcv_ext.install()
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch

    torch.manual_seed(0)
    shapes = torch.tensor([[4, 6], [2, 3]])
    starts = torch.tensor([0, 24])
    inputs = [torch.randn(2, 30, 2, 4), torch.rand(2, 5, 2, 2, 3, 2), torch.rand(2, 5, 2, 2, 3)]
    ours, theirs = ([v.clone().requires_grad_() for v in inputs] for _ in range(2))
    out = MultiScaleDeformableAttnFunction.apply(ours[0], shapes, starts, ours[1], ours[2], 64)
    reference = multi_scale_deformable_attn_pytorch(theirs[0], shapes, theirs[1], theirs[2])
    torch.testing.assert_close(out, reference)
    out.square().sum().backward()
    reference.square().sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_whole_detector_comes_from_a_file(tmp_path: Path) -> None:
    known = build("atss")
    torch.save({"state_dict": known.detector.state_dict()}, tmp_path / "atss.pth")
    config, changes = MODELS["atss"]
    other = MMDetDetector(5, (96, 128), config=config, model=changes, weights=str(tmp_path / "atss.pth"))
    assert torch.equal(other.detector.bbox_head.atss_reg.weight, known.detector.bbox_head.atss_reg.weight)
    assert other.detector.bbox_head.atss_cls.out_channels == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "atss/atss_r50.py"}, r"a config file of mmdet, got 'atss/atss_r50.py'; did you mean 'atss/atss_r"),
        ({"config": "../../registry.py"}, "a config file of mmdet"),
        ({"config": "yolox/yolox_tiny_8xb8-300e_coco.py"}, "expected two stages, a dense head that ranks its places"),
        ({"config": "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"}, "a detector for boxes, got one with masks"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MMDetDetector(3, (96, 128), **arguments)
