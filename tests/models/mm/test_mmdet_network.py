"""mmdet's detectors behind our interface: same numbers as mmdet on the same weights, and clear refusals."""

from typing import Any

import numpy as np
import pytest
import torch
import yaml

from al_lab.core.errors import ConfigError
from al_lab.data.loading.batch import pad_boxes
from al_lab.models.detectors.flip import FlipRule
from al_lab.models.detectors.network import together
from al_lab.models.detectors.postprocess import decode_batch
from al_lab.models.detectors.priors import SSD300_COCO, SSD300_VOC, ssd_priors
from al_lab.models.detectors.settings import Postprocess
from al_lab.objectives.csd import CSD
from al_lab.objectives.supervised import Supervised, targets_of
from al_lab.strategies.detection.al_ssl import image_facts

pytest.importorskip("mmdet")
from al_lab.learners.class_gradient import _inputs_of
from al_lab.models.mm.mmdet_network import MMDetNetwork  # noqa: E402

BOXES = [torch.tensor([[12.0, 20, 90, 120], [60, 10, 150, 60], [100, 70, 118, 92]]), torch.tensor([[5.0, 5, 70, 100]])]
LABELS = [torch.tensor([0, 2, 1]), torch.tensor([1])]


def build(model: dict[str, Any], hw: tuple[int, int], seed: int = 0, **kwargs: Any) -> MMDetNetwork:
    torch.manual_seed(seed)
    network = MMDetNetwork(3, model, hw, **kwargs)
    # Spread the predictions: a fresh head says nearly the same everywhere.
    for layer in network.detector.bbox_head.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.1)
    # Fresh BatchNorm statistics let features die out; take those of one batch (where the config trains them at all).
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images(2, 3, *hw))
    return network.eval()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def assert_same_loss(network: MMDetNetwork, peer: Any, boxes: list, labels: list, valid_hw: torch.Tensor) -> None:
    objective = Supervised()
    head = network(peer.images)
    terms = objective.terms(network, head, targets_of(network, head, *pad_boxes(boxes, labels), valid_hw))
    count = objective.normalizer(network, terms.num_positives)
    ours = ((terms.class_positive + terms.class_negative).sum() / count, terms.box.sum() / count)
    theirs = peer.loss(boxes, labels)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-5)
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = []
    for total in (sum(ours), sum(theirs)):
        parts = torch.autograd.grad(total, parameters, allow_unused=True)
        gradients.append(
            torch.cat(
                [torch.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(parts, parameters, strict=True)]
            )
        )
    assert gradients[1].norm() > 0
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def assert_same_detections(network: MMDetNetwork, peer: Any, sizes_hw: list, valid_hw: torch.Tensor) -> None:
    with torch.no_grad():
        ours = decode_batch(network(peer.images), network, sizes_hw, valid_hw=valid_hw)
    theirs = peer.predict()
    assert sum(len(o) for o in ours) > 50
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.confidence, other.scores.numpy(), rtol=1e-4)
        # Confidences that differ in the last bit may stand in either order, so every detection looks for its partner.
        far = (np.abs(mine.boxes_xyxy[:, None] - other.bboxes.numpy()).max(-1) > 0.05) | (
            mine.labels[:, None] != other.labels.numpy()
        )
        assert (~far).any(1).all()
        assert (~far).any(0).all()


def test_ssd_loss_and_detections_equal_mmdet(ssd_lite: dict, peer: Any) -> None:
    network = build(ssd_lite, (320, 320))
    assert (network.activation, network.matching.force_ties, network.code.variances) == (
        "softmax",
        False,
        (0.1, 0.1, 0.2, 0.2),
    )
    sizes, inputs = [(240, 400), (320, 160)], torch.tensor([[320, 320]] * 2)
    other = peer(network, images(2, 3, 320, 320), [(320, 320)] * 2, sizes)
    assert_same_loss(network, other, [b * 2 for b in BOXES], LABELS, inputs)
    assert_same_detections(network, other, sizes, inputs)


def test_retinanet_loss_and_detections_equal_mmdet(retina_r18: dict, peer: Any) -> None:
    """Two images of different size in one padded batch."""
    network = build(retina_r18, (128, 192), resize="keep_ratio")
    assert (network.activation, network.matching.neg_iou, network.postprocess.max_per_image) == ("sigmoid", 0.4, 100)
    valid, sizes = [(128, 170), (120, 76)], [(192, 255), (240, 152)]
    batch = images(2, 3, 128, 192)
    other = peer(network, batch, valid, sizes)
    assert_same_loss(network, other, BOXES, LABELS, torch.tensor(valid))
    assert_same_detections(network, other, sizes, torch.tensor(valid))


