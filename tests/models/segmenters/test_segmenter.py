"""The segmenters' common face, and the two small ones: sizes, what they provide, learning-rate groups,
initial weights."""

import pytest
import torch

from al_lab.core.errors import ConfigError
from al_lab.models.segmenters.segmenter import upsample
from al_lab.models.segmenters.squeeze import SqueezeSegmenter
from al_lab.models.segmenters.tiny import TinySegmenter

BRANCH = {"dim": 8, "estimator": "dmc3"}


def tiny(num_classes=5, **options):
    torch.manual_seed(0)
    return TinySegmenter(num_classes, widths=(8, 16, 24), **options)


def squeeze(num_classes=5, **options):
    torch.manual_seed(0)
    return SqueezeSegmenter(num_classes, **{"weights": None, "width": 16} | options)


BUILD = {"tiny": (tiny, 24, 4), "squeeze": (squeeze, 16, 8)}  # builder, channels and stride of the backbone map


@pytest.mark.parametrize("kind", BUILD)
def test_maps_have_the_stride_for_any_image_size(kind):
    build, channels, stride = BUILD[kind]
    network = build().eval()
    with torch.no_grad():
        for height, width in ((96, 160), (64, 72)):
            out = network(torch.randn(2, 3, height, width))
            assert out.backbone.shape == (2, channels, height // stride, width // stride)
            assert out.logits.shape == (2, 5, height // stride, width // stride)
    assert network.embedding(out.backbone).shape == (2, channels)


@pytest.mark.parametrize("kind", BUILD)
def test_an_image_does_not_depend_on_its_batch_in_training(kind):
    network = BUILD[kind][0](branch=BRANCH).train()
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
        torch.testing.assert_close(together.logits[1:2], alone.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BUILD)
def test_every_trainable_parameter_is_in_one_group(kind):
    network = BUILD[kind][0](branch=BRANCH, head_lr=10.0)
    (backbone, one), (rest, ten) = network.lr_multipliers()
    assert (one, ten) == (1.0, 10.0)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in backbone} == {"backbone"}
    assert {names[id(p)].split(".")[0] for p in rest} >= {"head", "branch"}
    assert len(backbone) + len(rest) == sum(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", BUILD)
def test_a_branch_changes_no_other_initial_weight(kind):
    plain, branched = BUILD[kind][0](), BUILD[kind][0](branch=BRANCH)
    assert all(torch.equal(value, branched.state_dict()[key]) for key, value in plain.state_dict().items())


def test_squeezenets_early_modules_stay_as_pretrained():
    network = squeeze(frozen=7).train()
    network(torch.randn(1, 3, 64, 64)).logits.sum().backward()
    assert all(p.grad is None for p in network.backbone[:7].parameters())
    assert all(
        p.grad is not None and p.grad.any() for p in (*network.backbone[7:].parameters(), *network.joined.parameters())
    )
    assert {id(p) for p in network.lr_multipliers()[0][0]} == {id(p) for p in network.backbone[7:].parameters()}


def test_maps_of_squeezenet_reach_the_images_corners():
    """With corners aligned, a bright pixel in a corner must light the corner of the map."""
    network = squeeze().eval()
    dark, bright = torch.zeros(2, 3, 64, 96), torch.zeros(2, 3, 64, 96)
    bright[0, :, 0, 0] = bright[1, :, -1, -1] = 100
    with torch.no_grad():
        for module in network.backbone[:8]:
            dark, bright = module(dark), module(bright)
    change = (bright - dark).abs().sum(1).flatten(1)
    assert change.argmax(1).tolist() == [0, 8 * 12 - 1]


def test_the_shared_squeezenet_fits(shared_data):
    from_file = squeeze(weights=str(shared_data / "weights" / "squeezenet1_1_imagenet_fp16.pth"))
    assert not torch.equal(from_file.backbone[0].weight, squeeze().backbone[0].weight)


def test_a_tiny_network_learns_shapes_it_has_seen():
    """Two classes, split by a line of another color in each image."""
    network, border = tiny(2), torch.tensor([8, 16, 24, 32])
    labels = (torch.arange(40)[None, None] >= border[:, None, None]).long().expand(4, 32, 40)
    images = (labels.float() - 0.5)[:, None] + 0.3 * torch.randn(4, 3, 32, 40)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(upsample(network(images).logits, (32, 40)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_what_a_network_provides_follows_from_its_branch():
    common = ("dense_probs", "class_probs", "image_embedding")
    assert tiny().provides == common
    assert tiny(branch={"estimator": "none"}).provides == (*common, "pixel_features")
    assert tiny(branch=BRANCH).provides == (*common, "pixel_features", "pixel_error") == TinySegmenter.provides


def test_t10_logits_are_upsampled_with_corners_aligned():
    coarse = torch.tensor([[[[0.0, 1], [2, 4]]]])
    expected = (
        torch.tensor(
            [
                [0, 1, 2, 3],
                [2 / 3 * 3, 1.111111 * 3, 1.555556 * 3, 6],
                [4, 1.888889 * 3, 2.444444 * 3, 9],
                [6, 8, 10, 12],
            ]
        )
        / 3
    )
    torch.testing.assert_close(upsample(coarse, (4, 4))[0, 0], expected, rtol=0, atol=1e-6)
    assert upsample(coarse.half(), (4, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"branch": {"estimate": "dmc5"}},
            "segmenter.branch: expected dim | estimator, got 'estimate'; did you mean 'estimator'",
        ),
        ({"num_classes": 1}, "TinySegmenter.num_classes: expected at least two classes, got 1"),
        ({"frozen": 40}, "segmenter.frozen: expected frozen in 0..13, got 40"),
        ({"head_lr": 0}, "segmenter.head_lr: expected a finite number > 0, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        (squeeze if "frozen" in options else tiny)(**options)
