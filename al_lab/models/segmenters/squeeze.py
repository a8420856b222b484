"""A segmenter on an ImageNet-pretrained SqueezeNet 1.1: real photographs on a CPU."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain
from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput, conv_block, upsample
from al_lab.models.weights import fit, read_weights

# : Modules of torchvision's SqueezeNet 1.1 after which stride 8 (256 channels) ends; stride 16 (512 channels) ends with
# the last.
_EIGHTH = 8


class SqueezeSegmenter(SegmenterNetwork):
    """SqueezeNet 1.1 (Iandola et al., 2016) with a feature pyramid of two levels; logits at stride 8.

    The deepest map, with its context (a dilated convolution and the whole image's average), is upsampled and joined
    with the one at stride 8. What others call the backbone map is the joined one: at stride 16 a density would be too
    coarse for small photographs. SqueezeNet's convolutions without padding are padded here, so that the corners of the
    maps are those of the image.

    Args:
        num_classes: C.
        weights: of SqueezeNet: a file, ``torchvision://squeezenet1_1`` or a URL; null starts from random.
        frozen: modules of ``squeezenet.features`` that stay as pretrained (0 = none; 6 = all at strides 2 and 4; 13 =
            all).
        width: channels of the joined map; a multiple of 8.
        branch: options of `DensityBranch`; None: no branch.
        head_lr: factor on the learning rate of everything that is not SqueezeNet.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: for more frozen modules than there are.
        WeightsError: if the weights can't be had or don't fit.
    """

    provides: tuple[str, ...] = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")

    def __init__(
        self,
        num_classes: int,
        weights: str | None = "torchvision://squeezenet1_1",
        frozen: int = 6,
        width: int = 96,
        branch: Mapping[str, Any] | None = None,
        head_lr: float = 10.0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(num_classes, head_lr=head_lr)
        self.backbone = _padded_squeezenet()
        if weights:
            self.backbone.load_state_dict(fit(read_weights(weights, cache_dir), self.backbone, weights))
        if not 0 <= frozen <= len(self.backbone):
            raise ConfigError(
                explain(
                    expected=f"frozen in 0..{len(self.backbone)}",
                    got=str(frozen),
                    where="segmenter.frozen",
                    do="say how many of SqueezeNet's modules stay as pretrained",
                )
            )
        self.frozen = int(frozen)
        self.backbone[: self.frozen].requires_grad_(False)
        self.eighth, self.deepest = conv_block(256, width, kernel=1), conv_block(512, width, kernel=1)
        self.context, self.whole = conv_block(width, width, dilation=2), nn.Conv2d(width, width, 1)
        self.joined = conv_block(width, width)
        self.head = nn.Conv2d(width, num_classes, 1)
        self.add_branch(width, branch)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict for (B, 3, H, W) normalized images."""
        x = images.contiguous(memory_format=torch.channels_last)  # max pooling is ten times slower on a CPU otherwise
        eighth = x
        for number, module in enumerate(self.backbone.children(), start=1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen):
                x = module(x)
            eighth = x if number == _EIGHTH else eighth
        deepest = self.deepest(x)
        deepest = self.context(deepest) + self.whole(deepest.mean(dim=(2, 3), keepdim=True))
        joined = self.joined(self.eighth(eighth) + upsample(deepest, eighth.shape[2:]).to(eighth.dtype))
        return SegmenterOutput(self.head(joined), joined)


def _padded_squeezenet() -> nn.Sequential:
    from torchvision.models import squeezenet1_1

    features = squeezenet1_1().features
    features[0].padding = (1, 1)
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            module.padding, module.ceil_mode = 1, False
    return features
