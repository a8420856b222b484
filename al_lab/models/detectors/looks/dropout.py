"""Dropout as a detector's option: on in training, and drawn once for a whole pass over images."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.core.fields import below_one, check_fields
from al_lab.core.rng import Rng
from al_lab.data.device import sent

#: Per place, the layers that are followed by dropout, each with its number of channels.
Places = Mapping[str, Sequence[tuple[nn.Module, int]]]


@dataclass(frozen=True)
class Dropout:
    """The option ``detector.dropout``.

    Attributes:
        p: probability that a channel is dropped, in [0, 1).
        where: a place that the network names; None: its first one.
    """

    p: float = 0.1
    where: str | None = None

    def __post_init__(self) -> None:
        check_fields(vars(self), {"p": below_one}, "detector.dropout")


class DropChannels(nn.Module):
    """Dropout of whole channels behind a layer.

    In training each image has its own draw (torch's generator). In evaluation nothing is dropped, unless `one_draw`
    says which channels are: then the same ones in every image and at every place of it, which is one network out of
    those that dropout trains. A draw for single places (as in plain dropout) would depend on the size that a batch is
    padded to.

    Args:
        p: probability that a channel is dropped.
        channels: of the layer.
    """

    def __init__(self, p: float, channels: int) -> None:
        super().__init__()
        self.p, self.channels = float(p), int(channels)
        self.factor: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop channels of (B, C, H, W); what is left is scaled so that the expectation stays."""
        if self.training:
            return functional.dropout2d(x, self.p)
        return x if self.factor is None else x * self.factor.to(x.dtype)[:, None, None]

    def behind(self, _layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """Drop from a layer's output: a forward hook, which a copy of the network takes along."""
        dropped: Tensor = self(output)
        return dropped

    def extra_repr(self) -> str:
        """Return the probability and the number of channels."""
        return f"p={self.p}, channels={self.channels}"


def place(option: Dropout | Mapping[str, Any] | None, places: Places, network: str) -> nn.ModuleList:
    """Put dropout behind the layers of one place; the names of weights stay as they are.

    Args:
        option: of the configuration; None: no dropout.
        places: where this network can have it, the usual place first; empty: nowhere.
        network: its name, for errors.

    Returns:
        The dropouts, none if there is no option; a network keeps them as a child.

    Raises:
        ConfigError: if the network has no such place.
    """
    if option is None:
        return nn.ModuleList()
    chosen = option if isinstance(option, Dropout) else Dropout(**option)
    where = next(iter(places), None) if chosen.where is None else chosen.where
    if where not in places:
        known = tuple(places)
        raise ConfigError(
            explain(
                expected=" | ".join(known) or "a network that knows where its dropout sits",
                got=repr(where) if known else network,
                where="detector.dropout",
                do=did_you_mean(str(where), known) if known else "choose tiny, squeeze, an SSD on VGG or a RetinaNet",
            )
        )
    drops = nn.ModuleList()
    for layer, channels in places[str(where)]:
        drop = DropChannels(chosen.p, channels)
        layer.register_forward_hook(drop.behind)
        drops.append(drop)
    return drops


@contextmanager
def one_draw(network: nn.Module, rng: Rng) -> Iterator[None]:
    """Drop the same channels from every image while the block runs.

    The draw follows from ``rng`` and the layers' order alone: not from images, batches, sizes or devices.

    Args:
        network: in evaluation.
        rng: of this pass.
    """
    drops = [m for m in network.modules() if isinstance(m, DropChannels)]
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    for number, drop in enumerate(drops):
        kept = rng.generator(number).random(drop.channels) >= drop.p
        drop.factor = sent(torch.from_numpy(kept).float() / (1 - drop.p), device)
    try:
        yield
    finally:
        for drop in drops:
            drop.factor = None
