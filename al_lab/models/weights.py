"""Pretrained weights from a file, torchvision or a URL, under whatever names their maker gave the parameters."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from al_lab.core.errors import WeightsError, did_you_mean, explain

log = logging.getLogger(__name__)
_KEY = "detector.weights or segmenter.weights"
_TORCHVISION = re.compile(r"^torchvision:(?://)?(?P<name>\w+)$")
_WRAPPERS = ("state_dict", "model", "model_state", "params")
#: Classifiers of ImageNet models, which detectors and segmenters have no use for.
_CLASSIFIER = re.compile(r"^(fc|classifier|head)\.")


def load_pretrained(model: nn.Module, source: str, cache_dir: str | Path | None = None) -> None:
    """Load a pretrained backbone, or a whole detector of mmdet, into ``model``.

    Args:
        model: has a ``backbone``; a whole detector's file (keys ``bbox_head.…``) fills everything but class heads of
            other sizes.
        source: path, ``torchvision://name`` or http(s) URL.
        cache_dir: where downloads are kept; torch's hub folder by default.

    Raises:
        WeightsError: if the weights can't be had or don't fit.
    """
    state = read_weights(source, cache_dir)
    if any(k.startswith("bbox_head.") for k in state):
        _fill_detector(model, state, source)
        return
    own = getattr(model, "backbone", None)
    backbone = own if isinstance(own, nn.Module) else model
    backbone.load_state_dict(fit(state, backbone, source))
    log.info("weights: %d tensors of %s from %s", len(state), type(backbone).__name__, source)


def read_weights(source: str, cache_dir: str | Path | None = None) -> dict[str, Tensor]:
    """Return the float32 state dict behind a path, ``torchvision://name`` or URL, without its wrappers."""
    url = _url_of(source)
    path = _download(url, cache_dir) if url else Path(source).expanduser()
    if not path.is_file():
        raise WeightsError(
            explain(
                expected="a file with pretrained weights",
                got="no such file",
                where=str(path),
                do=f"put it there, or set {_KEY} to a file, torchvision://<name>, a URL or null",
            )
        )
    return _tensors(_load(path), path)


def fit(state: Mapping[str, Tensor], module: nn.Module, where: str) -> dict[str, Tensor]:
    """Rename the entries of ``state`` to those of ``module``.

    Knows plain names, prefixes (``module.``, ``backbone.``, ``features.``, ``vgg.``) on either side, the flat list of
    ``vgg16_reducedfc`` and torchvision's VGG-16, whose fully connected layers are decimated to SSD's fc6 and fc7.

    Returns:
        A complete state dict of ``module``.

    Raises:
        WeightsError: if a parameter has no counterpart or another shape.
    """
    own = module.state_dict()
    needed = [k for k in own if not k.endswith("num_batches_tracked")]
    best = max(_renamings(state), key=lambda names: sum(k in names for k in needed))
    missing = [k for k in needed if k not in best]
    if missing:
        raise WeightsError(
            explain(
                expected=f"the {len(needed)} tensors of {type(module).__name__}",
                got=f"{len(needed) - len(missing)} of them ({missing[0]} is missing among {len(state)} entries)",
                where=where,
                do="use weights made for this backbone",
            )
        )
    wrong = [k for k in needed if best[k].shape != own[k].shape]
    if wrong:
        raise WeightsError(
            explain(
                expected=f"{wrong[0]} of shape {tuple(own[wrong[0]].shape)}",
                got=str(tuple(best[wrong[0]].shape)),
                where=where,
                do=f"use weights made for this backbone ({len(wrong)} shapes differ)",
            )
        )
    bad = [k for k in needed if not bool(torch.isfinite(best[k]).all())]
    if bad:
        raise WeightsError(
            explain(expected="finite numbers", got=f"NaN or inf in {bad[0]}", where=where, do="use other weights")
        )
    left = [k for k in state if not _CLASSIFIER.match(k.removeprefix("module."))]
    if len(left) > len(own):
        log.info("weights: %d entries of %s have no place in %s", len(left) - len(needed), where, type(module).__name__)
    return {k: best.get(k, v) for k, v in own.items()}


