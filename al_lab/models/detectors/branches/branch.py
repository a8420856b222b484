"""What a head beside a detector's own looks like, and what it knows of its network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from al_lab.models.detectors.head import HeadOutput, flatten_maps
from al_lab.models.detectors.settings import Activation

_NORMAL, _PRIOR = 0.01, 0.01  # RetinaNet's initial weights, and the probability its class layers begin with


@dataclass(frozen=True)
class Site:
    """What a branch has to know of the network it belongs to.

    Attributes:
        num_classes: C.
        num_logits: K, of the network's class distribution.
        activation: softmax | sigmoid.
        widths: channels of each level's map.
        per_cell: anchors of a cell, level by level.
        tower: layers that the levels share before the last one (RetinaNet); 0: each level has one of its own (SSD).
    """

    num_classes: int
    num_logits: int
    activation: Activation
    widths: tuple[int, ...]
    per_cell: tuple[int, ...]
    tower: int = 0


class Maps(NamedTuple):
    """Feature maps of B images.

    Attributes:
        levels: (B, E, h, w) of each level, as the network's head sees them.
        unscaled: the same where the neck scales none; SSD's conv4_3 as it is before its L2Norm. Empty: ``levels``.
    """

    levels: Sequence[Tensor]
    unscaled: Sequence[Tensor] = ()


class Branch(nn.Module):
    """A head beside the network's own.

    It is built from the network's configuration, so a checkpoint that has it loads without the objective that trained
    it. What it says goes into `HeadOutput.extra`, or takes the place of logits and deltas.

    Args:
        site: what it has to know of the network. A subclass has options besides, each with a default.

    Attributes:
        replaces: logits and deltas are its own: the network's class and box layers are left out.
        activation: of the class distribution of a network that has it; None: what it is without.
        trained_by: the objective that trains it, by its option's name, which is its module's; empty: any, or none.
        valid: (B, 2), height and width of each image as a fraction of its padded input; None: nothing is padded. The
            network says it of each batch, see `AnchorDetector.knowing_padding`.
    """

    replaces: ClassVar[bool] = False
    trained_by: ClassVar[str] = ""
    activation: Activation | None = None
    valid: Tensor | None

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.valid = None

    def forward(self, head: HeadOutput, maps: Maps) -> HeadOutput:
        """Return what the head said, with what the branch says."""
        raise NotImplementedError

    def steady(self) -> list[nn.Parameter]:
        """Return those of its parameters whose learning rate neither warms up nor drops; by default none."""
        return []


def means_of_images(maps: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B, E): the means of maps (B, E, h, w) over the cells whose centers lie in each image.

    Args:
        maps: of padded inputs.
        valid: see `Branch`; the first cell always counts.
    """
    if valid is None:
        return maps.mean(dim=(2, 3))
    inside = [(torch.arange(n, device=maps.device) + 0.5) / n < valid[:, k, None] for k, n in enumerate(maps.shape[2:])]
    for part in inside:
        part[:, 0] = True
    counts_BHW = (inside[0][:, :, None] & inside[1][:, None]).to(maps.dtype)
    return (maps * counts_BHW[:, None]).sum((2, 3)) / counts_BHW.sum((1, 2))[:, None]


class AnchorLayers(nn.Module):
    """Numbers of each anchor, by layers like those of the network's class head, but without norms.

    RetinaNet's are ``tower`` 3x3 convolutions with ReLU and one more, shared by the levels, of normal(0, .01) weights;
    SSD's are one 3x3 convolution a level, of Xavier's weights.

    Args:
        site: of the network.
        width: w, numbers of an anchor.
        is_rare: RetinaNet's last bias begins at sigma^-1(.01), as of classes of which an anchor seldom is one.
    """

    def __init__(self, site: Site, width: int, is_rare: bool = False) -> None:
        super().__init__()
        self.width = width
        self.tower = nn.Sequential()
        for _ in range(site.tower):
            self.tower.extend([nn.Conv2d(site.widths[0], site.widths[0], 3, padding=1), nn.ReLU()])
        sizes = list(zip(site.widths, site.per_cell, strict=True))[: 1 if site.tower else None]
        self.last = nn.ModuleList(nn.Conv2d(channels, n * width, 3, padding=1) for channels, n in sizes)
        for layer in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            if site.tower:
                nn.init.normal_(layer.weight, std=_NORMAL)
            else:
                nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        if site.tower and is_rare:
            bias = self.last[0].bias
            assert isinstance(bias, Tensor)
            nn.init.constant_(bias, -math.log((1 - _PRIOR) / _PRIOR))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return (B, P, w)."""
        layers = list(self.last) * (len(levels) if len(self.tower) else 1)
        maps = [layer(self.tower(level)) for layer, level in zip(layers, levels, strict=True)]
        return flatten_maps(maps, self.width)
