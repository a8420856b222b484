"""A small segmenter in plain torch: the generated streets, the tests, and a first look on a laptop."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput, conv_block


class TinySegmenter(SegmenterNetwork):
    """Plain 3x3 convolutions (depthwise ones are slow on a CPU) at stride 4, the last ones dilated.

    Args:
        num_classes: C.
        widths: channels at stride 2, at stride 4, and of the dilated layers; multiples of 8.
        branch: options of `DensityBranch`; None: no branch.
        head_lr: factor on the learning rate of classifier and branch; 1, since nothing is pretrained.
    """

    provides: tuple[str, ...] = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (16, 32, 48),
        branch: Mapping[str, Any] | None = None,
        head_lr: float = 1.0,
    ) -> None:
        super().__init__(num_classes, mean=(127.5, 127.5, 127.5), std=(64.0, 64.0, 64.0), head_lr=head_lr)
        stem, quarter, wide = widths
        self.backbone = nn.Sequential(
            conv_block(3, stem, stride=2),
            conv_block(stem, quarter, stride=2),
            conv_block(quarter, wide),
            *(conv_block(wide, wide, dilation=rate) for rate in (2, 4, 8)),
        )
        self.head = nn.Conv2d(wide, num_classes, 3, padding=1)
        self.add_branch(wide, branch)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict for (B, 3, H, W) normalized images at stride 4."""
        backbone = self.backbone(images)
        return SegmenterOutput(self.head(backbone), backbone)
