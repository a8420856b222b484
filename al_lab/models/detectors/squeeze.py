"""SSD on an ImageNet-pretrained SqueezeNet 1.1: real photographs on a CPU."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.weights import fit, read_weights

#: Modules of torchvision's SqueezeNet 1.1 after which stride 8 (256 channels) and stride 16 (512 channels) end.
_ENDS = (8, 13)


class SqueezeDetector(AnchorDetector):
    """SqueezeNet 1.1 (Iandola et al., 2016) with SSD heads at strides 8, 16, 32 and 64.

    The early layers can be frozen: they are general, and their maps are the largest, so that the backward pass stops
    early.

    Args:
        num_classes: foreground classes.
        input_px: side of the square input.
        weights: a file, ``torchvision://squeezenet1_1`` or a URL; null starts from random.
        frozen: modules of ``squeezenet.features`` that stay as pretrained (0 = none; 9 = all but stride 16; 13 = all).
        width: channels the heads see: backbone maps are projected to it, the extra levels have it.
        sizes: smallest anchor side of each level and the largest of all, as fractions of the input.
        postprocess: settings; SSD's by default.
        cache_dir: where downloaded weights are kept.
        branches: names of heads beside its own, or names with options, see `AnchorDetector.add_branches`.
        dropout: see `Dropout`; ``where`` is ``levels``, behind each level's map.
    """

    def __init__(
        self,
        num_classes: int,
        input_px: int = 160,
        weights: str | None = "torchvision://squeezenet1_1",
        frozen: int = 9,
        width: int = 128,
        sizes: Sequence[float] = (0.1, 0.25, 0.45, 0.7, 0.95),
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
        branches: Sequence[str] | Mapping[str, Any] = (),
        dropout: Mapping[str, Any] | None = None,
    ) -> None:
        from torchvision.models import squeezenet1_1

        super().__init__(num_classes, (input_px, input_px), postprocess=postprocess)
        self.features = squeezenet1_1().features
        if weights:
            self.features.load_state_dict(fit(read_weights(weights, cache_dir), self.features, weights))
        if not 0 <= frozen <= len(self.features):
            raise ConfigError(
                explain(
                    expected=f"frozen in 0..{len(self.features)}",
                    got=str(frozen),
                    where="detector.frozen",
                    do="say how many of SqueezeNet's modules stay as pretrained",
                )
            )
        self.frozen = int(frozen)
        self.features[: self.frozen].requires_grad_(False)
        # The projection makes the heads cheap, and its norm tames ReLU maps that grow with depth (SSD's L2Norm has that
        # job).
        self.laterals = nn.ModuleList([_conv(256, width, 1), _conv(512, width, 1)])
        self.extras = nn.ModuleList([_conv(width, width, 3, 2), _conv(width, width, 3, 2)])
        maps = self._map_sizes(input_px)
        ratios: list[list[float]] = [[2.0], [2.0, 3.0], [2.0, 3.0], [2.0]]
        per_cell = [2 + 2 * len(r) for r in ratios]
        self.class_heads = nn.ModuleList(nn.Conv2d(width, n * self.num_logits, 3, padding=1) for n in per_cell)
        self.box_heads = nn.ModuleList(nn.Conv2d(width, n * 4, 3, padding=1) for n in per_cell)
        for layer in (*self.laterals.modules(), *self.extras.modules(), *self.class_heads, *self.box_heads):
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.level_sizes = tuple(h * w * n for (h, w), n in zip(maps, per_cell, strict=True))
        self.register_buffer("priors", even_priors(maps, sizes, ratios), persistent=False)
        site = Site(num_classes, self.num_logits, self.activation, (width,) * len(maps), tuple(per_cell))
        self.add_branches(branches, site)
        self._drop(dropout, {"levels": [(layer, width) for layer in (*self.laterals, *self.extras)]})

    def _map_sizes(self, input_px: int) -> list[tuple[int, int]]:
        with torch.no_grad():
            maps = self._levels(self.trunk(torch.zeros(1, 3, input_px, input_px))[:-1])
        return [(int(m.shape[2]), int(m.shape[3])) for m in maps]

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Return SqueezeNet's maps at strides 8 and 16, and its deepest one."""
        backbone: list[Tensor] = []
        x = images.contiguous(memory_format=torch.channels_last)  # max pooling is ten times slower on a CPU otherwise
        for number, module in enumerate(self.features, start=1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen):
                x = module(x)
            backbone += [x for end in _ENDS if end == number]
        return [*backbone, x]

    def _levels(self, backbone: list[Tensor]) -> list[Tensor]:
        """Return the four levels' maps."""
        maps = [lateral(m) for lateral, m in zip(self.laterals, backbone, strict=True)]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        return self.onward(self.trunk(images), images)

    def onward(self, trunk: list[Tensor], images: Tensor) -> HeadOutput:
        """See `AnchorDetector.onward`."""
        *backbone, deepest = trunk
        maps = self._levels(backbone)
        return self.with_branches(Maps(maps), (deepest, *maps), self.priors, self.input_hw, self.level_sizes)

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return SqueezeNet's last map: (B, 512, h, w)."""
        return features[0]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.GroupNorm(8, outputs),
        nn.ReLU(inplace=True),
    )
