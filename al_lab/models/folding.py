"""A norm that stays as it is becomes part of the convolution before it: one pass over the maps less."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

_CONV = re.compile(r"conv(\d*)")
#: whose blocks run bn<n> right behind conv<n>; others may have the same names and another order
_RESNETS = ("torchvision.models.resnet", "torchvision.models._utils", "mmdet.models.backbones.resnet")


def fold_norms(network: nn.Module) -> int:
    """Fold a ResNet's norms whose numbers do not change into the convolutions before them, in place.

    y = (W * x) s + t is computed as (s W) * x + t, with s = w / sqrt(var + eps) and t = b - mean s, afresh in each
    forward: gradients reach W as before, parameters and buffers keep their names. In float32 the two differ by rounding
    alone (1e-5 of the largest number), and under autocast the maps stay in half precision: torchvision's
    FrozenBatchNorm2d returns them in float32.

    Args:
        network: any; folded are the pairs ``conv<n>``, ``bn<n>`` of torchvision's and mmdet's ResNets and, in a
            sequence, a convolution and the norm behind it. The norm is a FrozenBatchNorm2d, or, in a network that is no
            longer trained, a BatchNorm2d.

    Returns:
        How many norms were folded.
    """
    pairs = [
        (conv, norm)
        for conv, norm in _pairs(network)
        if type(conv) is nn.Conv2d
        and (type(norm) is FrozenBatchNorm2d or (type(norm) is nn.BatchNorm2d and not network.training))
    ]
    for conv, norm in pairs:
        conv.__dict__["norms"] = (norm,)  # no child of it: it would have two names
        conv.__class__ = _Folded
        norm.__class__ = _Frozen if isinstance(norm, FrozenBatchNorm2d) else _Still
    return len(pairs)


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    for parent in network.modules():
        named = dict(parent.named_children())
        if type(parent) is nn.Sequential:
            yield from zip(list(named.values())[:-1], list(named.values())[1:], strict=True)
        for name, conv in named.items() if type(parent).__module__ in _RESNETS else ():
            match = _CONV.fullmatch(name)
            if match and (norm := named.get(f"bn{match[1]}")) is not None:
                yield conv, norm


class _Folded(nn.Conv2d):
    """A convolution and the norm behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize (B, C, H, W)."""
        norm = self.__dict__["norms"][0]
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)


class _Frozen(FrozenBatchNorm2d):  # type: ignore[misc]
    """One that was folded."""

    def forward(self, x: Tensor) -> Tensor:
        """Leave it: the convolution did it."""
        return x


class _Still(nn.BatchNorm2d):
    """One that was folded."""

    def forward(self, x: Tensor) -> Tensor:
        """Leave it: the convolution did it."""
        return x
