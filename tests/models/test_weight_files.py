"""Files of pretrained weights: where they are looked for, and whether they are what was published."""

import hashlib
import json
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from al_lab.config.options import CONF_DIR
from al_lab.core.errors import WeightsError
from al_lab.models import weight_files
from al_lab.models.weight_files import weight_file
from al_lab.models.weights import read_weights

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = f"https://download.pytorch.org/models/net-{DIGEST[:8]}.pth"
Serve = Callable[..., list[str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Let some URLs answer with a content each, and all others with an error; returns what is asked for."""

    def start(**files: bytes) -> list[str]:
        asked: list[str] = []

        def download(url: str, path: str, progress: bool) -> None:
            asked.append(url)
            content = next((v for k, v in files.items() if k in re.sub(r"\W", "_", url)), None)
            if content is None:
                raise urllib.error.URLError("no route to host")
            Path(path).write_bytes(content)

        monkeypatch.setattr("torch.hub.download_url_to_file", download)
        return asked

    return start


def test_a_file_has_the_digest_in_its_name(serve: Serve, tmp_path: Path) -> None:
    serve(pytorch_org=CONTENT)
    path = weight_file(PUBLISHED, tmp_path)
    noted = json.loads((tmp_path / f"{path.name}.origin.json").read_text())
    assert (noted["url"], noted["sha256"], noted["verified"]) == (PUBLISHED, DIGEST, True)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=rf"expected the file with sha256 {DIGEST[:8]}.*its name gives.*delete it"):
        weight_file(PUBLISHED, tmp_path)


def test_a_file_that_comes_broken_is_not_kept(serve: Serve, tmp_path: Path) -> None:
    serve(pytorch_org=b"half of it")
    with pytest.raises(WeightsError, match="expected to download .*sha256"):
        weight_file(PUBLISHED, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [None, b"somebody else's"])
def test_the_same_file_comes_from_a_second_place(
    first: bytes | None, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = "https://mirror.invalid/net.pth"
    monkeypatch.setitem(weight_files._MIRRORS, f"net-{DIGEST[:8]}.pth", mirror)
    asked = serve(mirror=CONTENT, **({} if first is None else {"pytorch_org": first}))
    assert weight_file(PUBLISHED, tmp_path).read_bytes() == CONTENT
    assert asked == [PUBLISHED, mirror]


def test_a_file_without_a_published_digest_is_noted_and_has_to_stay_the_same(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serve(person=CONTENT)
    url = "https://person.invalid/files/vgg16_reducedfc.pth"
    path = weight_file(url, tmp_path)
    assert json.loads(path.with_name(f"{path.name}.origin.json").read_text())["verified"] is False
    assert f"noted as unverified: sha256 {DIGEST}" in caplog.text
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="noted it at the first download.*origin.json"):
        weight_file(url, tmp_path)


def test_digits_in_the_name_of_a_strangers_file_are_no_digest(serve: Serve, tmp_path: Path) -> None:
    serve(person=CONTENT)
    assert weight_file("https://person.invalid/net-0123456789.pth", tmp_path).is_file()


def test_what_serves_instead_is_named_and_not_taken(serve: Serve, tmp_path: Path) -> None:
    asked = serve()
    with pytest.raises(WeightsError, match="or use torchvision://vgg16_features"):
        weight_file("https://person.invalid/vgg16_reducedfc.pth", tmp_path)
    assert asked == ["https://person.invalid/vgg16_reducedfc.pth"]


def names_of_ours() -> list[str]:
    text = "".join(p.read_text() for folder in ("detector", "segmenter") for p in (CONF_DIR / folder).glob("*.yaml"))
    names = set(re.findall(r"^weights: (\S*:\S+)", text, re.MULTILINE))
    return sorted(name for name in names if not name.startswith("package://"))  # pip has sources of its own


@pytest.mark.parametrize("source", names_of_ours())
def test_every_name_we_give_has_a_second_source(source: str) -> None:
    url = weight_files._url_of(source)
    assert url is not None
    name = url.rpartition("/")[2]
    if weight_files._published_digits(url) is None:
        assert name in weight_files._INSTEAD
        return
    other = weight_files._MIRRORS.get(name)
    assert other is None or (other != url and other.endswith(name))
    assert other or name in weight_files._INSTEAD


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
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "net.pth")
    assert "features.0.weight" in read_weights("https://weights.invalid/files/net.pth", tmp_path)


def test_an_unknown_torchvision_name_gets_a_suggestion() -> None:
    with pytest.raises(WeightsError, match="did you mean 'squeezenet1_1'"):
        read_weights("torchvision://squezenet1_1")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(WeightsError, match="open-mmlab://vgg16_caffe; download it yourself"):
        read_weights("open-mmlab://vgg16_caffe")
