"""Points 7 and 8: suppression by numbers of boxes, and greedy selections on the device against one core."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision

from al_lab.acquisition.density_greedy import density_greedy
from al_lab.acquisition.gradient_embedding import GradientEmbeddings, k_means_pp
from al_lab.acquisition.k_center import k_center
from al_lab.benchmarks.badge import FIRST_PICKS, structureless
from al_lab.benchmarks.density_greedy import NATIVE, tensor_loop
from al_lab.benchmarks.gpu.setup import Seen, Setup

_BOXES = (20_000, 128_000, 512_000)
_IMAGES = 32
_PIXELS, _PICKS, _DIM = 72_100, 3605, 64  # of a Cityscapes image at 2.2 %
_POOL, _BATCH, _WIDTH = 16_551, 1000, 256  # of VOC


def suppression(setup: Setup) -> Seen:
    """Time one call over all images' boxes, as mmdet and earlier versions have it, and one call an image."""
    for num in (2_000,) if setup.smoke else _BOXES:
        generator = torch.Generator().manual_seed(0)
        corners, size = torch.rand(num, 2, generator=generator), 0.02 + 0.2 * torch.rand(num, 2, generator=generator)
        boxes = torch.cat([corners, corners + size], 1).double().to(setup.device)
        confidence = torch.rand(num, generator=generator).double().to(setup.device)
        image = (torch.arange(num, device=setup.device) * _IMAGES) // num
        apart = boxes + 2.0 * image[:, None]
        for name, call in (
            ("one call", lambda: torchvision.ops.nms(apart, confidence, 0.45)),  # noqa: B023 - called at once
            (
                f"{_IMAGES} calls",
                lambda: [
                    torchvision.ops.nms(b, c, 0.45)
                    for b, c in zip(boxes.chunk(_IMAGES), confidence.chunk(_IMAGES), strict=True)  # noqa: B023
                ],
            ),
        ):
            yield f"{num:,} boxes of {_IMAGES} images, {name}", _timed(setup, call)


def selections(setup: Setup) -> Seen:
    """Compare ours on one core with the plain loop on the device, on features without any structure.

    k-center runs on the CPU whatever the device: the ratio to the plain loop there says what it could win. Density
    greedy and BADGE pick where the features are.
    """
    scale = 100 if setup.smoke else 1
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_PIXELS // scale, _DIM), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    density, budget = np.exp(2.4 - 4 * rng.random(len(x))), _PICKS // scale
    density_greedy(x[:100], density[:100], 5)  # compiles
    yield from _against_loop(
        setup, "density greedy", x, density, budget, lambda: density_greedy(x, density, budget, first=0).order
    )
    core_s, core = _once(setup, lambda: density_greedy(x, density, budget, first=0))
    there = torch.from_numpy(x).to(setup.device)
    density_greedy(there, density, 3, first=0)
    device_s, found = _once(setup, lambda: density_greedy(there, density, budget, first=0))
    same = "the same picks" if core.order.tolist() == found.order.tolist() else "picks differ"
    yield (
        f"density greedy where the features are, {len(x):,} x {_DIM}, {budget:,} picks",
        f"one core {core_s:.2f} s, {setup.device} {device_s:.2f} s: {core_s / device_s:.2f}x; {same}",
    )
    pool = rng.standard_normal((_POOL // scale, _WIDTH), dtype=np.float32)
    picks = _BATCH // scale
    yield from _against_loop(
        setup, "k-center", pool, np.ones(len(pool)), picks, lambda: k_center(pool, picks, first=0).order
    )

    yield from _draws(setup, NATIVE[2] * NATIVE[3] // scale)


def _draws(setup: Setup, num: int) -> Seen:
    """Draw as BADGE does, on one core and on the device."""
    probs, features = structureless(num)
    found, seconds = [], []
    for device in ("cpu", setup.device):
        points = GradientEmbeddings(probs.to(device), features.to(device))
        k_means_pp(points, 3, np.random.default_rng(0))
        taken, seeds = _once(setup, lambda: k_means_pp(points, FIRST_PICKS, np.random.default_rng(0)))  # noqa: B023
        found.append(seeds.order.tolist())
        seconds.append(taken)
    same = "the same picks" if found[0] == found[1] else "picks differ"
    core_s, device_s = seconds
    what = f"BADGE, {num:,} x ({probs.shape[1]} + {features.shape[1]}), {FIRST_PICKS} picks without any structure"
    yield what, f"one core {core_s:.2f} s, {setup.device} {device_s:.2f} s: {core_s / device_s:.2f}x; {same}"


def _once(setup: Setup, function: Callable[[], Any]) -> tuple[float, Any]:
    setup.wait()
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def _against_loop(
    setup: Setup, name: str, x: np.ndarray, density: np.ndarray, budget: int, ours: Callable[[], np.ndarray]
) -> Seen:
    begun = time.perf_counter()
    order = ours().tolist()
    core_s = time.perf_counter() - begun
    x_ND = torch.from_numpy(x).to(setup.device)
    inverse = torch.from_numpy(1 / density).to(x_ND)
    tensor_loop(x_ND, inverse, 3)
    setup.wait()
    begun = time.perf_counter()
    picks = tensor_loop(x_ND, inverse, budget)
    loop_s = time.perf_counter() - begun
    first = next((n for n, (a, b) in enumerate(zip(order, picks, strict=True)) if a != b), None)
    same = "the same picks" if first is None else f"picks differ from pick {first:,} of {budget:,}"
    what = f"{name}, {len(x):,} x {x.shape[1]}, {budget:,} picks"
    yield what, f"one core {core_s:.2f} s, loop on {setup.device} {loop_s:.2f} s: {core_s / loop_s:.2f}x; {same}"


def _timed(setup: Setup, call: Callable[[], Any]) -> str:
    """Return time and memory of the second of two calls; an error is what was seen, too."""
    try:
        call()
        setup.wait()
        if setup.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        call()
        setup.wait()
        seconds = time.perf_counter() - begun
    except RuntimeError as error:
        return f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:160]}"
    peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if setup.device == "cuda" else ""
    return f"{1e3 * seconds:.1f} ms{peak}"
