"""Pretrained weights: every naming we know, and a sentence for everything that can be wrong with a file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from al_lab.core.errors import WeightsError
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.weights import Normalization, fit, load_pretrained, read_weights

VGG = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


class Backbone(nn.Module):
    """Two layers under the names of a VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def tensors(module: nn.Module) -> dict[str, Tensor]:
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in module.state_dict().items()}


@pytest.mark.parametrize(
    "rename",
    [
        lambda k: k,
        lambda k: f"module.{k}",
        lambda k: f"backbone.{k}",
        lambda k: k.removeprefix("features."),
        lambda k: f"vgg.{k.removeprefix('features.')}",
    ],
)
def test_every_naming_finds_its_place(rename, tmp_path: Path) -> None:
    backbone = Backbone()
    saved = tensors(backbone)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {rename(k): v for k, v in saved.items()} | {"fc.weight": torch.zeros(2, 2)}}, path)
    load_pretrained(backbone, str(path))
    for key, value in saved.items():
        torch.testing.assert_close(backbone.state_dict()[key], value)


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in tensors(Backbone()).items()}, tmp_path / "w.pth"
    )
    assert read_weights(str(tmp_path / "w.pth"))["features.0.weight"].dtype == torch.float32


class ReducedVGG(nn.Module):
    """The convolutions of mmdet's SSDVGG, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Module()
        pairs = list(zip(VGG[:-1], VGG[1:], strict=True))
        for place, (i, o) in zip(PLACES, pairs, strict=True):
            self.features.add_module(str(place), nn.Conv2d(i, o, 3, device="meta"))
        self.features.add_module("31", nn.Conv2d(512, 1024, 3, device="meta"))
        self.features.add_module("33", nn.Conv2d(1024, 1024, 1, device="meta"))


def test_vgg16_of_torchvision_is_decimated_to_fc6_and_fc7() -> None:
    target = ReducedVGG()
    state = {k: torch.zeros(v.shape) for k, v in target.state_dict().items() if k.split(".")[1] not in ("31", "33")}
    fc6, fc7 = (torch.zeros(4096, n, dtype=torch.int8) for n in (512 * 49, 4096))  # whole floats would be 400 MB
    fc6[4, 0 * 49 + 3 * 7 + 6] = -1  # filter 4, channel 0, row 3, column 6
    fc7[8, 12] = 5
    state |= {
        "classifier.0.weight": fc6,
        "classifier.0.bias": torch.arange(4096.0),
        "classifier.3.weight": fc7,
        "classifier.3.bias": torch.zeros(4096),
        "classifier.6.weight": torch.zeros(1000, 4096),
    }
    out = fit(state, target, "vgg16")
    assert out["features.31.weight"].shape == (1024, 512, 3, 3)
    assert out["features.31.weight"][1, 0, 1, 2].item() == -1
    assert out["features.31.bias"][:3].tolist() == [0, 4, 8]
    assert out["features.33.weight"][2, 3, 0, 0].item() == 5


def features_of(target: nn.Module) -> dict[str, Tensor]:
    return {k: torch.ones(v.shape) for k, v in target.state_dict().items() if k.split(".")[1] not in ("31", "33")}


@pytest.mark.parametrize("has_nan", [True, False])
def test_a_vgg16_without_classifier_leaves_fc6_and_fc7_as_they_began(
    has_nan: bool, caplog: pytest.LogCaptureFixture
) -> None:
    target = ReducedVGG()
    for place, shape in (("31", (1024, 512, 3, 3)), ("33", (1024, 1024, 1, 1))):
        layer = nn.Conv2d(*shape[1::-1], shape[2], device="meta")
        layer.weight = nn.Parameter(torch.full((1,), 7.0).expand(shape))  # one number: 20 MB of them tell no more
        layer.bias = nn.Parameter(torch.full((1024,), 7.0))
        target.features.add_module(place, layer)
    state = features_of(target)
    if has_nan:  # as torchvision's vgg16_features has it
        nan = torch.full((1,), torch.nan)
        state |= {"classifier.0.weight": nan.expand(4096, 512 * 49), "classifier.0.bias": nan.expand(4096)}
        state |= {"classifier.3.weight": nan.expand(4096, 4096), "classifier.3.bias": nan.expand(4096)}
    out = fit(state, target, "vgg16_features")
    assert out["features.28.bias"][0] == 1
    assert {out[f"features.{n}.bias"][0].item() for n in (31, 33)} == {7}
    assert "vgg16_features has no fc6 and fc7 (features.31.weight, " in caplog.text
    assert "they begin from random" in caplog.text


def test_another_layer_that_is_missing_is_no_fc6() -> None:
    target = ReducedVGG()
    state = features_of(target)
    del state["features.28.weight"]
    with pytest.raises(WeightsError, match="features.28.weight is missing"):
        fit(state, target, "w.pth")


class Convolution(nn.Module):
    """One convolution without padding, as the first of a network."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


