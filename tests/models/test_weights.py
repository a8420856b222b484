"""Pretrained weights: every naming we know, and a sentence for everything that can be wrong with a file."""

import urllib.error
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from al_lab.core.errors import WeightsError
from al_lab.models.detectors.squeeze import SqueezeDetector
from al_lab.models.weights import fit, load_pretrained, read_weights

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


def test_the_shared_squeezenet_fits(shared_data: Path) -> None:
    network = SqueezeDetector(5, weights=str(shared_data / "weights" / "squeezenet1_1_imagenet_fp16.pth"), input_px=96)
    assert network.features[0].weight.abs().sum().item() > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no/such.pth: expected a file with pretrained weights, got no such file; put it there"
    ):
        read_weights(str(tmp_path / "no" / "such.pth"))


@pytest.mark.parametrize("source", ["https://weights.invalid/files/net.pth", "torchvision://squeezenet1_1"])
def test_without_network_the_file_and_its_place_are_named(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(
        WeightsError, match=rf"no route to host.*put it at {tmp_path}/(net|squeezenet1_1-b8a52dc0)\.pth"
    ):
        read_weights(source, tmp_path)


def test_a_downloaded_file_is_not_asked_for_again(tmp_path: Path) -> None:
    torch.save(tensors(Backbone()), tmp_path / "net.pth")
    assert "features.0.weight" in read_weights("https://weights.invalid/files/net.pth", tmp_path)


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


def test_an_unknown_torchvision_name_gets_a_suggestion() -> None:
    with pytest.raises(WeightsError, match="did you mean 'squeezenet1_1'"):
        read_weights("torchvision://squezenet1_1")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(WeightsError, match="open-mmlab://vgg16_caffe; download it yourself"):
        read_weights("open-mmlab://vgg16_caffe")


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
