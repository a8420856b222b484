"""mmsegmentation's networks behind our interface: same logits as mmsegmentation on the same weights, and clear
refusals."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from al_lab.core.errors import ConfigError
from al_lab.models.segmenters.segmenter import upsample

pytest.importorskip("mmseg")
from al_lab.models.mm.mmseg_network import MMSegNetwork  # noqa: E402

BRANCH = {"dim": 8, "estimator": "dmc3"}
FCN_R18 = {
    "_scope_": "mmseg",
    "type": "EncoderDecoder",
    "data_preprocessor": {
        "type": "SegDataPreProcessor",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
    },
    "backbone": {
        "type": "ResNet",
        "depth": 18,
        "base_channels": 8,
        "num_stages": 4,
        "out_indices": [0, 1, 2, 3],
        "strides": [1, 2, 1, 1],
        "dilations": [1, 1, 2, 4],
        "norm_cfg": {"type": "BN", "requires_grad": False},
        "norm_eval": True,
        "style": "pytorch",
    },
    "decode_head": {
        "type": "FCNHead",
        "in_channels": 64,
        "in_index": 3,
        "channels": 16,
        "num_convs": 1,
        "dropout_ratio": 0.0,
        "num_classes": 19,
        "norm_cfg": {"type": "GN", "num_groups": 4},
        "align_corners": True,
    },
}


def changed(**parts):
    model = copy.deepcopy(FCN_R18)
    for key, value in parts.items():
        model[key] = {**model.get(key, {}), **value} if isinstance(value, dict) else value
    return model


def build(model=FCN_R18, num_classes=5, **options):
    torch.manual_seed(0)
    return MMSegNetwork(num_classes, model, **options)


def test_logits_are_mmsegmentations():
    """Upsampled as ours are, they equal what its own predict returns for the same weights."""
    from mmengine.config import ConfigDict
    from mmseg.registry import MODELS

    network = build().eval()
    peer = MODELS.build(
        ConfigDict(changed(decode_head={"num_classes": 5}, data_preprocessor=None, test_cfg={"mode": "whole"}))
    ).eval()
    peer.load_state_dict(
        {k.replace("head.", "decode_head."): v for k, v in network.state_dict().items() if k != "class_count"}
    )
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        out = network(images)
        theirs = peer.encode_decode(images, [{"img_shape": (64, 96), "ori_shape": (64, 96)}] * 2)
        torch.testing.assert_close(upsample(out.logits, (64, 96)), theirs)
        torch.testing.assert_close(out.backbone, peer.backbone(images)[-1])
    assert out.logits.shape == (2, 5, 8, 12)
    assert network.embedding(out.backbone).shape == (2, 64)


def test_branch_groups_and_gradients():
    network = build(branch=BRANCH, backbone_map=1).train()
    out = network(torch.randn(2, 3, 64, 96))
    assert out.backbone.shape[1] == 16
    (out.logits.sum() + network.branch(out.backbone).reconstruction.sum()).backward()
    (backbone, _), (rest, ten) = network.lr_multipliers()
    assert ten == 10.0
    assert len(backbone) == len([p for p in network.backbone.parameters() if p.requires_grad]) > 0
    assert {id(p) for p in rest} == {id(p) for part in (network.head, network.branch) for p in part.parameters()}
    assert network.provides == MMSegNetwork.provides


def test_channel_order_of_caffe_style_models():
    """bgr_to_rgb=false means the network eats BGR; we always feed RGB."""
    rgb, images = build().eval(), torch.randn(1, 3, 64, 64)
    bgr = build(changed(data_preprocessor={"bgr_to_rgb": False, "mean": [103.53, 116.28, 123.675]})).eval()
    assert bgr.mean == (123.675, 116.28, 103.53)
    with torch.no_grad():
        torch.testing.assert_close(bgr(images).logits, rgb(images.flip(1)).logits)


def test_pretrained_backbones_are_ours_to_load(tmp_path):
    """mmengine would unpickle whatever it downloads; ``pretrained`` and init_cfg are read as ``weights``."""
    weights = {f"backbone.{k}": torch.ones_like(v) for k, v in build().backbone.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    for network in (
        build(weights=str(tmp_path / "w.pth")),
        build(changed(pretrained=str(tmp_path / "w.pth"))),
        build(changed(backbone={"init_cfg": {"type": "Pretrained", "checkpoint": str(tmp_path / "w.pth")}})),
    ):
        assert (network.backbone.conv1.weight == 1).all()


def test_a_neck_and_an_auxiliary_head(caplog):
    model = changed(
        neck={"type": "FPN", "in_channels": [8, 16, 32, 64], "out_channels": 12, "num_outs": 4},
        decode_head={"in_channels": 12, "in_index": 0},
        auxiliary_head={"type": "FCNHead", "in_channels": 32, "channels": 8},
    )
    network = build(model)
    out = network.eval()(torch.randn(1, 3, 64, 64))
    assert (out.logits.shape, out.backbone.shape) == ((1, 5, 16, 16), (1, 64, 8, 8))
    assert "auxiliary_head has no effect" in caplog.text
    assert not [k for k in network.state_dict() if "auxiliary" in k]


def test_segformer_builds_from_its_yaml():
    with open("conf/segmenter/segformer_b0.yaml") as stream:
        node = yaml.safe_load(stream)
    assert node.pop("_target_") == "al_lab.models.mm.mmseg_network.MMSegNetwork"
    network = MMSegNetwork(19, **{**node, "weights": None}).eval()
    with torch.no_grad():
        out = network(torch.randn(1, 3, 64, 96))
    assert (out.logits.shape, out.backbone.shape) == ((1, 19, 16, 24), (1, 256, 2, 3))
    assert network.branch(out.backbone).features.shape == (1, 64, 2, 3)
    assert sum(p.numel() for p in network.backbone.parameters()) == 3_319_392


@pytest.mark.slow
def test_segformer_b5_is_b0_with_wider_and_more_blocks():
    """Built with one block a stage of its 52: the widths fit each other."""
    b0, b5 = (yaml.safe_load(Path(f"conf/segmenter/segformer_{name}.yaml").read_text()) for name in ("b0", "b5"))
    assert b5["weights"] == "???" and b5["model"]["backbone"]["num_layers"] == [3, 6, 40, 3]
    model = {k: {**v, **b5["model"].get(k, {})} if isinstance(v, dict) else v for k, v in b0["model"].items()}
    model["backbone"]["num_layers"] = [1, 1, 1, 1]
    network = MMSegNetwork(19, model=model, backbone_map=-1, branch={"dim": 64, "estimator": "none"}).eval()
    with torch.no_grad():
        out = network(torch.randn(1, 3, 64, 64))
    assert (out.logits.shape, out.backbone.shape) == ((1, 19, 16, 16), (1, 512, 2, 2))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (changed(decode_head={"type": "FCNHaed"}), {}, "a model dict mmsegmentation can build"),
        (changed(decode_head=[{"type": "FCNHead"}]), {}, "cascades and two-branch networks are not supported"),
        (
            changed(type="CascadeEncoderDecoder", num_stages=1),
            {},
            "a model dict mmsegmentation can build|an EncoderDecoder",
        ),
        (changed(decode_head={"out_channels": 1}), {"num_classes": 2}, "one map of 2 logits, got .1, 1, 8, 8."),
        (FCN_R18, {"backbone_map": 4}, "segmenter.backbone_map: .*got 4 of"),
    ],
)
def test_what_speaks_another_language_is_refused(model, options, message):
    with pytest.raises(ConfigError, match=message):
        build(model, **options)
