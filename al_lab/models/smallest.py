"""An input whose feature maps get too small for a network is refused when the network is built, with what it needs."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from al_lab.core.errors import ConfigError, explain

_STEP, _MOST = 32, 2048  # sizes that are tried, in pixels
#: What torch says -> what it means: of places to choose from, of convolutions and poolings.
_SAID = {
    "not in range": "whose maps have fewer places than the network has queries",
    "Kernel size can't be greater": "whose maps get smaller than a convolution",
    "Output size is too small": "whose maps vanish",
}


class TooFewPlacesError(RuntimeError):
    """Feature maps have fewer places than the network wants to choose."""


def ghost(module: nn.Module) -> Any:
    """Return a copy that computes shapes only; no number is copied."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) for p in module.parameters()
    }
    memo |= {id(b): b.detach().to("meta") for b in module.buffers()}
    return copy.deepcopy(module, memo).eval()


def check_input(run: Callable[[Tensor], Any], hw: tuple[int, int], do: str = "") -> None:
    """Refuse an input that ``run`` can't take for its size.

    Args:
        run: of a `ghost`; gets images (1, 3, h, w) without numbers.
        hw: the input's size in pixels.
        do: what else helps, such as fewer queries.

    Raises:
        ConfigError: with the smallest square that it can take.
    """
    said = _refused(run, hw)
    if said is None:
        return
    low, high = 0, _MOST // _STEP  # low is too small, high is believed to be enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _refused(run, (middle * _STEP,) * 2) is None else (middle, high)
    side = high * _STEP
    raise ConfigError(
        explain(
            expected=f"an input that this network's maps can live on, such as {side} x {side} pixels",
            got=f"{hw[0]} x {hw[1]}, {said}",
            where="detector.input_hw",
            do=f"give at least detector.input_hw=[{side},{side}]{do}",
        )
    )


@contextmanager
def explained(run: Callable[[], Callable[[Tensor], Any]], images: Tensor, do: str = "") -> Iterator[None]:
    """Say what torch raises for a batch that is too small: with ``keep_ratio`` a long, narrow image makes one.

    Args:
        run: returns what `check_input` asks; called only if something was raised.
        images: of the batch, (B, 3, h, w).
        do: see `check_input`.

    Raises:
        ConfigError: instead of the error, where the size is its reason.
    """
    try:
        yield
    except RuntimeError:
        check_input(run(), (int(images.shape[2]), int(images.shape[3])), do)
        raise


@torch.no_grad()
def _refused(run: Callable[[Tensor], Any], hw: tuple[int, int]) -> str | None:
    try:
        run(torch.empty(1, 3, *hw, device="meta"))
    except TooFewPlacesError as error:
        return str(error)
    except RuntimeError as error:  # what shapes alone can't tell raises, too, and is none of these
        return next((words for key, words in _SAID.items() if key in str(error)), None)
    return None
