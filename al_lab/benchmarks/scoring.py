"""Scoring a pool with SSD300: what decoding and NMS add to the bare forward pass, and mmdet's predict for the same."""

import dataclasses
import functools
import importlib.util
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from al_lab.benchmarks.measure import Row, best_of
from al_lab.config.options import CONF_DIR
from al_lab.core.types import Detections

log = logging.getLogger(__name__)

# (anchor, class) pairs above 0.01 in an image; a fresh head would have 170,000, a trained one has hundreds
CANDIDATES = 1000
_SHORT = 3  # times as many repeats of what takes milliseconds
_best = functools.partial(best_of, clock=time.process_time)  # on one thread; another process's turn does not count
_YAML = CONF_DIR / "detector" / "ssd300_voc.yaml"


def ssd300(images: Tensor) -> Any:
    """Return SSD300-VGG16 (20 classes) without pretrained weights.

    It has as many candidates an image as a trained one.
    """
    from al_lab.models.mm.mmdet_network import MMDetNetwork

    config = yaml.safe_load(_YAML.read_text())
    model = config["model"] | {
        "test_cfg": {
            "nms_pre": 1000,
            "nms": {"type": "nms", "iou_threshold": 0.45},
            "min_bbox_size": 0,
            "score_thr": 0.01,
            "max_per_img": 200,
        }
    }
    torch.manual_seed(0)
    network = MMDetNetwork(20, model, tuple(config["input_hw"]), embedding_from=config["embedding_from"]).eval()
    with torch.no_grad():
        logits = network(images).logits
        head: Any = network.detector.bbox_head
        convs = [[m for m in branch.modules() if isinstance(m, torch.nn.Conv2d)][-1] for branch in head.cls_convs]
        spread = 2.0 / float(logits[..., 1:].std())
        logits = logits * spread
        low, high = 0.0, 40.0
        for _ in range(40):  # the background's bias, by bisection
            shift = (low + high) / 2
            raised = logits.clone()
            raised[..., 0] += shift
            above = int((raised.softmax(-1)[..., 1:] > 0.01).sum()) / len(images)
            low, high = (shift, high) if above > CANDIDATES else (low, shift)
        for conv in convs:
            conv.weight.mul_(spread)
            assert conv.bias is not None
            conv.bias.mul_(spread)
            conv.bias.view(-1, network.num_logits)[:, -1] += shift  # mmdet's background is the last class
    return network


def run(full: bool = False, batch: int = 8) -> Iterator[Row]:
    """Yield the rows."""
    if not importlib.util.find_spec("mmdet"):
        log.warning("mmdet is not installed: no comparison with its predict")
        return
    from al_lab.models.detectors.postprocess import decode_batch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = 60 * torch.randn(batch, 3, 300, 300, generator=torch.Generator().manual_seed(0))
        network, sizes = ssd300(images), [(375, 500)] * batch
        repeats = 5 if full else 3
        with torch.no_grad():
            maps = _maps(network, images)
            forward_s, head = _best(lambda: network(images), repeats)
            decode_s, found = _best(lambda: decode_batch(head, network, sizes, _papers(network)), _SHORT * repeats)
            matched_s, matched = _best(lambda: decode_batch(head, network, sizes), _SHORT * repeats)
            predict_s, peer = _best(lambda: _predict_by_feat(network, maps), _SHORT * repeats)
        per_image = 1 / batch
        task, kept = f"SSD300 scoring, an image (batch {batch})", sum(map(len, found)) / batch
        yield Row(
            task,
            "its bare forward",
            (forward_s + decode_s) * per_image,
            forward_s * per_image,
            (forward_s + decode_s) / forward_s,
            "<= 1.15",
            None,
            f"ratio ours / peer's; {kept:.0f} boxes kept an image with their whole class distributions",
        )
        yield Row(
            task,
            "mmdet forward + predict",
            (forward_s + matched_s) * per_image,
            (forward_s + predict_s) * per_image,
            (forward_s + predict_s) / (forward_s + matched_s),
            "",
            _equal(matched, peer),
            "mmdet's settings for both",
        )
        yield Row(
            "SSD300 decode + NMS, an image",
            "mmdet predict_by_feat",
            matched_s * per_image,
            predict_s * per_image,
            predict_s / matched_s,
            ">= 1.5",
            _equal(matched, peer),
            "the same without the forward; CPU seconds",
        )
    finally:
        torch.set_num_threads(threads)


def _papers(network: Any) -> Any:
    """Return the settings of SSD's own code: at most 200 boxes a class, no total."""
    return dataclasses.replace(
        network.postprocess, conf_min=0.01, nms_iou=0.45, max_per_class=200, max_per_level=None, max_per_image=None
    )


def _maps(network: Any, images: Tensor) -> Any:
    return network.detector.bbox_head(network.detector.extract_feat(images))


def _predict_by_feat(network: Any, maps: Any) -> list[Any]:
    batch = len(maps[0][0])
    metas = [
        {
            "img_shape": (300, 300),
            "ori_shape": (375, 500),
            "scale_factor": (300 / 500, 300 / 375),
            "pad_shape": (300, 300),
        }
    ] * batch
    results: list[Any] = network.detector.bbox_head.predict_by_feat(*maps, batch_img_metas=metas, rescale=True)
    return results


def _equal(ours: list[Detections], theirs: list[Any]) -> bool:
    """Compare sorted confidences.

    Every box of ours has to have a partner of the same class, too, within a twentieth of a pixel.
    """
    for mine, other in zip(ours, theirs, strict=True):
        if len(mine) != len(other.scores) or not np.allclose(
            mine.confidence, np.sort(other.scores.numpy())[::-1], rtol=1e-4
        ):
            return False
        near = (np.abs(mine.boxes_xyxy[:, None] - other.bboxes.numpy()).max(-1) < 0.05) & (
            mine.labels[:, None] == other.labels.numpy()
        )
        if not near.any(1).all():
            return False
    return True
