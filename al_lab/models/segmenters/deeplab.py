"""DeepLab-v2 and DeepLab-v3+ on a dilated ResNet, as active domain adaptation trains them (RIPU's released code)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from al_lab.core.fields import one_of
from al_lab.models.segmenters.segmenter import SegmenterNetwork, SegmenterOutput, upsample
from al_lab.models.weights import fit, read_weights

Head = Literal["v2", "v3plus"]
Backbone = Literal["resnet50", "resnet101", "resnet152"]
_RATES = (6, 12, 18, 24)  # of v2; v3+ has the first three, not doubled although the output stride is 8
_LOW, _HIGH = 256, 2048  # channels after the first and the last stage
_WIDTH, _SHORTCUT = 512, 48  # of v3+'s decoder


class DeepLab(SegmenterNetwork):
    """DeepLab-v2 (Chen et al., TPAMI 2018) or v3+ (ECCV 2018), output stride 8.

    The backbone is torchvision's ResNet with its stages 3 and 4 dilated by 2 and 4, the first block of each by its
    predecessor's dilation. All BatchNorm is frozen, affine parameters too, and has no epsilon: y = (x - mean) w /
    sqrt(var) + b.

    - ``v2``: four 3x3 convolutions with rates 6, 12, 18 and 24, summed; logits at stride 8.
    - ``v3plus``: 1x1, three depthwise-separable 3x3 (rates 6, 12, 18) and a global average, 512 channels each; joined
    with the
      first stage at stride 4, where the logits are. The released head's frozen BatchNorm keeps its first values, so it
      is the identity and left out.

    Without ``weights`` nothing is normalized: such a network can be looked at, not trained.

    Args:
        num_classes: C.
        head: ``v2`` or ``v3plus``.
        backbone: ``resnet101``, or another with bottleneck blocks.
        weights: of the backbone: a file, ``torchvision://resnet101`` (ImageNet V1) or a URL; null starts from random.
        branch: options of `DensityBranch`; None: no branch.
        head_lr: factor on the learning rate of head and branch.
        cache_dir: where downloaded weights are kept.

    Raises:
        ConfigError: for another head or backbone.
        WeightsError: if the weights can't be had or don't fit.
    """

    provides: tuple[str, ...] = ("dense_probs", "class_probs", "image_embedding", "pixel_features", "pixel_error")

    def __init__(
        self,
        num_classes: int,
        head: Head = "v2",
        backbone: Backbone = "resnet101",
        weights: str | None = "torchvision://resnet101",
        branch: Mapping[str, Any] | None = None,
        head_lr: float = 10.0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(num_classes, head_lr=head_lr)
        one_of(*get_args(Head))(head, "segmenter.head")
        one_of(*get_args(Backbone))(backbone, "segmenter.backbone")
        self.backbone = _dilated(backbone)
        if weights:
            self.backbone.load_state_dict(fit(read_weights(weights, cache_dir), self.backbone, weights))
        self.head = V2Head(num_classes) if head == "v2" else V3PlusHead(num_classes)
        self.add_branch(_HIGH, branch)

    def forward(self, images: Tensor) -> SegmenterOutput:
        """Predict for (B, 3, H, W) normalized images."""
        net: Any = self.backbone
        low = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images)))))
        high = net.layer4(net.layer3(net.layer2(low)))
        return SegmenterOutput(self.head(low, high), high)


def _dilated(name: str) -> nn.Module:
    import torchvision
    from torchvision.ops.misc import FrozenBatchNorm2d

    resnet = getattr(torchvision.models, name)(
        replace_stride_with_dilation=[False, True, True], norm_layer=partial(FrozenBatchNorm2d, eps=0.0)
    )
    del resnet.avgpool, resnet.fc
    return resnet


class V2Head(nn.Module):
    """Four dilated 3x3 convolutions, summed; no dropout."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(_HIGH, num_classes, 3, padding=rate, dilation=rate) for rate in _RATES]
        for conv in convs:
            nn.init.normal_(conv.weight, 0, 0.01)
        self.convs = nn.ModuleList(convs)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits at the resolution of ``high``, (B, 2048, h, w); ``low`` is not used."""
        return torch.stack([conv(high) for conv in self.convs]).sum(0)


class V3PlusHead(nn.Module):
    """Atrous pyramid, decoder and shortcut from the first stage; convolutions without bias but the last."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.points = _conv(_HIGH, _WIDTH, 1)
        self.pyramid = nn.ModuleList(_separable(_HIGH, rate) for rate in _RATES[:3])
        self.whole = _conv(_HIGH, _WIDTH, 1)
        self.bottleneck = _conv(5 * _WIDTH, _WIDTH, 3)
        self.shortcut = _conv(_LOW, _SHORTCUT, 1)
        self.decoder = nn.Sequential(
            _separable(_WIDTH + _SHORTCUT), _separable(_WIDTH), nn.Dropout2d(0.1), nn.Conv2d(_WIDTH, num_classes, 1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Return logits at the resolution of ``low``, (B, 256, 2 h, 2 w); ``high`` is (B, 2048, h, w)."""
        whole = self.whole(high.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *high.shape[2:])
        x = self.bottleneck(torch.cat([self.points(high), *(branch(high) for branch in self.pyramid), whole], 1))
        return self.decoder(torch.cat([upsample(x, low.shape[2:]).to(low.dtype), self.shortcut(low)], 1))


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.ReLU(inplace=True))


def _separable(inputs: int, rate: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=rate, dilation=rate, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.ReLU(inplace=True), *_conv(inputs, _WIDTH, 1))