def _url_of(source: str) -> str | None:
    if source.startswith(("http://", "https://")):
        return source
    found = _TORCHVISION.match(source)
    if not found:
        if "://" in source:
            raise WeightsError(
                explain(
                    expected="a file, torchvision://<name> or an http(s) URL",
                    got=source,
                    where=_KEY,
                    do="download it yourself and give the file",
                )
            )
        return None
    from torchvision.models import get_model_weights, list_models

    name, variant = found["name"], "DEFAULT"
    if name == "vgg16_features":  # the fc-less VGG-16 that SSD was trained from, mean-subtracted RGB
        name, variant = "vgg16", "IMAGENET1K_FEATURES"
    if name not in list_models():
        raise WeightsError(
            explain(
                expected="a model of torchvision",
                got=repr(name),
                where=_KEY,
                do=did_you_mean(name, list_models()),
            )
        )
    # mmdet's ResNet and SSD schedules were tuned on the first ImageNet weights, which its configs mean by this name.
    weights = get_model_weights(name)
    return str((weights[variant] if variant != "DEFAULT" else next(iter(weights))).url)


def _download(url: str, cache_dir: str | Path | None) -> Path:
    folder = Path(cache_dir).expanduser() if cache_dir else Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log.info("weights: downloading %s", url)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:  # URLError, HTTPError, timeouts and a full disk are all OSErrors
        raise WeightsError(
            explain(
                expected=f"to download {url}",
                got=f"{type(error).__name__}: {error}",
                where=_KEY,
                do=f"get the file on a machine with network and put it at {path}, or set {_KEY} to a file",
            )
        ) from error
    return path


def _load(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(64).lstrip().lower()
    what = {b"<": "an HTML or XML page", b"version https://git-lfs": "a Git LFS pointer"}
    for mark, name in what.items():
        if start.startswith(mark):
            raise WeightsError(
                explain(
                    expected="pretrained weights",
                    got=f"{name}, not weights",
                    where=str(path),
                    do="delete the file and download it again",
                )
            )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises a dozen types for files that are no checkpoints
        do = "download it again; if it holds pickled objects, save only its state dict"
        raise WeightsError(
            explain(
                expected="a torch checkpoint of plain tensors",
                got=(f"{type(error).__name__}: {error}").split("\n")[0],
                where=str(path),
                do=do,
            )
        ) from error


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(
            explain(expected="a state dict", got=type(content).__name__, where=str(path), do="save model.state_dict()")
        )
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _renamings(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    plain = {k.removeprefix("module."): v for k, v in state.items()}
    yield plain
    for prefix in ("backbone.", "features.", "vgg."):
        yield {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}
    listed = {f"features.{k}": v for k, v in plain.items()}
    yield listed
    yield {f"features.{k.removeprefix('vgg.')}": v for k, v in plain.items() if k.startswith("vgg.")}
    if "classifier.0.weight" in plain and plain["classifier.0.weight"].shape == (4096, 512 * 7 * 7):
        yield plain | _reduced_fc(plain)


def _reduced_fc(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Decimate VGG-16's fully connected layers to SSD's convolutions, as DeepLab's fc-reduced VGG does.

    fc6 (4096, 512, 7, 7) keeps every 4th filter and every 3rd row and column, (1024, 512, 3, 3); fc7 every 4th of both
    sides.
    """
    fc6 = state["classifier.0.weight"].view(4096, 512, 7, 7)[::4, :, ::3, ::3]
    fc7 = state["classifier.3.weight"].view(4096, 4096, 1, 1)[::4, ::4]
    return {
        "features.31.weight": fc6.contiguous(),
        "features.31.bias": state["classifier.0.bias"][::4].contiguous(),
        "features.33.weight": fc7.contiguous(),
        "features.33.bias": state["classifier.3.bias"][::4].contiguous(),
    }


def _fill_detector(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    own = model.state_dict()
    usable = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    skipped = [k for k in own if k not in usable and not k.endswith("num_batches_tracked")]
    strange = [k for k in skipped if not k.startswith("bbox_head.")]
    if strange:
        raise WeightsError(
            explain(
                expected=f"a checkpoint of this {type(model).__name__}",
                got=f"none or another shape for {strange[0]}",
                where=where,
                do="use the checkpoint of the same mmdet config",
            )
        )
    if skipped:
        log.warning(
            "weights: %d tensors of the head start from random (other classes), the first is %s",
            len(skipped),
            skipped[0],
        )
    model.load_state_dict(usable, strict=False)
