"""A small SSD-like detector in plain torch: the demo, the tests, and a first look on a laptop."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from al_lab.models.detectors.boxes import BoxCoder, Matching
from al_lab.models.detectors.branches.branch import Maps, Site
from al_lab.models.detectors.head import HeadOutput
from al_lab.models.detectors.network import AnchorDetector
from al_lab.models.detectors.priors import even_priors
from al_lab.models.detectors.settings import Postprocess


def _block(inputs: int, outputs: int, stride: int = 1, groups: int = 8) -> nn.Sequential:
    # GroupNorm, not BatchNorm: a batch split over devices must give the same loss.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(groups, outputs), nn.ReLU(inplace=True)
    )


class TinyDetector(AnchorDetector):
    """Plain 3x3 convolutions (depthwise ones are slow on a CPU) and three levels of anchors at strides 8, 16 and 32.

    Args:
        num_classes: foreground classes.
        input_px: side of the square input.
        widths: channels after the stem and at strides 4, 8, 16, 32.
        sizes: smallest anchor side of each level and the largest of all, as fractions of the input.
        postprocess: settings; SSD's by default.
        branches: names of heads beside its own, or names with options, see `AnchorDetector.add_branches`.
        dropout: see `Dropout`; ``where`` is ``levels``, behind each level's map.
    """

    def __init__(
        self,
        num_classes: int,
        input_px: int = 96,
        widths: Sequence[int] = (16, 32, 64, 96, 128),
        sizes: Sequence[float] = (0.12, 0.27, 0.5, 0.85),
        postprocess: Postprocess | None = None,
        branches: Sequence[str] | Mapping[str, Any] = (),
        dropout: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            (input_px, input_px),
            mean=(127.5, 127.5, 127.5),
            std=(64.0, 64.0, 64.0),
            code=BoxCoder(),
            matching=Matching(),
            postprocess=postprocess,
        )
        stem, quarter, *levels = widths
        self.stem = nn.Sequential(_block(3, stem, 2), _block(stem, quarter, 2))
        inputs = [quarter, *levels[:-1]]
        self.levels = nn.ModuleList(
            nn.Sequential(_block(i, o, 2), _block(o, o)) for i, o in zip(inputs, levels, strict=True)
        )
        ratios = [[2.0]] * len(levels)
        per_cell = 4
        self.class_heads = nn.ModuleList(nn.Conv2d(o, per_cell * self.num_logits, 3, padding=1) for o in levels)
        self.box_heads = nn.ModuleList(nn.Conv2d(o, per_cell * 4, 3, padding=1) for o in levels)
        maps = [(-(-input_px // s), -(-input_px // s)) for s in (8, 16, 32)]
        self.level_sizes = tuple(h * w * per_cell for h, w in maps)
        self.register_buffer("priors", even_priors(maps, sizes, ratios), persistent=False)
        for head in (*self.class_heads, *self.box_heads):
            nn.init.xavier_uniform_(head.weight)
            nn.init.zeros_(head.bias)
        self.add_branches(
            branches, Site(num_classes, self.num_logits, self.activation, tuple(levels), (per_cell,) * len(levels))
        )
        self._drop(dropout, {"levels": list(zip(self.levels, levels, strict=True))})

    def forward(self, images: Tensor) -> HeadOutput:
        """Predict for (B, 3, h, w) normalized images."""
        return self.onward(self.trunk(images), images)

    def trunk(self, images: Tensor) -> Tensor:
        """Return the map at stride 4."""
        stem: Tensor = self.stem(images)
        return stem

    def onward(self, trunk: Tensor, images: Tensor) -> HeadOutput:
        """See `AnchorDetector.onward`."""
        x, features = trunk, []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return self.with_branches(Maps(features), tuple(features), self.priors, self.input_hw, self.level_sizes)