SSD = Normalization((123, 117, 104), (1, 1, 1))


def normalized(images: Tensor, inputs: Normalization) -> Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float).view(1, 3, 1, 1) for v in (inputs.mean, inputs.std))
    out = (images - mean) / std
    return out.flip(1) if inputs.is_bgr else out


@pytest.mark.parametrize("is_bgr", [False, True])
def test_torchvisions_weights_answer_to_other_inputs_as_to_their_own(
    is_bgr: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = Convolution(bias=True), Convolution(bias=True)
    torch.save(theirs.state_dict(), tmp_path / "vgg16-397923af.pth")
    monkeypatch.setattr("al_lab.models.weight_files.sha256", lambda path: "397923af" + 56 * "0")
    inputs = Normalization(SSD.mean, SSD.std, is_bgr)
    load_pretrained(ours, "torchvision://vgg16", tmp_path, inputs)
    images = 255 * torch.rand(1, 3, 5, 5)
    expected = theirs(normalized(images, Normalization(IMAGENET_MEAN, IMAGENET_STD)))
    torch.testing.assert_close(ours(normalized(images, inputs)), expected, rtol=1e-4, atol=1e-4)


def test_weights_made_for_our_inputs_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = Convolution(bias=True), Convolution(bias=True)
    torch.save(theirs.state_dict(), tmp_path / "vgg16_features-amdegroot-88682ab5.pth")
    monkeypatch.setattr("al_lab.models.weight_files.sha256", lambda path: "88682ab5" + 56 * "0")
    load_pretrained(ours, "torchvision://vgg16_features", tmp_path, SSD)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_means_that_no_bias_can_take_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(Convolution(bias=False).state_dict(), tmp_path / "resnet18-f37072fd.pth")
    monkeypatch.setattr("al_lab.models.weight_files.sha256", lambda path: "f37072fd" + 56 * "0")
    load_pretrained(Convolution(bias=False), "torchvision://resnet18", tmp_path, SSD)  # the scale alone fits
    with pytest.raises(WeightsError, match=r"mean \(123.67, 116.28, 103.53\).* has no bias.*data_preprocessor.mean"):
        load_pretrained(
            Convolution(bias=False), "torchvision://resnet18", tmp_path, Normalization((0, 0, 0), (255, 255, 255))
        )


def test_the_shared_squeezenet_fits(shared_data: Path) -> None:
    network = SqueezeDetector(5, weights=str(shared_data / "weights" / "squeezenet1_1_imagenet_fp16.pth"), input_px=96)
    assert network.features[0].weight.abs().sum().item() > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>quota exceeded</html>", "an HTML or XML page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer, not weights"),
        (b"PK\x03\x04 half a download", "a torch checkpoint of plain tensors"),
        (b"", "a torch checkpoint of plain tensors"),
    ],
)
def test_files_that_are_no_weights_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(str(path))


def test_a_pickled_object_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": Backbone()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="save only its state dict"):
        read_weights(str(tmp_path / "w.pth"))


def test_a_file_without_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="a state dict, got dict"):
        read_weights(str(tmp_path / "w.pth"))


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(WeightsError, match="features.0.weight is missing among 1 entries"):
        fit({"layer1.conv.weight": torch.zeros(1)}, Backbone(), "w.pth")


def test_weights_of_another_shape_are_named() -> None:
    state = tensors(Backbone()) | {"features.0.weight": torch.zeros(8, 3, 3, 3)}
    with pytest.raises(WeightsError, match=r"features.0.weight of shape \(4, 3, 3, 3\), got \(8, 3, 3, 3\)"):
        fit(state, Backbone(), "w.pth")


def test_weights_that_are_not_numbers_are_named() -> None:
    state = tensors(Backbone())
    state["features.0.bias"][0] = torch.nan
    with pytest.raises(WeightsError, match="NaN or inf in features.0.bias"):
        fit(state, Backbone(), "w.pth")


def test_a_detectors_checkpoint_with_numbers_that_are_none_is_named(tmp_path: Path) -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.bbox_head = Backbone(), nn.Linear(2, 2)

    state = tensors(Detector())
    state["bbox_head.bias"][0] = torch.inf
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="NaN or inf in bbox_head.bias"):
        load_pretrained(Detector(), str(tmp_path / "w.pth"))
