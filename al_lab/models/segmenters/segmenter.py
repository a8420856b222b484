"""What every segmenter looks like from outside.

Class logits and one backbone map, both coarser than the image, and perhaps a branch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import positive
from al_lab.models.imagenet import IMAGENET_MEAN, IMAGENET_STD
from al_lab.models.segmenters.density_branch import DensityBranch

_BRANCH_OPTIONS = ("dim", "estimator")


class SegmenterOutput(NamedTuple):
    """Raw predictions of B images.

    Attributes:
        logits: (B, C, h, w) at the head's own resolution; `upsample` brings them to a size in pixels.
        backbone: (B, X, h', w'), the last map before the head: what the density branch reads and an image's embedding
            averages.
    """

    logits: Tensor
    backbone: Tensor


def upsample(maps: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Return (B, C, H, W) float32.

    Bilinear with corners aligned, as every loss and every utility of a segmenter wants it.
    """
    if tuple(maps.shape[2:]) == tuple(size_hw):
        return maps.float().contiguous()
    # Contiguous while it is small: every softmax over the channels of a large channels-last map would copy it.
    return F.interpolate(
        maps.float().contiguous(), size=(int(size_hw[0]), int(size_hw[1])), mode="bilinear", align_corners=True
    )


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return convolution, norm and ReLU; the size is kept but for the stride. ``outputs`` is a multiple of 8."""
    # GroupNorm, not BatchNorm: two domains, or the parts of a batch on several devices, must not change each other.
    conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(8, outputs), nn.ReLU(inplace=True))


class SegmenterNetwork(nn.Module):
    """A fully convolutional classifier of pixels; images of any size.

    A subclass has its pretrained part in ``self.backbone`` and calls `add_branch` last, so that initial weights do not
    depend on whether there is a branch.

    Args:
        num_classes: C; given by the dataset.
        mean: per channel, of float RGB in 0..255.
        std: per channel.
        head_lr: factor on the learning rate of everything but the backbone.

    Attributes:
        provides: what strategies may ask of it. The class's is a plain literal, read without importing, and names all
            that any configuration can give; an object's leaves out what its branch can't.
        branch: the density branch, or None. It is not run by `forward`: ``network.branch(output.backbone)``.
    """

    provides: tuple[str, ...] = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")
    backbone: nn.Module
    branch: DensityBranch | None

    def __init__(
        self,
        num_classes: int,
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        head_lr: float = 10.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:  # noqa: PLR2004
            raise ConfigError(
                explain(
                    expected="at least two classes",
                    got=str(num_classes),
                    where=f"{type(self).__name__}.num_classes",
                    do="look at the dataset's classes",
                )
            )
        positive(head_lr, "segmenter.head_lr", do="1 trains all alike, the papers have 10")
        self.num_classes, self.head_lr = int(num_classes), float(head_lr)
        self.mean = tuple(float(v) for v in mean)
        self.std = tuple(float(v) for v in std)
        self.branch = None
        # Travels with the weights, so that a checkpoint made for other classes is named as such.
        self.register_buffer("class_count", torch.tensor(self.num_classes))

    def add_branch(self, in_channels: int, options: Mapping[str, Any] | None) -> None:
        """Build the density branch and say what the network provides.

        Args:
            in_channels: X, of the backbone map.
            options: ``dim`` and ``estimator`` of `DensityBranch`; None: no branch.

        Raises:
            ConfigError: for another option.
        """
        strange = [key for key in options or {} if key not in _BRANCH_OPTIONS]
        if strange:
            raise ConfigError(
                explain(
                    expected=" | ".join(_BRANCH_OPTIONS),
                    got=repr(strange[0]),
                    where="segmenter.branch",
                    do=did_you_mean(strange[0], _BRANCH_OPTIONS),
                )
            )
        self.branch = None if options is None else DensityBranch(in_channels, self.num_classes, **options)
        lacking = (
            {"pixel_features", "pixel_error"}
            if self.branch is None
            else {"pixel_error"}
            if self.branch.estimator == "none"
            else set()
        )
        self.provides = tuple(word for word in type(self).provides if word not in lacking)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict for (B, 3, H, W) normalized images."""
        raise NotImplementedError

    def embedding(self, backbone: Tensor) -> Tensor:
        """Average the backbone map over space: (B, X) float32."""
        return backbone.float().mean(dim=(2, 3))

    def lr_multipliers(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trainable parameters in two groups, each with its factor on the learning rate.

        The groups are the backbone, and the rest.
        """
        pretrained = [p for p in self.backbone.parameters() if p.requires_grad]
        known = {id(p) for p in self.backbone.parameters()}
        return [
            (pretrained, 1.0),
            ([p for p in self.parameters() if p.requires_grad and id(p) not in known], self.head_lr),
        ]
