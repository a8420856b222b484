"""Embeddings of whole images by a classifier that was pretrained elsewhere: what is alike before there is a label."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.weights import fit, read_weights

_KEY = "budget.cold_start.backbone"
_HEADS = ("fc", "head", "heads")  # of ResNet and its kin, of Swin, of vision transformers


class Backbone(nn.Module):
    """A classifier of torchvision or timm without its last layer.

    Args:
        name: as torchvision calls it, such as squeezenet1_1 or resnet50; else as timm does, if that is installed.
        weights: a file, ``torchvision://name`` or a URL; None: torchvision's for this name (timm's need a file).
        input_px: side of the square to which images are resized.
        cache_dir: where downloads are kept.
        key: of the configuration that asked, for errors.

    Raises:
        ConfigError: for a name that neither has, or a network without features.
        WeightsError: for weights that can't be had or don't fit.
    """

    def __init__(
        self, name: str, weights: str | None, input_px: int, cache_dir: str | None = None, key: str = _KEY
    ) -> None:
        super().__init__()
        self.input_px = input_px
        mean: Sequence[float] = IMAGENET_MEAN
        std: Sequence[float] = IMAGENET_STD
        if name in torchvision_names():
            self.trunk, self.is_map = _trunk(name)
        else:
            check_backbone(name, key, weights)
            self.trunk, self.is_map, mean, std = _timm_trunk(name, input_px)
        source = weights or f"torchvision://{name}"
        self.trunk.load_state_dict(fit(read_weights(source, cache_dir), self.trunk, source))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return (B, D) float32 for B images of (H, W, 3) uint8."""
        assert isinstance(self.mean, Tensor) and isinstance(self.std, Tensor)
        side = (self.input_px, self.input_px)
        resized = [
            np.asarray(Image.fromarray(i).resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0)) for i in images
        ]
        batch = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
        batch = ((batch - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.trunk(batch)
        pooled = out.mean((2, 3)) if self.is_map else out.flatten(1)
        return pooled.float().numpy()


def torchvision_names() -> list[str]:
    """Return the classifiers of torchvision."""
    import torchvision  # noqa: PLC0415
    from torchvision.models import list_models

    return list_models(torchvision.models)


def check_backbone(name: str, key: str = _KEY, weights: str | None = None) -> None:
    """Refuse a name that neither torchvision nor an installed timm has, and a network of timm without weights.

    Raises:
        ConfigError: with names like it.
    """
    names = torchvision_names()
    if name in names:
        return
    if importlib.util.find_spec("timm") is None:
        do = f"{did_you_mean(name, names)} Names of timm need the extra 'timm'"
        raise ConfigError(explain(expected="a classifier of torchvision", got=repr(name), where=key, do=do))
    import timm  # noqa: PLC0415

    theirs = timm.list_models(pretrained=False)
    if name.split(".")[0] not in theirs:
        do = did_you_mean(name, [*names, *theirs])
        raise ConfigError(explain(expected="a classifier of torchvision or timm", got=repr(name), where=key, do=do))
    if not weights:
        do = "set weights to a file of them (.pth, .safetensors): nothing is downloaded for timm's networks"
        raise ConfigError(explain(expected=f"weights for timm's {name}", got="none", where=key, do=do))


def _timm_trunk(name: str, input_px: int) -> tuple[nn.Module, bool, tuple[float, ...], tuple[float, ...]]:
    """Return a network of timm without its classifier, and the mean and deviation it wants, in 0..255."""
    import timm  # noqa: PLC0415

    kwargs: dict[str, Any] = {"img_size": input_px} if "vit" in name or "swin" in name else {}
    trunk: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
    config: Any = trunk.pretrained_cfg
    return trunk, False, *(tuple(255 * v for v in config[k]) for k in ("mean", "std"))  # type: ignore[return-value]


def _trunk(name: str) -> tuple[nn.Module, bool]:
    """Return the network without its classifier, and whether it gives maps (B, D, h, w), still to be averaged."""
    from torchvision.models import get_model

    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = get_model(name, weights=None, **extra)
    head = next((h for h in _HEADS if isinstance(getattr(model, h, None), nn.Module)), None)
    if head is not None:
        setattr(model, head, nn.Identity())
        return model, False
    if isinstance(features := getattr(model, "features", None), nn.Module):
        return features, True
    raise ConfigError(
        explain(
            expected="a classifier whose last features can be read",
            got=repr(name),
            where="backbone",
            do="use squeezenet1_1, resnet50 or vit_b_16",
        )
    )