def test_an_image_without_boxes_counts_as_in_mmdet(retina_r18: dict, peer: Any) -> None:
    network = build(retina_r18, (128, 192))
    inputs = torch.tensor([[128, 192]] * 2)
    other = peer(network, images(2, 3, 128, 192), [(128, 192)] * 2, [(128, 192)] * 2)
    assert_same_loss(
        network, other, [BOXES[0], torch.zeros(0, 4)], [LABELS[0], torch.zeros(0, dtype=torch.long)], inputs
    )


def from_yaml(name: str, num_classes: int, **kwargs: Any) -> MMDetNetwork:
    with open(f"conf/detector/{name}.yaml") as stream:
        node = yaml.safe_load(stream)
    assert node.pop("_target_") == "al_lab.models.mm.mmdet_network.MMDetNetwork"
    if "postprocess" in node:
        node["postprocess"] = Postprocess(**{k: v for k, v in node["postprocess"].items() if k != "_target_"})
    return MMDetNetwork(num_classes, **{**node, "weights": None, **kwargs})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "spec", "parameters"),
    [("ssd300_voc", 20, SSD300_VOC, 26_285_486), ("ssd300_coco", 80, SSD300_COCO, 34_305_206)],
)
def test_ssd300_is_the_published_network(name: str, classes: int, spec: Any, parameters: int) -> None:
    network = from_yaml(name, classes)
    assert sum(p.numel() for p in network.parameters()) == parameters
    torch.testing.assert_close(network.priors, ssd_priors(spec), atol=2e-7, rtol=0)
    assert (network.detector.neck.l2_norm.weight == 20).all()
    with torch.no_grad():
        head = network(torch.zeros(1, 3, 300, 300))
    assert head.logits.shape == (1, 8732, classes + 1)
    assert head.level_sizes == (5776, 2166, 600, 150, 36, 4)
    assert network.embedding(head.features).shape == (1, 256)


@pytest.mark.slow
def test_ssd300_loss_and_detections_equal_mmdet(peer: Any) -> None:
    with open("conf/detector/ssd300_voc.yaml") as stream:
        model = yaml.safe_load(stream)["model"]
    model["train_cfg"] |= {
        "sampler": {"type": "PseudoSampler"},
        "smoothl1_beta": 1.0,
        "allowed_border": -1,
        "pos_weight": -1,
        "neg_pos_ratio": 3,
    }
    model["test_cfg"] = {
        "nms_pre": 1000,
        "nms": {"type": "nms", "iou_threshold": 0.45},
        "min_bbox_size": 0,
        "score_thr": 0.02,
        "max_per_img": 200,
    }
    torch.manual_seed(0)
    network = MMDetNetwork(20, model, (300, 300))
    other = peer(network, images(2, 3, 300, 300) * 5, [(300, 300)] * 2, [(375, 500), (500, 333)])
    inputs = torch.tensor([[300, 300]] * 2)
    assert_same_loss(network, other, [b * 1.8 for b in BOXES], LABELS, inputs)
    assert_same_detections(network, other, [(375, 500), (500, 333)], inputs)


@pytest.mark.slow
def test_retinanet_r50_builds_from_its_yaml() -> None:
    network = from_yaml("retinanet_r50", 20, input_hw=(96, 160))
    assert network.mean == (123.675, 116.28, 103.53)
    head = network(torch.zeros(1, 3, 96, 160))
    assert head.logits.shape == (1, sum(head.level_sizes), 20)
    assert network.embedding(head.features).shape == (1, 256)


def test_background_comes_first(ssd_lite: dict) -> None:
    network = build(ssd_lite, (320, 320))
    batch = images(1, 3, 320, 320)
    with torch.no_grad():
        maps = network.detector.bbox_head(network.detector.extract_feat(batch))[0]
        first = maps[0].permute(0, 2, 3, 1).reshape(1, -1, 4)
        got = network(batch).logits[:, : first.shape[1]]
    torch.testing.assert_close(got[..., 0], first[..., 3])
    torch.testing.assert_close(got[..., 1:], first[..., :3])


def test_anchors_follow_the_padded_shape(retina_r18: dict) -> None:
    network = build(retina_r18, (128, 192), resize="keep_ratio")
    with torch.no_grad():
        wide, tall = network(images(1, 3, 128, 192)), network(images(1, 3, 192, 96))
    for head in (wide, tall):
        assert len(head.priors) == head.logits.shape[1] == sum(head.level_sizes)
    pixels = tall.priors * torch.tensor([96.0, 192, 96, 192])
    assert pixels[0, :2].tolist() == [0, 0]
    torch.testing.assert_close(pixels[9, :2], torch.tensor([8.0, 0.0]))
    assert network(images(1, 3, 192, 96)).priors is tall.priors


