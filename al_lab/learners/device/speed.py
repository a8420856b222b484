"""What makes a card fast and changes last digits at most: layout, algorithms, fused kernels; nothing of it on a CPU."""

import contextlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from al_lab.core.errors import ConfigError, explain
from al_lab.learners.device.precision import describe, precision_on
from al_lab.learners.settings import TrainSettings
from al_lab.models.folding import fold_norms

_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Speed:
    """The options of ``runtime.speed``; each changes the last digits of what a card computes, as another card would.

    Attributes:
        channels_last: convolutions' weights lie channels last, as a card's fast kernels want them.
        benchmark: cudnn tries its algorithms once a shape and keeps the fastest; where all images have one size.
        fused: the optimizer updates all weights in one kernel.
        fold_norms: norms that stay as they are become part of the convolution before them, see `fold_norms`.
        compile: torch.compile of the network, on a CPU, too: minutes at the first step, then faster; needs a compiler.
    """

    channels_last: bool = True
    benchmark: bool = True
    fused: bool = True
    fold_norms: bool = True
    compile: bool = False

    def prepare(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Change a network in place for a device, before it is moved there: same parameters, same names.

        Raises:
            ConfigError: if it is to be compiled and there is no compiler.
        """
        if device.type == "cuda":
            if self.fold_norms:
                fold_norms(network)
            if self.channels_last:
                network.to(memory_format=torch.channels_last)
        if self.compile:
            check_compiler(device)
            network.compile()
        return network

    def fuses(self, device: torch.device) -> bool:
        """Whether the optimizer is a fused one."""
        return self.fused and device.type == "cuda"

    @contextlib.contextmanager
    def algorithms(self, device: torch.device, has_one_size: bool) -> Iterator[None]:
        """Let cudnn choose its algorithms by trying them while the block runs, if all images have one size."""
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = self.benchmark and has_one_size if device.type == "cuda" else before
        try:
            with _compiler_errors() if self.compile else contextlib.nullcontext():
                yield
        finally:
            torch.backends.cudnn.benchmark = before

    def sentence(self, settings: TrainSettings, device: torch.device, has_one_size: bool) -> str:
        """Say in one line how a training computes."""
        words = [precision_on(settings.precision, device).removesuffix("-true")]
        if device.type == "cuda":
            words.append(f"float32 products in {'TF32' if settings.tf32 else 'full'}")
            chosen = {
                "channels_last": self.channels_last,
                "cudnn.benchmark": self.benchmark and has_one_size,
                "fused optimizer": self.fused,
                "frozen norms folded": self.fold_norms,
            }
            words += [word for word, is_on in chosen.items() if is_on]
        return f"{describe(device)}: {', '.join([*words, *(['compiled'] if self.compile else [])])}"


def check_compiler(device: torch.device | None = None) -> None:
    """Refuse ``runtime.speed.compile`` on a machine that can't.

    Args:
        device: of the training; None: not known yet.

    Raises:
        ConfigError: naming what is missing.
    """
    missing = None
    if not any(map(shutil.which, [os.environ.get("CXX", ""), *_COMPILERS])):
        missing = f"none of {', '.join(_COMPILERS)} on PATH"
    elif not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing = "no Python.h (the package python3-dev)"
    elif device is not None and device.type == "cuda" and importlib.util.find_spec("triton") is None:
        missing = "no triton (it comes with torch's CUDA build for Linux)"
    if missing:
        raise ConfigError(
            explain(
                expected="a C++ compiler and what it needs, for torch.compile",
                got=missing,
                where="runtime.speed.compile=true",
                do="install it, or use runtime.speed.compile=false: the results are the same up to the last digits",
            )
        )


@contextlib.contextmanager
def _compiler_errors() -> Iterator[None]:
    """Say in one sentence what torch.compile could not do."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            explain(
                expected="a network that torch.compile understands",
                got=reason[:300],
                where="runtime.speed.compile=true",
                do="use runtime.speed.compile=false: the results are the same up to the last digits",
            )
        ) from error


def optimizer_of(
    groups: list[dict[str, Any]], settings: TrainSettings, lr: float, is_fused: bool
) -> torch.optim.Optimizer:
    """Build a recipe's optimizer."""
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD if settings.optimizer == "sgd" else torch.optim.AdamW
    own: dict[str, Any] = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    fused = {"fused": True} if is_fused else {}
    return _unscaled_by_others(make(groups, lr=lr, weight_decay=settings.weight_decay, **own, **fused))


def adam_of(groups: list[dict[str, Any]], lr: float, is_fused: bool) -> torch.optim.Optimizer:
    """Build the optimizer of an objective's second network; groups have their own ``betas``."""
    return _unscaled_by_others(torch.optim.Adam(groups, lr=lr, fused=is_fused or None))


def _unscaled_by_others(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    # It may unscale float16's gradients itself, and then Lightning can't clip them; the scaler does it instead.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer the state that another one saved, which may have run on another device or not fused."""
    fused = [group.get("fused") for group in optimizer.param_groups]
    saved = [{**group, "fused": own} for group, own in zip(state["param_groups"], fused, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": saved})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.dim() == 4:
                # one kernel for all weights wants a number's companions laid out as itself
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
