"""Embeddings of whole images by a classifier that was pretrained elsewhere: what is alike before there is a label."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.weights import fit, read_weights

_HEADS = ("fc", "head", "heads")  # of ResNet and its kin, of Swin, of vision transformers


class Backbone(nn.Module):
    """A classifier of torchvision without its last layer.

    Args:
        name: as torchvision calls it, such as squeezenet1_1 or resnet50.
        weights: a file, ``torchvision://name`` or a URL; None: torchvision's for this name.
        input_px: side of the square to which images are resized.
        cache_dir: where downloads are kept.

    Raises:
        ConfigError: for a name that torchvision doesn't have, or a network without features.
        WeightsError: for weights that can't be had or don't fit.
    """

    def __init__(self, name: str, weights: str | None, input_px: int, cache_dir: str | None = None) -> None:
        super().__init__()
        self.input_px = input_px
        self.trunk, self.is_map = _trunk(name)
        source = weights or f"torchvision://{name}"
        self.trunk.load_state_dict(fit(read_weights(source, cache_dir), self.trunk, source))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
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


def check_backbone(name: str) -> None:
    """Refuse a name that torchvision doesn't have.

    Raises:
        ConfigError: with names like it.
    """
    import torchvision  # noqa: PLC0415
    from torchvision.models import list_models

    names = list_models(torchvision.models)
    if name not in names:
        raise ConfigError(
            explain(
                expected="a classifier of torchvision",
                got=repr(name),
                where="budget.cold_start.backbone",
                do=did_you_mean(name, names),
            )
        )


def _trunk(name: str) -> tuple[nn.Module, bool]:
    """Return the network without its classifier, and whether it gives maps (B, D, h, w), still to be averaged."""
    from torchvision.models import get_model

    check_backbone(name)
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
            where="budget.cold_start.backbone",
            do="use squeezenet1_1, resnet50 or vit_b_16",
        )
    )
