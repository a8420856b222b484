"""Pretrained weights from a file, torchvision or a URL, under whatever names their maker gave the parameters."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import WeightsError, explain
from al_lab.models.weight_files import normalization_of, weight_file

log = logging.getLogger(__name__)
_WRAPPERS = ("state_dict", "model", "model_state", "params")
#: SSD's fc6 and fc7, made of VGG's classifier, which some files don't have.
_FULLY_CONNECTED = re.compile(r"^features\.(31|33)\.(weight|bias)$")
#: Means and deviations, in 0..255, that are the same ones: papers round them.
_ROUNDING = 1.0
#: Classifiers of ImageNet models, which detectors and segmenters have no use for.
_CLASSIFIER = re.compile(r"^(fc|classifier|head)\.")


@dataclass(frozen=True)
class Normalization:
    """How a network wants its images: (RGB in 0..255 - mean) / std.

    Attributes:
        mean, std: per channel, in RGB's order.
        is_bgr: the channels are turned round afterwards.
    """

    mean: Sequence[float]
    std: Sequence[float]
    is_bgr: bool = False


def load_pretrained(
    model: nn.Module, source: str, cache_dir: str | Path | None = None, inputs: Normalization | None = None
) -> None:
    """Load a pretrained backbone, or a whole detector of mmdet, into ``model``.

    Args:
        model: has a ``backbone``; a whole detector's file (keys ``bbox_head.…``) fills everything but class heads of
            other sizes.
        source: path, ``torchvision://name`` or http(s) URL.
        cache_dir: where downloads are kept; torch's hub folder by default.
        inputs: what the model is fed with; torchvision's weights, made for other inputs, are folded to them.

    Raises:
        WeightsError: if the weights can't be had or don't fit.
    """
    state = read_weights(source, cache_dir)
    if any(k.startswith("bbox_head.") for k in state):
        fill_detector(model, state, source, ("bbox_head.",))
        return
    own = getattr(model, "backbone", None)
    backbone = own if isinstance(own, nn.Module) else model
    fitting = fit(state, backbone, source)
    made_for = normalization_of(source)
    if inputs is not None and made_for is not None:
        fitting = _folded(fitting, Normalization(*made_for), inputs, source)
    backbone.load_state_dict(fitting)
    log.info("weights: %d tensors of %s from %s", len(state), type(backbone).__name__, source)


def read_weights(source: str, cache_dir: str | Path | None = None) -> dict[str, Tensor]:
    """Return the float32 state dict behind a path, ``torchvision://name`` or URL, without its wrappers."""
    path = weight_file(source, cache_dir)
    return _tensors(_load(path), path)


def _folded(state: dict[str, Tensor], theirs: Normalization, ours: Normalization, where: str) -> dict[str, Tensor]:
    """Change the first convolution so that it answers to our inputs as it did to those it was trained with.

    With x an image in 0..255, y = (x - m) / s ours and z = (x - m') / s' theirs, z = (s / s') y + (m - m') / s', so the
    kernel is multiplied by s / s' and the bias gets the kernel's sum over (m - m') / s'. Exact but for zero padding,
    which now means our mean and not theirs.

    Raises:
        WeightsError: if the means differ and the convolution has no bias to take that.
    """
    scale = torch.tensor([s / t for s, t in zip(ours.std, theirs.std, strict=True)])
    shift = torch.tensor([(m - n) / t for m, n, t in zip(ours.mean, theirs.mean, theirs.std, strict=True)])
    is_same = bool(((scale - 1).abs() < 1 / 100).all()) and all(
        abs(m - n) < _ROUNDING for m, n in zip(ours.mean, theirs.mean, strict=True)
    )
    if is_same and not ours.is_bgr:
        return state
    name = next(k for k, v in state.items() if v.ndim == 4)
    kernel, bias = state[name], f"{name.removesuffix('weight')}bias"
    changed = dict(state)
    if not is_same:
        if bias in state:
            changed[bias] = state[bias] + (kernel * shift.view(1, 3, 1, 1)).sum((1, 2, 3))
        elif any(abs(m - n) >= _ROUNDING for m, n in zip(ours.mean, theirs.mean, strict=True)):
            raise WeightsError(
                explain(
                    expected=f"a network with mean {_rounded(theirs.mean)}, as these weights were trained",
                    got=f"one with {_rounded(ours.mean)}, and {name} has no bias that could take the difference",
                    where=where,
                    do="set data_preprocessor.mean and .std of the model to those numbers",
                )
            )
        kernel = kernel * scale.view(1, 3, 1, 1)
    changed[name] = kernel.flip(1).contiguous() if ours.is_bgr else kernel
    log.info(
        "weights: %s were made for images with mean %s and std %s; %s is folded to ours",
        where,
        _rounded(theirs.mean),
        _rounded(theirs.std),
        name,
    )
    return changed


def _rounded(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.5g}" for v in values) + ")"


def fit(state: Mapping[str, Tensor], module: nn.Module, where: str) -> dict[str, Tensor]:
    """Rename the entries of ``state`` to those of ``module``.

    Knows plain names, prefixes (``module.``, ``backbone.``, ``features.``, ``vgg.``) on either side, the flat list of
    ``vgg16_reducedfc`` and torchvision's VGG-16, whose fully connected layers are decimated to SSD's fc6 and fc7; a
    file without them (or with NaN in their place) leaves those two as ``module`` has them, which is said.

    Returns:
        A complete state dict of ``module``.

    Raises:
        WeightsError: if a parameter has no counterpart or another shape.
    """
    own = module.state_dict()
    needed = [k for k in own if not k.endswith("num_batches_tracked")]
    best = max(_renamings(state), key=lambda names: sum(k in names for k in needed))
    missing = [k for k in needed if k not in best]
    if missing and all(map(_FULLY_CONNECTED.match, missing)) and len(missing) < len(needed):
        log.warning("weights: %s has no fc6 and fc7 (%s): they begin from random", where, ", ".join(missing))
        best = {**best, **{k: own[k] for k in missing}}
        missing = []
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
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415 - comes with the extras timm and hf

            return load_file(path)
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
        reduced = _reduced_fc(plain)
        if all(bool(torch.isfinite(v).all()) for v in reduced.values()):  # torchvision's vgg16_features has NaN there
            yield plain | reduced


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


def fill_detector(model: nn.Module, state: Mapping[str, Tensor], where: str, of_classes: tuple[str, ...]) -> None:
    """Load a whole detector; layers for other classes begin from random.

    Args:
        model: the detector.
        state: its weights, perhaps trained on other classes.
        where: they come from, for errors.
        of_classes: beginnings of the names of layers whose shapes depend on the classes.

    Raises:
        WeightsError: if anything else is missing or has another shape.
    """
    own = model.state_dict()
    usable = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    skipped = [k for k in own if k not in usable and not k.endswith("num_batches_tracked")]
    strange = [k for k in skipped if not k.startswith(of_classes)]
    if strange:
        raise WeightsError(
            explain(
                expected=f"a checkpoint of this {type(model).__name__}",
                got=f"none or another shape for {strange[0]}",
                where=where,
                do="use the checkpoint of the same model",
            )
        )
    bad = [k for k, v in usable.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise WeightsError(
            explain(expected="finite numbers", got=f"NaN or inf in {bad[0]}", where=where, do="use other weights")
        )
    if skipped:
        log.warning(
            "weights: %d tensors of the head start from random (other classes), the first is %s",
            len(skipped),
            skipped[0],
        )
    model.load_state_dict(usable, strict=False)
