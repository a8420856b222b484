"""Mixture density heads (PM): class logits and box deltas as mixtures of K components with variances."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from al_lab.acquisition.boxes.mixture import log_mixed, mixed
from al_lab.core.fields import at_least
from al_lab.models.detectors.branches.branch import AnchorLayers, Branch, Maps, Site
from al_lab.models.detectors.head import HeadOutput

CLASS, BOX = "mixture_class", "mixture_box"


class Mixture(NamedTuple):
    """Components of some anchors; those of weights sum to 1.

    Attributes:
        class_weight: pi, (…, K).
        class_mean: mu, logits, (…, K, Q), column 0 background.
        class_variance: v in (0, 1), (…, K, Q).
        box_weight: pi of each coordinate, (…, 4, K).
        box_mean: mu, (…, 4, K).
        box_variance: v in (0, 1), (…, 4, K).
    """

    class_weight: Tensor
    class_mean: Tensor
    class_variance: Tensor
    box_weight: Tensor
    box_mean: Tensor
    box_variance: Tensor


class MixtureBranch(Branch):
    """Takes the place of the class and box layers.

    Choi et al., "Active Learning for Deep Object Detection via Probabilistic Modeling", ICCV 2021. Of each anchor: the
    class logits' K means, variances and weights; of each coordinate the same. What is decoded are the mixture's own
    probabilities and means: ``logits`` are the logarithm of the former, so their softmax are these again.

    One 3x3 convolution a level gives what the released code's 24 give. Only the first component's means begin with
    Xavier's weights, the others with PyTorch's: that is what tells components apart. With RetinaNet's heads, of which
    the paper has none, classes and boxes have towers of their own, and background is a class as in SSD.

    Args:
        site: of the network.
        components: K.
    """

    replaces = True
    trained_by = "mixture_density"
    activation = "softmax"

    def __init__(self, site: Site, components: int = 4) -> None:
        super().__init__(site)
        self.components = at_least(1)(components, "detector.branches.mixture.components")
        self.columns = site.num_classes + 1
        k, q = self.components, self.columns
        self.class_layers = AnchorLayers(site, k + 2 * k * q)
        self.box_layers = AnchorLayers(site, 3 * k * 4)
        for layers, first in ((self.class_layers, slice(k, k + q)), (self.box_layers, slice(4 * k, 4 * k + 4))):
            for layer, per_cell in zip(layers.last, site.per_cell, strict=False):
                assert isinstance(layer, nn.Conv2d)
                _begin(layer, per_cell, first)

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """See `Branch.forward`."""
        extra = {**head.extra, CLASS: self.class_layers(maps.levels), BOX: self.box_layers(maps.levels)}
        seen = self.read(extra)
        logits = log_mixed(seen.class_weight, seen.class_mean)
        return head._replace(logits=logits, deltas=mixed(seen.box_weight, seen.box_mean), extra=extra)

    def read(self, extra: Mapping[str, Tensor], at: tuple[Tensor, ...] = ()) -> Mixture:
        """Return the components of all anchors (B, P, …), or of those with these indices (N, …), in float32.

        Args:
            extra: of a `HeadOutput`.
            at: image and anchor, (N,) each.
        """
        k = self.components
        classes, boxes = (values[at] if at else values for values in (extra[CLASS].float(), extra[BOX].float()))
        weight, mean, variance = classes.split([k, k * self.columns, k * self.columns], dim=-1)
        shape = (*weight.shape[:-1], k, self.columns)
        box_weight, box_mean, box_variance = (
            values.unflatten(-1, (k, 4)).transpose(-1, -2) for values in boxes.chunk(3, dim=-1)
        )
        return Mixture(
            weight.softmax(-1),
            mean.reshape(shape),
            variance.reshape(shape).sigmoid(),
            box_weight.softmax(-1),
            box_mean,
            box_variance.sigmoid(),
        )


def _begin(layer: nn.Conv2d, per_cell: int, first: slice) -> None:
    """Give a layer its initial weights: Xavier's to the first component's means of each of a cell's anchors."""
    layer.reset_parameters()
    assert layer.bias is not None
    weight_AW, bias_AW = (values.detach().unflatten(0, (per_cell, -1)) for values in (layer.weight, layer.bias))
    means = torch.empty_like(weight_AW[:, first]).flatten(0, 1)
    nn.init.xavier_uniform_(means)
    weight_AW[:, first] = means.unflatten(0, (per_cell, -1))
    bias_AW[:, first] = 0.0