def test_frozen_layers_and_batchnorm_keep_their_meaning(retina_r18: dict) -> None:
    network = build(retina_r18, (128, 192)).train()
    backbone = network.detector.backbone
    assert not any(p.requires_grad for p in [*backbone.conv1.parameters(), *backbone.layer1.parameters()])
    assert all(p.requires_grad for p in backbone.layer2.parameters())
    assert not any(m.training for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_channel_order_of_caffe_style_models(retina_r18: dict) -> None:
    """bgr_to_rgb=false means the network eats BGR; we always feed RGB."""
    rgb = build(retina_r18, (128, 192))
    retina_r18["data_preprocessor"] |= {"bgr_to_rgb": False, "mean": [103.53, 116.28, 123.675]}
    bgr = build(retina_r18, (128, 192))
    assert bgr.mean == (123.675, 116.28, 103.53)
    batch = images(1, 3, 128, 192)
    with torch.no_grad():
        torch.testing.assert_close(bgr(batch).logits, rgb(batch.flip(1)).logits)


def test_embedding_choices(retina_r18: dict) -> None:
    batch = images(2, 3, 128, 192)
    with torch.no_grad():
        network = build(retina_r18, (128, 192), embedding_from="mean")
        features = network(batch).features
        torch.testing.assert_close(network.embedding(features), torch.stack([f.mean((2, 3)) for f in features]).mean(0))
        network.embedding_from = 1
        torch.testing.assert_close(network.embedding(features), features[1].mean((2, 3)))


def test_a_level_that_is_not_there_is_refused(retina_r18: dict) -> None:
    with pytest.raises(ConfigError, match=r"detector.embedding_from: expected a level in 0..4, got 7"):
        MMDetNetwork(3, retina_r18, (128, 192), embedding_from=7)


def test_levels_of_unequal_width_have_no_mean(ssd_lite: dict) -> None:
    with pytest.raises(ConfigError, match="equal width for embedding_from=mean"):
        MMDetNetwork(3, ssd_lite, (320, 320), embedding_from="mean")


def test_another_anchor_detector_works_and_says_which_loss_trains_it(
    retina_r18: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """PAFPN neck and a shared-convolution head with GHM loss: network and anchors are mmdet's, the loss is the
    objective's."""
    retina_r18["neck"]["type"] = "PAFPN"
    retina_r18["bbox_head"] |= {
        "type": "RetinaSepBNHead",
        "num_ins": 5,
        "norm_cfg": {"type": "BN"},
        "loss_cls": {"type": "GHMC", "bins": 30, "momentum": 0.75, "use_sigmoid": True},
    }
    network = build(retina_r18, (128, 192))
    assert "loss_cls=GHMC has no effect" in caplog.text
    batch = images(2, 3, 128, 192)
    head = network(batch)
    targets = targets_of(network, head, *pad_boxes(BOXES, LABELS))
    Supervised().terms(network, head, targets).class_positive.sum().backward()
    assert decode_batch(
        head._replace(logits=head.logits.detach(), deltas=head.deltas.detach()), network, [(128, 192)] * 2
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {
                "type": "FCOSHead",
                "loss_bbox": {"type": "IoULoss"},
                "drop": ["anchor_generator"],
                "strides": [8, 16, 32, 64, 128],
                "norm_cfg": None,
            },
            "points or queries",
        ),
        (
            {
                "type": "ATSSHead",
                "loss_centerness": {"type": "CrossEntropyLoss", "use_sigmoid": True},
                "norm_cfg": None,
            },
            "two outputs a level.*got 3",
        ),
        (
            {
                "type": "FSAFHead",
                "bbox_coder": {"type": "TBLRBBoxCoder", "normalizer": 4.0},
                "loss_bbox": {"type": "IoULoss"},
                "reg_decoded_bbox": True,
            },
            "coded by TBLRBBoxCoder",
        ),
        ({"type": "RetinaHaed"}, "a model dict mmdet can build"),
    ],
)
def test_heads_that_speak_another_language_are_refused(retina_r18: dict, change: dict, message: str) -> None:
    head = retina_r18["bbox_head"]
    for key in change.pop("drop", []):
        del head[key]
    if change["type"] == "FCOSHead":
        del head["bbox_coder"]
    if change["type"] == "ATSSHead":
        head["anchor_generator"] = {
            "type": "AnchorGenerator",
            "ratios": [1.0],
            "octave_base_scale": 8,
            "scales_per_octave": 1,
            "strides": [8, 16, 32, 64, 128],
        }
    head |= change
    with pytest.raises(ConfigError, match=message):
        MMDetNetwork(3, retina_r18, (128, 192))


def test_a_two_stage_detector_is_refused() -> None:
    model = {"_scope_": "mmdet", "type": "FasterRCNN", "backbone": {"type": "ResNet"}, "rpn_head": {}, "roi_head": {}}
    with pytest.raises(ConfigError, match="MMDetDetector takes two stages and queries"):
        MMDetNetwork(3, model, (128, 192))


