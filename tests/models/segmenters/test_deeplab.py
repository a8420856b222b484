"""DeepLab on ResNet-101: the papers' sizes (on the meta device, no numbers), dilations, frozen BatchNorm, torchvision's
weights."""

import pytest
import torch
import yaml
from torch import nn

from al_lab.core.errors import ConfigError
from al_lab.models.segmenters.deeplab import DeepLab, V2Head, V3PlusHead

BRANCH = {"dim": 64, "estimator": "dmc5"}
# The convolutions of ResNet-101: torchvision's 44,549,160 less fc (2,049,000) and BatchNorm's affine (105,344).
RESNET = 44_549_160 - 2_049_000 - 105_344
V2 = 4 * (2048 * 19 * 9 + 19)
SEPARABLE = 2048 * 9 + 2048 * 512
V3PLUS = (
    2 * 2048 * 512
    + 3 * SEPARABLE
    + 2560 * 512 * 9
    + 256 * 48
    + 560 * 9
    + 560 * 512
    + 512 * 9
    + 512 * 512
    + 512 * 19
    + 19
)


def meta(**options):
    with torch.device("meta"):
        return DeepLab(19, weights=None, **options)


def zeros(*shape):
    return torch.zeros(*shape, device="meta")


@pytest.mark.parametrize(
    ("head", "size", "logits"),
    [
        ("v2", (640, 1280), (80, 160)),
        ("v2", (720, 1280), (90, 160)),
        ("v3plus", (640, 1280), (160, 320)),
        ("v3plus", (720, 1280), (180, 320)),
    ],
)
def test_published_sizes(head, size, logits):
    network = meta(head=head, branch=BRANCH)
    out = network(zeros(1, 3, *size))
    assert out.logits.shape == (1, 19, *logits)
    assert out.backbone.shape == (1, 2048, size[0] // 8, size[1] // 8)
    assert network.backbone.layer1(zeros(1, 64, size[0] // 4, size[1] // 4)).shape == (
        1,
        256,
        size[0] // 4,
        size[1] // 4,
    )
    assert network.branch(out.backbone).reconstruction.shape == (1, 64, size[0] // 8, size[1] // 8)


@pytest.mark.parametrize(("head", "size"), [("v2", V2), ("v3plus", V3PLUS)])
def test_parameters(head, size):
    network = meta(head=head)
    (backbone, one), (rest, ten) = network.lr_multipliers()
    assert (one, ten) == (1.0, 10.0)
    assert [sum(p.numel() for p in group) for group in (backbone, rest)] == [RESNET, size]


def test_dilations():
    """The first block of a dilated stage has its predecessor's dilation, and no stage after the second has a stride."""
    net = meta().backbone
    dilations = {
        stage: [block.conv2.dilation[0] for block in getattr(net, stage)]
        for stage in ("layer1", "layer2", "layer3", "layer4")
    }
    assert dilations == {"layer1": [1] * 3, "layer2": [1] * 4, "layer3": [1] + [2] * 22, "layer4": [2, 4, 4]}
    strides = [getattr(net, stage)[0].conv2.stride[0] for stage in dilations]
    assert strides == [1, 2, 1, 1]
    assert [conv.dilation[0] for conv in meta().head.convs] == [6, 12, 18, 24]
    assert [branch[0].dilation[0] for branch in meta(head="v3plus").head.pyramid] == [6, 12, 18]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A DeepLab with torchvision's ResNet-101 weights (their names and shapes, random numbers) from a file."""
    from torchvision.models import resnet101

    torch.manual_seed(0)
    original = resnet101()
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet101.pth"
    torch.save(original.state_dict(), path)
    return original, DeepLab(19, weights=str(path))


def test_every_tensor_of_torchvisions_resnet_is_loaded(loaded):
    original, network = loaded
    expected = {
        k: v
        for k, v in original.state_dict().items()
        if not k.startswith("fc.") and not k.endswith("num_batches_tracked")
    }
    own = network.backbone.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[k], v) for k, v in expected.items())


def test_batch_norm_is_frozen_and_has_no_epsilon(loaded):
    _, network = loaded
    network.train()
    norms = [m for m in network.modules() if "norm" in type(m).__name__.lower()]
    assert len(norms) == 104
    assert not any(list(m.parameters()) for m in norms)
    norm, x = network.backbone.layer3[0].bn2, torch.randn(2, 256, 3, 4)
    b, w, mean, var = (getattr(norm, n)[:, None, None] for n in ("bias", "weight", "running_mean", "running_var"))
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    torch.testing.assert_close(norm(x), (x - mean) / var.sqrt() * w + b)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())  # statistics don't move in training
    tiny = type(norm)(1, eps=norm.eps)
    tiny.running_var.fill_(1e-8)
    assert tiny(torch.ones(1, 1, 1, 1)).item() == pytest.approx(1e4)


def test_in_training_an_image_does_not_depend_on_its_batch(loaded):
    _, network = loaded
    images = torch.randn(2, 3, 32, 48)
    network.train()
    with torch.no_grad():
        together, alone = network(images).logits[1:], network(images[1:]).logits
    assert (together - alone).norm() < 1e-4 * alone.norm()


def test_v2s_branches_are_summed():
    torch.manual_seed(0)
    head, x = V2Head(3), torch.randn(1, 2048, 5, 6)
    assert head.convs[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    torch.testing.assert_close(head(x, x), sum(conv(x) for conv in head.convs))


def test_v3pluss_dropout_is_all_that_differs_in_training():
    torch.manual_seed(0)
    head = V3PlusHead(3)
    low, high = torch.rand(1, 256, 8, 8), torch.rand(1, 2048, 4, 4)
    assert not torch.equal(head.train()(low, high), head(low, high))
    assert torch.equal(head.eval()(low, high), head(low, high))
    assert not [n for n, _ in head.named_parameters() if n.endswith("bias") and not n.startswith("decoder.3")]
    assert not list(head.buffers())  # no norm: the released head's is the identity
    fan_in = {"bottleneck.0": 2560 * 9, "pyramid.0.0": 9, "decoder.0.2": 560}
    for name, n in fan_in.items():
        assert head.get_submodule(name).weight.std().item() == pytest.approx((2 / n) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", ["deeplab_v2", "deeplab_v3plus"])
def test_the_yamls_networks(name):
    with open(f"conf/segmenter/{name}.yaml") as stream:
        node = yaml.safe_load(stream)
    assert node.pop("_target_") == "al_lab.models.segmenters.deeplab.DeepLab"
    assert node.pop("weights") == "torchvision://resnet101"
    network = meta(**node)
    assert (type(network.head).__name__.lower(), network.branch.estimator) == (f"{node['head']}head", "dmc5")
    assert network.mean == (123.675, 116.28, 103.53)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "v3"}, "segmenter.head: expected v2 | v3plus, got 'v3'"),
        ({"backbone": "resnet18"}, "segmenter.backbone: .*got 'resnet18'"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        meta(**options)