def test_soft_nms_is_refused(retina_r18: dict) -> None:
    retina_r18["test_cfg"]["nms"] = {"type": "soft_nms", "iou_threshold": 0.5}
    with pytest.raises(ConfigError, match="greedy NMS"):
        MMDetNetwork(3, retina_r18, (128, 192))


@pytest.mark.parametrize("kind", ["ssd_lite", "retina_r18"])
def test_an_image_is_compared_with_its_flipped_image_by_softmax_and_sigmoid_heads(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """The objective's gradient reaches the network, and the acquisition's boxes come with the flipped image's
    distribution."""
    hw = (96, 96) if kind == "ssd_lite" else (96, 160)
    network = build(request.getfixturevalue(kind), hw)
    pixels = images(2, 3, *hw)
    head, flipped = together(network, pixels, pixels.flip(-1))
    pairs = network.flip_anchors(head)
    assert torch.equal(pairs.anchor[pairs.anchor], torch.arange(head.logits.shape[1]))
    classes, boxes, count = CSD(be_mask="none").consistency(network, head, flipped)
    (classes + boxes).backward()
    assert count == head.logits.shape[0] * head.logits.shape[1]
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    size = torch.tensor([hw, hw])
    found = FlipRule(
        count_thresh=float(network.probs(head.logits.detach())[..., -network.num_classes :].max()) * 0.9
    ).compare(network, head, flipped, [hw, hw], size)
    assert sum(len(d) for d in found) > 0
    for detections in found:
        facts = image_facts(detections)
        assert detections.flip_probs.shape == detections.probs.shape
        assert len(detections) == 0 or (0 < facts["entropy"] <= 1 and facts["inconsistency"] > 0)


@pytest.mark.parametrize("kind", ["ssd_lite", "retina_r18"])
def test_class_layers_give_the_logits(request: pytest.FixtureRequest, kind: str) -> None:
    network = build(request.getfixturevalue(kind), (64, 64)).eval()
    layers = network.class_layers()
    with torch.no_grad():
        with _inputs_of(layers) as calls:
            head = network(images(2, 3, 64, 64))
        again = network.class_logits([layers[k](x) for k, x in calls])
    assert len(layers) == (1 if kind == "retina_r18" else len(head.level_sizes))
    torch.testing.assert_close(again, head.logits)


def test_branches_see_what_the_head_sees_and_ssds_maps_before_their_norm(ssd_lite: dict, retina_r18: dict) -> None:
    ssd_lite["neck"] |= {"l2_norm_scale": 20, "use_depthwise": False, "norm_cfg": None}
    ssd = build(ssd_lite, (320, 320), branches=["learning_loss"])
    retina = build(retina_r18, (128, 192), branches=["learning_loss"])
    with torch.no_grad():
        for network, hw in ((ssd, (320, 320)), (retina, (128, 192))):
            head, maps = network(images(1, 3, *hw)), network.trunk(images(1, 3, *hw))
            assert all(map(torch.equal, head.features, network.detector.extract_feat(images(1, 3, *hw))))
            first = maps.levels[0] if network is retina else network.detector.neck.l2_norm(maps.unscaled[0])
            assert torch.equal(first, head.features[0]) and torch.equal(maps.unscaled[-1], head.features[-1])
            predicted = network.branch("learning_loss").predict(list(maps.unscaled))
            torch.testing.assert_close(predicted, head.extra["predicted_loss"])
    assert not torch.equal(network.branch("learning_loss").predict(list(maps.levels)), torch.zeros(1, 1))
    other = {"learning_loss": {"tap": "neck"}}
    torch.manual_seed(0)
    assert MMDetNetwork(3, ssd_lite, (320, 320), branches=other).branch("learning_loss").tap == "neck"


def test_class_maps_are_the_towers_last_ones_of_the_images_not_of_their_flips(retina_r18: dict, ssd_lite: dict) -> None:
    network, hw = build(retina_r18, (96, 128)), torch.tensor([[96, 128]] * 2)
    with torch.inference_mode():
        head, _ = network.look_flipped(images(2, 3, 96, 128), hw)
        again = network.class_maps(head)
        tower = network.detector.bbox_head.cls_convs
        for level, found in zip(head.features, again, strict=True):
            for layer in tower:
                level = layer(level)
            torch.testing.assert_close(found, level)
    network.train()(images(1, 3, 96, 128))
    assert network._tower_maps == []  # a training holds on to none
    ssd = build(ssd_lite, (64, 64))
    with torch.inference_mode():
        head = ssd.look(images(1, 3, 64, 64), torch.tensor([[64, 64]]))
    assert ssd.class_maps(head) is not None and len(ssd.class_maps(head)) == len(head.level_sizes)
